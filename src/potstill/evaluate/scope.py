"""Scope: whether a model refuses what no label fits, and how much it refuses of what one does."""

import numpy as np

from potstill.metrics import Labels, auc
from potstill.outcomes import Probabilities


def figures(inside: Probabilities, labels: Labels, outside: Probabilities | None, threshold: float) -> dict[str, float]:
    """What a confidence threshold does.

    Args:
        inside: probabilities `[rows, outcomes]` of texts with a label.
        labels: their labels `[rows]`.
        outside: likewise of texts out of scope; none: there are none to measure by.
        threshold: the confidence below which a text is refused.

    Returns:
        `refused`, the share refused of texts with a label, and `accuracy_kept` on the others. With texts out of
        scope also `scope_auroc`, the chance that one of them is less confident than a text with a label (the maximum
        softmax probability as the score: Hendrycks & Gimpel 2017), and of refusing them `scope_recall` and
        `scope_f1`.
    """
    confidence = inside.max(axis=1)
    kept = confidence >= threshold
    right = inside.argmax(axis=1) == labels
    found = {
        "refused": float(1 - kept.mean()),
        "accuracy_kept": float(right[kept].mean()) if kept.any() else float("nan"),
    }
    if outside is None:
        return found
    other = outside.max(axis=1)
    scores, known = np.concatenate([confidence, other]), np.repeat([1.0, 0.0], [len(confidence), len(other)])
    refused = float((other < threshold).sum())
    wrongly = float((~kept).sum())
    return found | {
        "scope_auroc": float(auc(np.ones((1, len(scores))), known, scores)[0]),
        "scope_recall": refused / len(other),
        "scope_f1": 2 * refused / (refused + wrongly + len(other)),
    }

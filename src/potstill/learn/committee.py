"""Several teachers as one: the weighed mean of the probabilities that they give.

Probabilities are averaged, not logits, so that none is heard more because its logits are larger. The weights are
given, or those under which the mean makes the labels of rows that taught no teacher likeliest (stacking:
Smyth & Wolpert 1999).
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from potstill.metrics import Truth
from potstill.outcomes import Floats, Outcome, Part, parts_of, side_by_side

# What no teacher holds for possible still has a logarithm; it is that of the smallest share a float32 softmax tells.
LEAST = 1e-7
STEPS, PRECISION = 500, 1e-6


def mixed(outcome: Outcome, logits: Sequence[npt.NDArray[np.float32]], weights: Floats) -> npt.NDArray[np.float32]:
    """What teachers say together: logits `[rows, outcomes]` whose softmax is their mean. Of one they stay as they are.

    Args:
        outcome: of one task or several.
        logits: of each teacher `[rows, outcomes]`.
        weights: how much each teacher counts in each task `[teachers, tasks]`; they sum to 1 over the teachers.
    """
    if len(logits) == 1:
        return logits[0]
    each = np.stack([side_by_side(outcome, said) for said in logits])
    for part in parts_of(outcome):
        each[:, :, part.columns] *= weights[:, _place(part), None, None]
    together: npt.NDArray[np.float32] = np.log(np.maximum(each.sum(axis=0), LEAST)).astype(np.float32)
    return together


def likeliest(outcome: Outcome, logits: Sequence[npt.NDArray[np.float32]], truth: Truth) -> Floats:
    """The weights `[teachers, tasks]` under which the teachers' mean makes the labels likeliest.

    They are found by expectation maximization (Dempster et al. 1977), which has one summit here: the likelihood is
    concave in them. A task without a label weighs all alike.

    Args:
        outcome: of one task or several.
        logits: of each teacher `[rows, outcomes]`.
        truth: labels of the rows, which taught none of the teachers.
    """
    each = np.stack([side_by_side(outcome, said) for said in logits])
    found = [_weights(each[:, :, part.columns], *_shares(part, truth)) for part in parts_of(outcome)]
    return np.stack(found, axis=1)


def _place(part: Part) -> int:
    return part.place or 0


def _shares(part: Part, truth: Truth) -> tuple[npt.NDArray[np.int64], Floats]:
    """The rows with a label for a task, and how much each of its outcomes counts `[those rows, outcomes]`."""
    rows, told = truth.of(part)
    targets = part.outcome.targets(told.values).astype(np.float64)
    return rows, targets if told.weights is None else targets * told.weights[:, None]


def _weights(probabilities: Floats, rows: npt.NDArray[np.int64], shares: Floats) -> Floats:
    """Weights `[teachers]` from probabilities `[teachers, rows, outcomes]`."""
    given = np.maximum(probabilities[:, rows], LEAST)
    weights: Floats = np.full(len(given), 1 / len(given))
    if not shares.sum():
        return weights
    for _ in range(STEPS):
        joint = weights[:, None, None] * given
        before, weights = weights, (shares * joint / joint.sum(axis=0)).sum(axis=(1, 2)) / shares.sum()
        if np.abs(weights - before).max() < PRECISION:
            break
    return weights

"""Fidelity: how much of the teacher a model answers like."""

from typing import Any

import numpy as np
import numpy.typing as npt

Probabilities = npt.NDArray[np.floating[Any]]
# Keeps the logarithm finite where a model is certain.
TINY = 1e-12


def agreement(first: Probabilities, second: Probabilities) -> float:
    """Share of rows on which two models `[rows, outcomes]` give the same answer."""
    return float((first.argmax(axis=1) == second.argmax(axis=1)).mean())


def flips(before: Probabilities, after: Probabilities) -> float:
    """Share of rows whose answer changes, as from float to int8."""
    # Counted by itself: 1 − 0.97 is not 0.03 in floating point, and a budget of exactly 3 % must hold.
    return float((before.argmax(axis=1) != after.argmax(axis=1)).mean())


def kl_divergence(teacher: Probabilities, student: Probabilities) -> float:
    """Mean KL(teacher ‖ student) over rows, in nats, at temperature 1 (Kullback & Leibler 1951)."""
    target, found = (np.clip(p.astype(np.float64), TINY, 1) for p in (teacher, student))
    return float((target * np.log(target / found)).sum(axis=1).mean())


def softmax(logits: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.float64]:
    """Probabilities `[rows, outcomes]` of logits."""
    exponentials = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    probabilities: npt.NDArray[np.float64] = exponentials / exponentials.sum(axis=1, keepdims=True)
    return probabilities

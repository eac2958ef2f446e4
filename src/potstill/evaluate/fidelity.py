"""Fidelity: how much of the teacher a model answers like."""

import numpy as np

from potstill.outcomes import Outcome, Probabilities

# Keeps the logarithm finite where a model is certain.
TINY = 1e-12


def agreement(outcome: Outcome, teacher: Probabilities, model: Probabilities) -> float:
    """Share of rows `[rows, outcomes]` on which a model gives the teacher's answer, as the outcome understands it."""
    return float(outcome.same(teacher, model).mean())


def flips(outcome: Outcome, before: Probabilities, after: Probabilities) -> float:
    """Share of rows whose answer changes, as from float to int8."""
    # Counted by itself: 1 − 0.97 is not 0.03 in floating point, and a budget of exactly 3 % must hold.
    return float((~outcome.same(before, after)).mean())


def kl_divergence(teacher: Probabilities, student: Probabilities) -> float:
    """Mean KL(teacher ‖ student) over rows, in nats (Kullback & Leibler 1951)."""
    target, found = (np.clip(p.astype(np.float64), TINY, 1) for p in (teacher, student))
    return float((target * np.log(target / found)).sum(axis=1).mean())

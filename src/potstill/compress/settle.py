"""Settle: what a packed model takes from rows that it hasn't learnt from: its temperatures and what it refuses."""

from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy.optimize import brentq

from potstill.compress.card import write_card
from potstill.data.dataset import Rows
from potstill.edge import EdgeModel
from potstill.metrics import Truth
from potstill.outcomes import (
    Classification,
    Floats,
    Outcome,
    Part,
    Probabilities,
    Single,
    Value,
    parts_of,
    refusing,
    side_by_side,
    softmax,
    with_each,
)

# Families that have a temperature to find.
TEMPERED = (Classification, Value)
# Wide enough for any model that has learnt something; a fit beyond says more of the rows than of the model.
LOWEST, HIGHEST = 0.5, 4.0
# Fewer rows would make an honest model worse as often as better.
FEWEST_ROWS = 200


def settle(folder: Path, validation: Rows) -> Outcome:
    """Complete a card with this very model's temperatures and refusal thresholds; return its outcome.

    Args:
        folder: of the packed model.
        validation: rows that it hasn't learnt from.
    """
    model = EdgeModel(folder)
    if not any(isinstance(part.outcome, TEMPERED) for part in parts_of(model.outcome)):
        return model.outcome
    logits = model.logits(validation.records(model.text_columns[0]))
    outcome = tempered(model.outcome, logits, validation.truth)
    outcome = refusing(outcome, side_by_side(outcome, logits), validation.value)
    write_card(folder, model.card | {"outcome": outcome.spec()})
    return outcome


def tempered(outcome: Outcome, logits: Probabilities, truth: Truth) -> Outcome:
    """The outcome with the temperature of each task, from logits `[rows, outcomes]` of labelled rows.

    The order of outcomes stays as it is; how sure the model is becomes what it may be (Guo et al. 2017). Rates,
    retrievals and tasks with fewer than 200 labels keep theirs.
    """

    def settled(part: Part) -> Single:
        rows, told = truth.of(part)
        if not isinstance(part.outcome, TEMPERED) or len(told) < FEWEST_ROWS:
            return part.outcome
        targets, weights = part.outcome.targets(told.values), told.weights
        return replace(part.outcome, temperature=temperature(logits[rows][:, part.columns], targets, weights))

    return with_each(outcome, settled)


def temperature(logits: Probabilities, targets: Probabilities, weights: Floats | None) -> float:
    """The temperature of least mean cross-entropy, from logits and targets, both `[rows, outcomes]`.

    The cross-entropy is convex in 1 / T, so its slope has at most one zero.
    """
    own = logits.astype(np.float64)

    def slope(inverse: float) -> float:
        return float(np.average(((softmax(own * inverse) - targets) * own).sum(axis=1), weights=weights))

    sharpest, softest = 1 / LOWEST, 1 / HIGHEST
    if slope(sharpest) <= 0:
        return LOWEST
    return HIGHEST if slope(softest) >= 0 else 1 / float(brentq(slope, softest, sharpest))

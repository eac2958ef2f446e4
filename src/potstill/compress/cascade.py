"""Cascade: a smaller model answers what it is sure of, and the larger one the rest.

The model's own confidence decides, as in Li et al. 2021 (CascadeBERT); the threshold is calibrated on validation rows.
"""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np

from potstill.compress.card import read_card, write_card
from potstill.data.dataset import Rows
from potstill.edge import FIRST, SURE_FROM, EdgeModel
from potstill.outcomes import Outcome, Probabilities, confidence, refusing, unsure

# Thresholds that are looked at: those that let so many shares of the rows pass.
STEPS = 200
ROUNDS = 20


def cascade(first: Path, second: Path, folder: Path, sure_from: float, validation: Rows) -> Outcome:
    """Make one edge folder of two; its refusal thresholds are those of both together. Return its outcome.

    Args:
        first: folder of the smaller model.
        second: folder of the larger one, of the same tasks.
        folder: to make.
        sure_from: confidence from which on the smaller one's answer stands.
        validation: rows that neither has learnt from.
    """
    shutil.copytree(second, folder)
    shutil.copytree(first, folder / FIRST)
    model = EdgeModel(second)
    records = validation.records(model.text_columns[0])
    outcome = _refusing(
        model.outcome, EdgeModel(first).probabilities(records), model.probabilities(records), sure_from, validation
    )
    write_card(folder, read_card(folder) | {SURE_FROM: sure_from, "outcome": outcome.spec()})
    return outcome


def _refusing(
    outcome: Outcome, first: Probabilities, second: Probabilities, sure_from: float, validation: Rows
) -> Outcome:
    """The outcome with thresholds that refuse, of what both answer together, the share that may be refused.

    What the smaller one would refuse goes on to the larger one, so thresholds decide who answers, and that decides
    them: a few rounds settle it.
    """
    for _ in range(ROUNDS):
        mixed = np.where(unsure(outcome, first, sure_from)[:, None], second, first)
        settled = refusing(outcome, mixed, validation.value)
        if settled == outcome:
            break
        outcome = settled
    return outcome


def least_sure(
    outcome: Outcome, first: Probabilities, second: Probabilities, may: Callable[[Probabilities], bool]
) -> float:
    """The confidence from which on the smaller model's answers may stand.

    The lowest for which it and all higher ones are allowed: what holds by luck at one place only is not taken.

    Args:
        outcome: what both predict.
        first: the smaller model's probabilities `[rows, outcomes]`.
        second: the larger one's.
        may: whether answers of both together, so mixed, are good enough.
    """
    sure = confidence(outcome, first)
    # Of a few rows or of many alike, some are the same.
    thresholds = np.unique(np.quantile(sure, np.linspace(0, 1, STEPS + 1), method="higher"))[::-1]
    lowest = float(np.nextafter(thresholds[0], np.inf))
    for threshold in thresholds:
        if not may(np.where((sure >= threshold)[:, None], first, second)):
            break
        lowest = float(threshold)
    return lowest

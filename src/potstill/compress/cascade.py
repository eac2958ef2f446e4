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
from potstill.outcomes import Outcome, Probabilities, confidence, refusing

# Thresholds that are looked at: those that let so many shares of the rows pass.
STEPS = 200


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
    card = read_card(folder) | {SURE_FROM: sure_from}
    write_card(folder, card)
    model = EdgeModel(folder)
    answers = model.probabilities(validation.records(model.text_columns[0]))
    outcome = refusing(model.outcome, answers, validation.value)
    write_card(folder, card | {"outcome": outcome.spec()})
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

"""Quality: how good answers are where the rows bring their labels, with the interval of a bootstrap."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from potstill.evaluate.quality import interval, resample
from potstill.inputs import name_of, number
from potstill.metrics import Truth, meanings_of, metrics_of, primary
from potstill.outcomes import Classification, Floats, Outcome, Part, Probabilities, Together, Value, fits, parts_of

# With fewer rows a bootstrap's interval says too little of what might have come.
FEWEST_ROWS = 50
RESAMPLES, SEED = 500, 7


@dataclass(frozen=True)
class Quality:
    """A model's deciding figure on labelled rows.

    Attributes:
        metric: its name.
        value: on all rows.
        low: end of the 95 % interval.
        high: the other end.
        rows: how many have a label.
    """

    metric: str
    value: float
    low: float
    high: float
    rows: int

    @classmethod
    def measure(cls, outcome: Outcome, truth: Truth, probabilities: Probabilities) -> "Quality":
        """From labels and probabilities `[rows, outcomes]`."""
        name = primary(outcome)
        metric = metrics_of(outcome, truth, probabilities)[name]
        found = interval(resample({"edge": {name: metric}}, truth, RESAMPLES, SEED)["edge"][name])
        return cls(name, found.value, found.low, found.high, len(truth))


@dataclass(frozen=True)
class Change:
    """The quality before and now.

    Attributes:
        title: of the metric.
        before: on rows of the training data that the model hasn't learnt from.
        now: on the window's.
        fell: whether even the ends of both intervals that are nearest to each other are worse now.
    """

    title: str
    before: Quality
    now: Quality
    fell: bool


def change_of(
    before: Quality,
    outcome: Outcome,
    rows: Sequence[Mapping[str, Any]],
    labels: Sequence[str],
    probabilities: Probabilities,
) -> Change | None:
    """The quality on those rows that have a label, beside that before; none: they are too few.

    Args:
        before: as the model was registered.
        outcome: what it predicts.
        rows: column → value.
        labels: columns of the tasks' labels.
        probabilities: of the rows `[rows, outcomes]`.

    Raises:
        ValueError: a label that is to be a number is none.
    """
    each = [_labels(part, rows, label) for part, label in zip(parts_of(outcome), labels, strict=True)]
    values = np.stack(each, axis=1)
    known = np.flatnonzero(np.isfinite(values).any(axis=1))
    if len(known) < FEWEST_ROWS:
        return None
    truth = Truth(values[known] if isinstance(outcome, Together) else values[known, 0])
    now, meaning = Quality.measure(outcome, truth, probabilities[known]), meanings_of(outcome)[before.metric]
    fell = now.high < before.low if meaning.higher_is_better else now.low > before.high
    return Change(meaning.title, before, now, fell)


def _labels(part: Part, rows: Sequence[Mapping[str, Any]], column: str) -> Floats:
    """A task's labels as its outcome's values `[rows]`, NaN where there is none or none that it knows."""
    told = [row.get(column) for row in rows]
    if isinstance(part.outcome, Classification):
        place = {name: float(i) for i, name in enumerate(part.outcome.names)}
        return np.array([place.get(name_of(label), np.nan) for label in told])
    values = np.array([number(label, column) for label in told])
    return np.where(fits(values, part.outcome.scale), values, np.nan) if isinstance(part.outcome, Value) else values

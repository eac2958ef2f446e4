"""The forecast that a shop makes without a model: the measure of what a teacher gains."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegression

from potstill.data.dataset import Rows, Schema
from potstill.inputs import number
from potstill.outcomes import Floats, Rate, Retrieval, Value, fits, parts_of


def trivial(schema: Schema, train: Rows, validation: Rows, test: Rows) -> Floats:
    """Probabilities `[test rows, outcomes]` of the plain forecast.

    With reference columns their mean is the forecast: as it is for a value, with a spread as wide as its errors on
    the validation rows; through a logistic curve for a rate. Without, it is the training rows' distribution, the same
    for every row. Of a retrieval it is any answer of the catalogue.
    """
    outcome = schema.outcome
    if isinstance(outcome, Retrieval):
        return np.full((len(test), len(outcome)), 1 / len(outcome))
    if schema.reference and isinstance(outcome, Value):
        return forecast(outcome, schema.reference, validation, test)
    if schema.reference and isinstance(outcome, Rate):
        curve = LogisticRegression(C=1e6, max_iter=1000)
        yes, weights = tries(train)
        curve.fit(np.tile(_logarithm(mean_of(schema.reference, train)), (2, 1)), yes, weights)
        found: Floats = curve.predict_proba(_logarithm(mean_of(schema.reference, test)))
        return found
    share = np.average(outcome.targets(train.value), axis=0, weights=train.weight)
    return np.tile(share.astype(np.float64), (len(test), 1))


def of_all_tasks(schema: Schema, train: Rows, validation: Rows, test: Rows) -> Floats:
    """The plain forecasts of all tasks side by side `[test rows, outcomes]`."""
    each = [trivial(schema.of(part), train.of(part), validation.of(part), test) for part in parts_of(schema.outcome)]
    return np.concatenate(each, axis=1)


def forecast(outcome: Value, columns: Sequence[str], validation: Rows, test: Rows) -> Floats:
    """Probabilities `[test rows, outcomes]` around the mean of some columns, as wide as its errors on validation.

    Where that mean is nothing that the scale has, such as a price of zero, the validation rows' median stands for it.
    """
    usual = float(np.median(validation.value))

    def seen(rows: Rows) -> Floats:
        found = mean_of(columns, rows)
        return np.where(fits(found, outcome.scale), found, usual)

    errors = outcome.forward(validation.value) - outcome.forward(seen(validation))
    wide = replace(outcome, smoothing=max(float(np.std(errors)) / outcome.width, outcome.smoothing))
    return wide.targets(seen(test)).astype(np.float64)


def mean_of(columns: Sequence[str], rows: Rows) -> Floats:
    """Mean of some numeric features `[rows]`; one that is missing is left out, and 0 where all are."""
    return np.array([_mean(row, columns) for row in rows.features])


def tries(rows: Rows) -> tuple[Floats, Floats]:
    """Rates as rows of yes, then as many of no: what was, and its weight, both `[2 · rows]`."""
    weights = np.ones(len(rows)) if rows.weight is None else rows.weight / rows.weight.mean()
    was = np.repeat([1.0, 0.0], len(rows))
    return was, np.concatenate([weights * rows.value, weights * (1 - rows.value)])


def _mean(row: Mapping[str, Any], names: Sequence[str]) -> float:
    known = [value for name in names if not np.isnan(value := number(row.get(name), name))]
    return float(np.mean(known)) if known else 0.0


def _logarithm(values: Floats) -> Floats:
    found: Floats = (np.sign(values) * np.log1p(np.abs(values)))[:, None]
    return found

from typing import Any

import numpy as np
import pytest

from potstill.data.dataset import Rows, Schema
from potstill.evaluate.trivial import forecast, mean_of, trivial
from potstill.inputs import Features
from potstill.outcomes import Classification, Outcome, Rate, Value


def schema(outcome: Outcome, *columns: str) -> Schema:
    return Schema("task", outcome, ("text",), ("label",), Features(columns), columns, None, None, {}, {}, "0")


def rows(values: np.ndarray, features: list[dict[str, Any]] | None = None, weight: np.ndarray | None = None) -> Rows:
    count = len(values)
    return Rows([""] * count, [""] * count, values.astype(float), features or [{}] * count, weight)


def test_without_reference_columns_it_is_the_training_rows_distribution():
    train = rows(np.array([0, 0, 1]), weight=np.array([1.0, 1.0, 2.0]))
    found = trivial(schema(Classification(("a", "b"))), train, train, rows(np.array([1, 1])))
    assert found.tolist() == [[0.5, 0.5], [0.5, 0.5]]


def test_the_forecast_of_a_value_is_the_mean_of_its_reference_columns():
    demand = Value.from_values(np.arange(100.0), 64, "count", 0.3)
    train = rows(np.array([3.0, 8.0, 20.0]), [{"lag_1": n, "lag_2": n + 2} for n in (2, 7, 19)])
    test = rows(np.array([0.0, 0.0]), [{"lag_1": 10, "lag_2": 14}, {"lag_1": 0, "lag_2": None}])
    found = trivial(schema(demand, "lag_1", "lag_2"), train, train, test)
    assert mean_of(["lag_1", "lag_2"], test).tolist() == [12, 0]
    assert demand.quantile(found, 0.5) == pytest.approx([12, 0], abs=1)


def test_the_forecast_of_a_rate_rises_with_its_reference_and_is_right_on_the_whole():
    random = np.random.default_rng(0)
    sold = random.integers(0, 50, size=4000)
    bought = (random.random(4000) < 0.02 + 0.01 * sold).astype(float)
    train = rows(bought, [{"sold": int(n)} for n in sold])
    found = trivial(schema(Rate(), "sold"), train, train, train)[:, 1]
    assert found.mean() == pytest.approx(bought.mean(), abs=0.005)
    assert np.corrcoef(found, sold)[0, 1] > 0.9


def test_a_seasonal_forecast_is_as_wide_as_it_was_wrong_on_validation():
    demand = Value.from_values(np.arange(100.0), 64, "count", 0.3)
    test = rows(np.array([0.0]), [{"last": 20}])
    sure, unsure = (
        forecast(demand, ["last"], rows(np.array([20.0, 20.0]), [{"last": 20 + off}, {"last": 20 - off}]), test)
        for off in (0, 15)
    )
    spreads = [float((demand.quantile(found, 0.9) - demand.quantile(found, 0.1))[0]) for found in (sure, unsure)]
    assert spreads[0] < 5 < 20 < spreads[1]
    assert demand.quantile(unsure, 0.5) == pytest.approx([20], abs=1)


def test_a_forecast_that_the_scale_does_not_have_is_the_usual_value():
    price = Value.from_values(np.linspace(5.0, 80.0, 50), 64, "log", 0.75)
    seen = rows(np.array([10.0, 20.0, 40.0]), [{"last": 11}, {"last": None}, {"last": 38}])
    found = forecast(price, ["last"], seen, rows(np.array([1.0, 1.0]), [{"last": 0}, {"last": 30}]))
    assert np.isfinite(found).all()
    assert price.quantile(found, 0.5) == pytest.approx([20, 30], rel=0.05)

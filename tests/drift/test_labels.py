import math

import numpy as np
import pytest

from potstill.drift.quality import Quality, change_of
from potstill.outcomes import Value

# All weight on the first of two bins, so the median is the middle of it: exp(0.5).
OUTCOME = Value(low=0.0, high=2.0, bins=2, scale="log", smoothing=0.75)
BEFORE = Quality("mae_log", 0.1, 0.05, 0.15, 500)


def change(*prices: float | None) -> tuple[float, int, bool] | None:
    rows = [{"price": price} for price in prices]
    found = change_of(BEFORE, OUTCOME, rows, ["price"], np.tile([1.0, 0.0], (len(rows), 1)))
    return found and (found.now.value, found.now.rows, found.fell)


def test_an_error_that_grew_beyond_both_intervals_is_a_fall_and_one_that_shrank_is_none():
    assert change(*[math.exp(1.5)] * 60) == (pytest.approx(1.0), 60, True)
    assert change(*[math.exp(0.5)] * 60) == (pytest.approx(0.0), 60, False)
    assert change(*[math.exp(0.62)] * 60) == (pytest.approx(0.12), 60, False)


def test_labels_that_are_missing_or_that_the_scale_has_not_don_t_count():
    assert change(*[math.exp(0.5)] * 60, None, -1.0, 0.0) == (pytest.approx(0.0), 60, False)
    assert change(*[math.exp(0.5)] * 49, *[None] * 100) is None


def test_a_label_that_is_no_number_is_named():
    with pytest.raises(ValueError, match="price: 'dear' is not a number"):
        change_of(BEFORE, OUTCOME, [{"price": "dear"}], ["price"], np.array([[1.0, 0.0]]))

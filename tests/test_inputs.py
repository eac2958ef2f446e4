import datetime
import math

import numpy as np
import pandas as pd
import pytest

from potstill.inputs import (
    MISSING,
    UNSEEN,
    Category,
    Features,
    date_numbers,
    join_texts,
    learn_category,
    name_of,
    split_pair,
)

FEATURES = Features(("lag",), ("week",), (Category("shop", ("1", "north")),))


def test_no_column_need_be_there():
    found = FEATURES.arrays([{}, {"lag": None, "week": "", "shop": " "}, {"lag": math.nan, "week": pd.NaT}])
    assert np.isnan(found["numeric"]).all()
    assert found["categorical"].tolist() == [[MISSING]] * 3


def test_a_category_is_known_unseen_or_missing_whatever_its_type():
    rows = [{"shop": value} for value in ("north", 1, 1.0, " north ", "south", None)]
    assert FEATURES.arrays(rows)["categorical"].ravel().tolist() == [3, 2, 2, 3, UNSEEN, MISSING]


def test_a_date_lies_on_the_circles_of_day_week_and_year():
    # Monday 1 January 2024, six in the morning: a quarter of the day, a 28th of the week, the year's start.
    found = date_numbers("2024-01-01T06:00", "week")
    assert found == pytest.approx([1, 0, math.sin(math.pi / 14), math.cos(math.pi / 14), 0, 1], abs=1e-12)
    assert date_numbers(datetime.datetime(2024, 1, 1, 6), "week") == found
    assert date_numbers(pd.Timestamp("2024-01-01 06:00"), "week") == found


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"lag": "No rating available"}, "lag: 'No rating available' is not a number"),
        ({"lag": math.inf}, "lag: inf is not finite"),
        ({"lag": "1e39"}, "lag: '1e39' is too large a number"),
        ({"week": "15/03/16"}, "week: '15/03/16' is not a date"),
    ],
)
def test_a_value_that_cannot_be_read_is_named_with_its_column(row: dict[str, object], message: str):
    with pytest.raises(ValueError, match=message):
        FEATURES.arrays([row])


def test_categories_seen_once_and_beyond_the_most_share_a_place():
    assert learn_category("shop", {"b": 2, "a": 5, "once": 1, "": 9}).values == ("a", "b")
    many = learn_category("shop", {f"{i:06}": 2 + (i < 7) for i in range(100_000)})
    assert len(many.values) == 10_000
    assert many.values[:7] == tuple(f"{i:06}" for i in range(7))


def test_texts_that_stand_for_a_missing_value_are_missing_in_every_kind_of_column():
    features = Features(("lag",), ("week",), (Category("shop", ("n/a", "north")),), missing=("n/a", "No rating"))
    rows = [{"lag": " No rating ", "week": "n/a", "shop": "n/a"}, {"lag": "4.5", "week": "2024-01-01", "shop": "north"}]
    found = features.arrays(rows)
    assert np.isnan(found["numeric"][0]).all()
    assert found["numeric"][1, 0] == 4.5
    assert found["categorical"].tolist() == [[MISSING], [3]]
    assert Features.from_spec(features.spec()) == features


@pytest.mark.parametrize(
    ("value", "name"),
    [
        ("1.0", "1"),
        (" -3.00 ", "-3"),
        (np.float32(5), "5"),
        (np.float32(0.5), "0.5"),
        (np.int64(7), "7"),
        ("True", "true"),
        (np.bool_(False), "false"),
        ("1.5", "1.5"),
        ("v1.0", "v1.0"),
        (pd.NA, ""),
        (pd.NaT, ""),
        (np.float32("nan"), ""),
    ],
)
def test_a_name_is_the_same_from_a_csv_a_table_and_a_service(value: object, name: str):
    assert name_of(value) == name


def test_what_pandas_has_for_nothing_is_nothing_in_every_column():
    found = FEATURES.arrays([{"lag": pd.NA, "week": pd.NA, "shop": pd.NA}])
    assert np.isnan(found["numeric"]).all()
    assert found["categorical"].tolist() == [[MISSING]]


def test_a_number_that_stands_for_a_missing_one_does_so_however_it_is_written():
    features = Features(("x",), (), (), missing=("-1",))
    assert np.isnan(
        features.arrays([{"x": value} for value in (-1, -1.0, "-1", "-1.0", np.int64(-1))])["numeric"]
    ).all()
    assert features.arrays([{"x": -2}])["numeric"].tolist() == [[-2.0]]


def test_features_survive_their_spec():
    assert Features.from_spec(FEATURES.spec()) == FEATURES
    assert not Features()


def test_texts_are_joined_without_the_missing_ones():
    assert join_texts([" Nike ", None, "  ", "shoe"]) == "Nike | shoe"


def test_a_pair_keeps_its_second_text_apart_and_a_missing_one_leaves_the_first():
    assert split_pair(join_texts(["a lamp", None, " red "], pair=True)) == ("a lamp", "red")
    assert split_pair(join_texts(["a lamp", "blue", "red"], pair=True)) == ("a lamp | blue", "red")
    assert split_pair(join_texts(["a lamp", "blue", " "], pair=True)) == "a lamp | blue"
    assert split_pair(join_texts(["a lamp", "blue", None], pair=True)) == "a lamp | blue"
    assert split_pair(join_texts(["a lamp", "red"])) == "a lamp | red"


def test_a_pair_without_its_first_text_is_its_second():
    assert join_texts([None, " red "], pair=True) == "red"
    assert split_pair(join_texts([" ", "red"], pair=True)) == "red"
    assert join_texts([None, None], pair=True) == ""

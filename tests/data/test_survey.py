"""What is wrong with a row by itself."""

import pytest
from files import COLUMNS, COUNTED, DATED, GROUPED, RATE, TASK, csv, reasons

from potstill.data.formats import Columns
from potstill.data.split import TRAIN
from potstill.data.survey import survey
from potstill.recipe import Task


def test_rows_without_text_or_label_are_marked_whatever_white_space_they_hold(tmp_path):
    source = csv(tmp_path / "rows.csv", ["good,a", '" \t\u00a0\u3000",a', "x,", ",", "x,  ", "fine,b"])

    found = survey({TRAIN: source}, COLUMNS, [TASK], seed=7)

    assert reasons(found) == ["kept", "empty text", "empty label", "empty text", "empty label", "kept"]
    assert found.counts() == {"empty text": 2, "empty label": 2}
    assert found.names == ("a", "b")


def test_rows_without_a_group_are_marked_when_rows_are_divided_by_it(tmp_path):
    source = csv(tmp_path / "rows.csv", ["good,a,s1", "other,b,"], "text,label,shop")

    assert reasons(survey({TRAIN: source}, GROUPED, [TASK], seed=7)) == ["kept", "empty group"]
    assert reasons(survey({TRAIN: source}, COLUMNS, [TASK], seed=7)) == ["kept", "kept"]


def test_chinese_and_cyrillic_are_words(tmp_path):
    for text in ("很好", "хорошо"):
        assert len(survey({TRAIN: csv(tmp_path / "rows.csv", [f"{text},a"])}, COLUMNS, [TASK], seed=7)) == 1


def test_a_rate_counts_its_tries_and_more_yes_than_tries_is_set_aside(tmp_path):
    rows = ["a,3,10,t1", "b,11,10,t1", "c,-1,10,t1", "d,1,0,t1", "e,1,,t1", "f,many,10,t1", "g,0,10,t1", "h,inf,10,t1"]
    source = csv(tmp_path / "rows.csv", rows, "text,clicks,shown,test")

    found = survey({TRAIN: source}, COUNTED, [RATE], seed=7)

    assert reasons(found) == [
        "kept",
        "label above its tries",
        "label below zero",
        "weight not above zero",
        "weight not above zero",
        "label not a number",
        "kept",
        "label not finite",
    ]


@pytest.mark.parametrize(
    ("scale", "expected"),
    [
        ("count", ["kept", "kept", "label below zero"]),
        ("log", ["kept", "label not above zero", "label not above zero"]),
        ("linear", ["kept", "kept", "kept"]),
    ],
)
def test_each_scale_takes_the_numbers_that_it_can_hold(tmp_path, scale, expected):
    source = csv(tmp_path / "rows.csv", ["a,4", "b,0", "c,-2"])
    columns = Columns(("text",), ("label",), holds=("number",))

    assert reasons(survey({TRAIN: source}, columns, [Task(kind="value", scale=scale)], seed=7)) == expected


def test_a_time_that_can_not_be_read_is_set_aside(tmp_path):
    source = csv(tmp_path / "rows.csv", ["a,x,2026-01-05", "b,y,last week", "c,x,"], "text,label,week")

    found = survey({TRAIN: source}, DATED, [TASK], seed=7)

    assert reasons(found) == ["kept", "time not a date", "time not a date"]

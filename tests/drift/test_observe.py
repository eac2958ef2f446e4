"""Columns of every family of outcomes and of every kind of feature."""

import datetime
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny import write_edge

from potstill.drift.observe import UNSEEN, Scale, answer_columns, carried, input_columns, names_of_columns
from potstill.edge import EdgeModel

FEATURES = {
    "numeric": ["price"],
    "dates": ["day"],
    "categorical": [{"name": "shop", "values": ["east", "west"]}],
    "missing": ["n/a"],
}
VALUE = {"kind": "value", "low": 0.0, "high": 2.0, "bins": 2, "scale": "linear", "smoothing": 0.75}
CLASSES = {"kind": "classification", "names": ["negative", "positive"]}


def opened(folder: Path, **card: Any) -> EdgeModel:
    edge = write_edge(folder / "edge")
    known = json.loads((edge / "card.json").read_text())
    (edge / "card.json").write_text(json.dumps(known | card))
    return EdgeModel(edge)


def test_inputs_are_read_as_the_model_reads_them_and_of_dates_only_whether_they_are_there(tmp_path: Path):
    model = opened(tmp_path, features=FEATURES)
    rows = [
        {"price": "2.5", "day": datetime.date(2026, 1, 1), "shop": "east"},
        {"price": None, "day": "2027-05-05", "shop": "north"},
        {"price": "n/a", "day": None, "shop": ""},
        {},
    ]
    found = input_columns(model, rows)
    assert found["input: price"] == pytest.approx([2.5, math.nan, math.nan, math.nan], nan_ok=True)
    assert found["input: day"] == ["given", "given", None, None]
    assert found["input: shop"] == ["east", UNSEEN, None, None]


def test_categories_have_the_bins_of_the_training_rows_and_one_for_what_is_new(tmp_path: Path):
    model = opened(tmp_path, features=FEATURES)
    names = names_of_columns(model, [{"shop": "west"}, {"shop": "west"}, {"shop": "north"}])
    assert names["input: shop"] == ["west", UNSEEN]
    assert names["answer: label"] == ("negative", "positive")


FAMILIES = {
    "classes": (CLASSES, {"answer: label", "answer: confidence"}),
    "refusing": ({**CLASSES, "threshold": 0.7}, {"answer: label", "answer: confidence", "answer: in_scope"}),
    "rate": ({"kind": "rate", "prior": 0.5}, {"answer: rate"}),
    "value": (VALUE, {"answer: median", "answer: band"}),
    "together": (
        {"kind": "together", "tasks": [["a", {**CLASSES, "names": ["x"]}], ["b", {**CLASSES, "names": ["y"]}]]},
        {f"answer: {task}_{name}" for task in "ab" for name in ("label", "confidence")},
    ),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_answers_that_rows_bring_are_those_of_the_model(tmp_path: Path, family: str):
    outcome, expected = FAMILIES[family]
    model = opened(tmp_path, outcome=outcome)
    rows = [{"review": "good bad bad"}, {"review": "good"}]
    answers = model.answer(rows)
    asked = answer_columns(model, answers)
    assert set(asked) == expected
    assert carried(model, rows) is None
    flat = [
        {f"{task}_{name}": v for task, own in answer.items() for name, v in own.items()}
        if family == "together"
        else answer
        for answer in answers
    ]
    brought = carried(model, [{f"predicted_{name}": v for name, v in answer.items()} for answer in flat])
    assert brought is not None
    for name, values in answer_columns(model, brought).items():
        assert list(values) == list(asked[name])


def test_a_row_without_an_answer_is_missing(tmp_path: Path):
    model = opened(tmp_path)
    rows = [{"predicted_label": "positive", "predicted_confidence": 0.9}, {"predicted_label": None}]
    brought = carried(model, rows)
    assert brought is not None
    found = answer_columns(model, brought)
    assert found["answer: label"] == ["positive", None]
    assert found["answer: confidence"] == pytest.approx([0.9, math.nan], nan_ok=True)


def test_the_distance_is_in_standard_deviations_and_what_never_changes_counts_as_it_is():
    scale = Scale.learn(np.array([[0.0, 5.0], [2.0, 5.0]]))
    assert (scale.centre.tolist(), scale.spread.tolist()) == ([1.0, 5.0], [1.0, 1.0])
    assert scale.distance(np.array([[1.0, 5.0], [4.0, 1.0]])) == pytest.approx([0, math.sqrt((9 + 16) / 2)])

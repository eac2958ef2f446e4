import json
from typing import Any

import made_up
import numpy as np
import pytest
from kfp import dsl

from potstill.evaluate.page import CLASSES_DRAWN, bounded, drawn, figures
from potstill.outcomes import Classification, Rate, Together, Value

CURVE = {"false_positive_rate": [0.0, 1.0], "true_positive_rate": [0.0, 1.0], "threshold": [1.0, 0.5]}
PRICE, CLICK, MOOD = Value(0, 1, 4, "linear", 0.5), Rate(), Classification(("bad", "good"))
MATRIX = {"names": ["bad", "good"], "counts": [[3, 1], [0, 4]]}


def test_the_figures_are_few_and_told_by_the_names_that_mlflow_has():
    found = figures(made_up.summary(3, champion=True))
    assert found == {
        "verdict": "accepted",
        **{f"{model}_macro_f1": told[0] for model, told in made_up.MODELS.items()},
        "champion_macro_f1": 0.922,
        "retention": pytest.approx(0.926 / 0.934),
        "agreement": 0.957,
        "latency_p95_ms": pytest.approx(4.08),
        "size_mb": 11.3,
    }
    assert figures(made_up.summary(3, accepted=False))["verdict"] == "refused"


def test_a_figure_that_is_no_number_is_left_out():
    summary = made_up.summary(3)
    summary["models"]["edge"]["retention"] = None
    assert "retention" not in figures(summary)


def told(outcome: Any, confusion: dict[str, Any], roc: dict[str, Any]) -> Any:
    return {"task": "task", "outcome": outcome.spec(), "confusion": confusion, "roc": roc}


def test_the_first_task_with_classes_or_a_rate_is_drawn():
    several = Together((("price", PRICE), ("click", CLICK), ("mood", MOOD)))
    found = drawn(told(several, {"mood": MATRIX}, {"mood": CURVE, "click": CURVE}))
    assert found
    assert (found.task, found.matrix, found.curve) == ("click", None, ([0.0, 1.0], [0.0, 1.0], [1.0, 0.5]))
    alone = drawn(told(MOOD, {"task": MATRIX}, {}))
    assert alone
    assert (alone.task, alone.matrix, alone.curve) == ("task", (["bad", "good"], [[3, 1], [0, 4]]), None)


def test_of_a_value_nothing_is_drawn():
    assert drawn(told(PRICE, {}, {})) is None


def test_of_very_many_classes_the_most_mistaken_stay_and_no_row_is_lost():
    many = CLASSES_DRAWN + 30
    counts = np.diag(np.full(many, 5))
    # Of these five nothing else is to be seen; the other classes are never mistaken.
    counts[3, 120], counts[64, 7], counts[120, 7] = 9, 2, 4
    names, small = bounded([f"intent_{i}" for i in range(many)], counts.tolist())
    assert len(names) == len(small) == CLASSES_DRAWN
    assert names[-1] == f"{many - CLASSES_DRAWN + 1} others"
    at = {name: i for i, name in enumerate(names)}
    assert small[at["intent_3"]][at["intent_120"]] == 9
    assert small[at["intent_64"]][at["intent_7"]] == 2
    assert small[at["intent_120"]][at["intent_7"]] == 4
    assert np.sum(small) == counts.sum()
    assert small[-1][-1] == 5 * (many - CLASSES_DRAWN + 1)


def test_seventy_seven_classes_are_drawn_whole_and_stay_small():
    matrix = made_up.summary(77)["confusion"]["sentiment"]
    names, small = bounded(matrix["names"], matrix["counts"])
    assert (names, small) == (matrix["names"], matrix["counts"])
    artifact = dsl.ClassificationMetrics()
    artifact.log_confusion_matrix(names, small)
    assert len(json.dumps(artifact.metadata)) < 50_000

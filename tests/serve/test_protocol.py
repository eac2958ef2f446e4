"""Rows and answers survive the way through the Open Inference Protocol's tensors."""

from typing import Any

import numpy as np
import pytest
from tiny import write_edge

from potstill.edge import EdgeModel
from potstill.outcomes import Classification, Outcome, Rate, Retrieval, Together, Value
from potstill.serve.protocol import TensorIn, metadata, rows_of, tensors_of


@pytest.fixture(scope="module")
def edge(tmp_path_factory: pytest.TempPathFactory) -> EdgeModel:
    return EdgeModel(write_edge(tmp_path_factory.mktemp("edge") / "small"))


def tensor(name: str, data: list[Any], shape: list[int] | None = None) -> TensorIn:
    return TensorIn(name=name, shape=shape or [len(data)], datatype="BYTES", data=data)


@pytest.mark.parametrize(("data", "shape"), [(["a", "b"], [2]), (["a", "b"], [2, 1]), ([["a"], ["b"]], [2, 1])])
def test_texts_become_rows_flat_or_nested(edge: EdgeModel, data: list[Any], shape: list[int]):
    assert rows_of(edge, [tensor("review", data, shape)]) == [{"review": "a"}, {"review": "b"}]


@pytest.mark.parametrize(
    ("tensors", "why"),
    [
        ([tensor("text", ["a"])], "no column 'text'; there is review"),
        ([tensor("review", ["a"]), tensor("review", ["b"])], "'review' is there twice"),
        ([tensor("review", ["a", "b"], [3])], r"shape \[3\] and 2 values"),
        ([tensor("review", ["a", "b"], [1, 2])], r"shape \[1, 2\]"),
    ],
)
def test_what_does_not_fit_is_named(edge: EdgeModel, tensors: list[TensorIn], why: str):
    with pytest.raises(ValueError, match=why):
        rows_of(edge, tensors)


FAMILIES: list[tuple[Outcome, np.ndarray]] = [
    (Classification(("no", "yes")), np.array([[0.9, 0.1], [0.2, 0.8]])),
    (
        Classification(("no", "yes"), replies=(("no", "Sorry."),), threshold=0.85),
        np.array([[0.9, 0.1], [0.2, 0.8]]),
    ),
    (Rate(prior=0.5, bid=0.1), np.array([[0.9, 0.1], [0.2, 0.8]])),
    (Value(0.0, 3.0, 3, "linear", 0.75), np.array([[0.1, 0.8, 0.1], [0.2, 0.2, 0.6]])),
    (Retrieval().over([f"answer {i}" for i in range(7)]), np.eye(7)[:2]),
]
TOGETHER = Together((("opinion", Classification(("no", "yes"))), ("click", Rate(prior=0.5))))


def answered(outcome: Outcome, probabilities: np.ndarray) -> list[dict[str, Any]]:
    answers = outcome.answers(probabilities)
    if isinstance(outcome, Classification) and outcome.replies:
        answers = [answer | {"reply": outcome.reply(answer["label"], {})} for answer in answers]
    return answers


@pytest.mark.parametrize(
    ("outcome", "probabilities"), [*FAMILIES, (TOGETHER, np.array([[0.9, 0.1, 0.3, 0.7], [0.2, 0.8, 0.5, 0.5]]))]
)
def test_tensors_are_as_metadata_promises(edge: EdgeModel, outcome: Outcome, probabilities: np.ndarray):
    answers = answered(outcome, probabilities)
    told = tensors_of(outcome, answers, [])
    promised = metadata("m", "1", with_outcome(edge, outcome))["outputs"]
    assert [(t["name"], t["datatype"], len(t["shape"])) for t in told] == [
        (p["name"], p["datatype"], len(p["shape"])) for p in promised
    ]
    for found, promise in zip(told, promised, strict=True):
        assert found["shape"][0] == 2
        assert len(found["data"]) == np.prod(found["shape"])
        assert all(said in (-1, size) for said, size in zip(promise["shape"], found["shape"], strict=True))
        kind = {"BYTES": str, "FP64": float, "BOOL": bool}[found["datatype"]]
        assert all(type(value) is kind for value in found["data"])


def with_outcome(edge: EdgeModel, outcome: Outcome) -> EdgeModel:
    class Other:
        text_columns, features = edge.text_columns, edge.features

    Other.outcome = outcome  # type: ignore[attr-defined]
    return Other  # type: ignore[return-value]


def test_probabilities_stand_row_after_row_beside_their_names():
    outcome, probabilities = FAMILIES[0]
    (found,) = tensors_of(outcome, answered(outcome, probabilities), ["probabilities"])
    assert found["shape"] == [2, 2]
    assert found["data"] == [0.9, 0.1, 0.2, 0.8]
    assert found["parameters"] == {"names": ["no", "yes"]}


def test_a_class_without_a_reply_has_an_empty_one():
    outcome, probabilities = FAMILIES[1]
    found = {t["name"]: t["data"] for t in tensors_of(outcome, answered(outcome, probabilities), [])}
    assert found["reply"] == ["Sorry.", ""]
    assert found["in_scope"] == [True, False]


def test_found_answers_stand_beside_their_scores():
    outcome, probabilities = FAMILIES[4]
    found = {t["name"]: t for t in tensors_of(outcome, answered(outcome, probabilities), [])}
    best = found["answers"]["data"][:: found["answers"]["shape"][1]]
    assert best == ["answer 0", "answer 1"] == found["answer"]["data"]
    assert found["answers_confidence"]["data"][0] == found["confidence"]["data"][0] == 1.0


def test_an_output_that_is_not_there_is_named():
    outcome, probabilities = FAMILIES[0]
    with pytest.raises(ValueError, match="no 'rate'; there is label, confidence, probabilities"):
        tensors_of(outcome, answered(outcome, probabilities), ["rate"])

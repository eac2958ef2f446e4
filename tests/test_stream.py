import io
import json
import sys
from pathlib import Path

import numpy as np
import onnx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from onnx import helper, numpy_helper
from tiny import write_edge

from potstill.data.rows import STDIN
from potstill.edge import EdgeModel
from potstill.errors import UserError
from potstill.stream import Scorer, alerts
from potstill.watch import Design

DESIGN = Design(baseline_items=20, surge=3.0, false_alarm_items=1000)


@pytest.fixture(scope="module")
def edge(tmp_path_factory: pytest.TempPathFactory) -> EdgeModel:
    return EdgeModel(write_edge(tmp_path_factory.mktemp("edge") / "small"))


def scorer(edge: EdgeModel, topic: str | None = None, bad: str = "negative") -> Scorer:
    return Scorer(edge, bad, "time", topic, None)


def rows(texts: list[str], **others: str) -> list[dict[str, str]]:
    return [
        {"review": text, "time": f"2026-01-01T{i // 60:02d}:{i % 60:02d}:00", **others} for i, text in enumerate(texts)
    ]


def jsonl(path: Path, items: list[dict[str, str]]) -> Path:
    path.write_text("".join(json.dumps(item) + "\n" for item in items))
    return path


QUIET, LOUD = ["good kettle"] * 60, ["bad kettle"] * 10


def test_a_surge_of_bad_texts_alerts_once_it_is_plain(tmp_path: Path, edge: EdgeModel):
    found = list(alerts(jsonl(tmp_path / "s.jsonl", rows(QUIET + LOUD)), scorer(edge), DESIGN))
    assert found
    first = found[0]
    assert first["began"] == "2026-01-01T01:00:00+00:00"
    assert "2026-01-01T01:01" <= first["time"] <= "2026-01-01T01:09"
    assert first["share"] == 1
    assert json.loads(json.dumps(first)) == first


def test_one_form_of_stream_is_as_good_as_another(tmp_path: Path, edge: EdgeModel, monkeypatch: pytest.MonkeyPatch):
    made = rows(QUIET + LOUD)
    from_lines = list(alerts(jsonl(tmp_path / "s.jsonl", made), scorer(edge), DESIGN))
    pq.write_table(pa.Table.from_pylist(made), tmp_path / "s.parquet")
    assert list(alerts(tmp_path / "s.parquet", scorer(edge), DESIGN)) == from_lines
    monkeypatch.setattr(sys, "stdin", io.StringIO("".join(json.dumps(row) + "\n" for row in made)))
    assert list(alerts(STDIN, scorer(edge), DESIGN)) == from_lines


def test_topics_are_counted_apart(tmp_path: Path, edge: EdgeModel):
    mixed = rows(QUIET, shop="calm") + rows(QUIET + LOUD, shop="loud")
    mixed.sort(key=lambda row: row["time"])
    judge = scorer(edge, topic="shop")
    assert {alert["topic"] for alert in alerts(jsonl(tmp_path / "s.jsonl", mixed), judge, DESIGN)} == {"loud"}
    assert (judge.items, judge.seen) == (130, {"calm": 60, "loud": 70})


def test_a_model_may_tell_the_topic(tmp_path: Path, edge: EdgeModel):
    judge = Scorer(edge, "negative", "time", None, edge)
    found = list(alerts(jsonl(tmp_path / "s.jsonl", rows(QUIET + LOUD)), judge, DESIGN))
    # The topics are this model's own classes, so bad news is all of one topic and none of the other.
    assert set(judge.seen) == {"negative", "positive"}
    assert found == []


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ({"review": "x", "time": "soon"}, "item 61: time: 'soon' is not a date"),
        ({"review": "x"}, "item 61: no 'time'; name the column of the moment with --time"),
        (
            {"review": "x", "time": "2025-12-31"},
            r"item 61: 2025-12-31 .* lies before the item above it .*; sort",
        ),
        ({"words": "x", "time": "2026-01-02"}, "item 61: no text in 'review'"),
    ],
)
def test_an_item_that_can_not_be_read_is_named(tmp_path: Path, edge: EdgeModel, item: dict[str, str], message: str):
    with pytest.raises(UserError, match=message):
        list(alerts(jsonl(tmp_path / "s.jsonl", [*rows(QUIET), item]), scorer(edge), DESIGN))


def test_a_line_that_is_no_object_and_a_file_that_is_not_there_are_refused(tmp_path: Path, edge: EdgeModel):
    (tmp_path / "s.jsonl").write_text('{"review": "x", "time": "2026-01-01"}\n[1]\n')
    with pytest.raises(UserError, match="item 2: expected an object"):
        list(alerts(tmp_path / "s.jsonl", scorer(edge), DESIGN))
    with pytest.raises(UserError, match="can't be read"):
        list(alerts(tmp_path / "none.jsonl", scorer(edge), DESIGN))


def test_a_class_that_the_model_has_not_is_refused(edge: EdgeModel):
    with pytest.raises(UserError, match="--bad dreadful: no such class; there are negative, positive"):
        scorer(edge, bad="dreadful")


def test_a_model_of_two_tasks_tells_opinion_and_topic_at_once(tmp_path: Path):
    folder = write_edge(tmp_path / "both")
    card = json.loads((folder / "card.json").read_text())
    classes = {"kind": "classification", "names": ["negative", "positive"]}
    lone = {"kind": "classification", "names": ["kettles"]}
    # Two logits for the opinion; the topic has a class alone, of no logit's making.
    graph = onnx.load(folder / "model.onnx")
    graph.graph.node.append(helper.make_node("Concat", ["two", "one"], ["logits"], axis=1))
    graph.graph.node[-2].output[0] = "two"
    graph.graph.node.insert(5, helper.make_node("ReduceSum", ["two", "last_axis"], ["one"], keepdims=1))
    graph.graph.initializer.append(numpy_helper.from_array(np.array([1]), "last_axis"))
    graph.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 3
    onnx.save(graph, folder / "model.onnx")
    outcome = {"kind": "together", "tasks": [["opinion", classes], ["topic", lone]]}
    (folder / "card.json").write_text(json.dumps(card | {"outcome": outcome}))
    both = Scorer(EdgeModel(folder), "negative", "time", None, None)
    found = list(alerts(jsonl(tmp_path / "s.jsonl", rows(QUIET + LOUD)), both, DESIGN))
    assert found
    assert {alert["topic"] for alert in found} == {"kettles"}
    with pytest.raises(UserError, match="there are negative, positive, kettles"):
        Scorer(EdgeModel(folder), "awful", "time", None, None)

"""Refusal through the steps: texts that no label fits are set aside by ingest, and measured by evaluate."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import roc_auc_score

from potstill.data.dataset import read_rows, read_schema, read_texts
from potstill.edge import EdgeModel
from potstill.evaluate.report import write_report
from potstill.recipe import Data, Split, Task
from tests.conftest import THINGS, reviews
from tests.steps.conftest import Line, run_line
from tests.steps.test_kinds import evaluated, summary_in


@pytest.fixture(scope="module")
def careful(tmp_path_factory: pytest.TempPathFactory, encoder: Path, reviews_file: Path) -> Line:
    root = tmp_path_factory.mktemp("careful")
    known = reviews(3)["text"]
    # Neither praise nor blame; one that a review has, one twice, one blank.
    others = [f"a {thing} n{i} was" for i in range(30) for thing in THINGS] + [known[0], "a lamp n1 was", " "]
    pq.write_table(pa.table({"text": others}), root / "others.parquet")
    data = Data(source=str(reviews_file), split=Split(by="product"), out_of_scope=str(root / "others.parquet"))
    task = Task(label="sentiment", refuse=0.1, replies={"positive": "Thank you!", "negative": "Sorry!"})
    return run_line(root, encoder, data, {"task": task})


def test_texts_out_of_scope_are_kept_once_and_apart(careful: Line):
    texts = read_texts(careful.dataset)
    assert len(texts) == len(set(texts)) == 120 == read_schema(careful.dataset).out_of_scope
    assert reviews(1)["text"][0] not in texts


def test_each_precision_has_a_threshold_of_its_own_and_gives_no_reply_below_it(careful: Line):
    for precision in ("float", "small"):
        model = EdgeModel(careful.edge / precision)
        assert 0.5 <= model.outcome.threshold <= 1
        answers = model.answer([*reviews(40)["text"], *read_texts(careful.dataset)])
        assert {a["in_scope"] for a in answers} == {True, False}
        for answer in answers:
            assert answer["in_scope"] == (answer["confidence"] >= model.outcome.threshold)
            assert (answer["reply"] is not None) == answer["in_scope"]


def test_refusal_is_measured_for_every_model_and_reported(careful: Line, tmp_path: Path):
    folder = evaluated(careful, tmp_path / "evaluation")
    found = summary_in(folder)
    assert found["out_of_scope"] == 120
    for figures in found["models"].values():
        assert 0 <= figures["refused"] <= 1
        assert 0 <= figures["scope_auroc"] <= 1
    small, model = found["models"]["edge"], EdgeModel(careful.edge / "small")
    rows = read_rows(careful.dataset, "test", read_schema(careful.dataset))
    inside, outside = (model.answer(texts) for texts in (rows.text, read_texts(careful.dataset)))
    assert small["scope_recall"] == pytest.approx(1 - np.mean([a["in_scope"] for a in outside]))
    foreign = np.repeat([0, 1], [len(inside), len(outside)])
    assert small["scope_auroc"] == pytest.approx(roc_auc_score(foreign, [-a["confidence"] for a in inside + outside]))
    summary = found | {"version": None, "alias": None, "dry_run": None}
    write_report(tmp_path / "report.html", summary, json.loads((folder / "figures.json").read_text()))
    assert "120 texts that no label fits" in (tmp_path / "report.html").read_text()

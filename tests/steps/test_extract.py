"""Extraction: shards, resumption, the store, folds and their guard."""

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from potstill.data.dataset import read_rows, read_schema
from potstill.errors import UserError
from potstill.learn.model import encode, load_model, predict_logits
from potstill.learn.signals import read_manifest, read_signals, table_digest
from potstill.learn.teachers import DIVISION, FOLDS, TAUGHT, Panel, Scorer, write_taught
from potstill.recipe import Data, Signals, Split, Task
from potstill.steps.extract import extract
from potstill.store import folder_behind, folder_digest
from tests.steps.conftest import Line, run_line

PARTS = Signals(part_rows=50)


def run(line: Line, signals: Path, **more: object) -> dict[str, float]:
    digest = read_schema(line.dataset).digest
    return extract(line.dataset, line.teacher, signals, PARTS, digest, "t", **more)


def all_rows(line: Line) -> list[str]:
    schema = read_schema(line.dataset)
    return [row for split in schema.rows for row in read_rows(line.dataset, split, schema).row]


def test_a_second_student_of_the_same_teacher_and_rows_costs_no_teacher_pass(line: Line, tmp_path: Path):
    rows = len(all_rows(line))
    assert run(line, tmp_path / "one", store=tmp_path / "store") == {"rows": rows, "rows_scored": rows}
    assert run(line, tmp_path / "two", store=tmp_path / "store") == {"rows": rows, "rows_scored": 0}
    assert folder_behind(tmp_path / "one") == folder_behind(tmp_path / "two")
    assert table_digest(tmp_path / "one") == table_digest(tmp_path / "two") == table_digest(line.signals)
    found = read_signals(tmp_path / "two", all_rows(line))
    assert found.tolist() == read_signals(line.signals, all_rows(line)).tolist()


def test_another_teacher_has_another_table(line: Line, tmp_path: Path):
    run(line, tmp_path / "one", store=tmp_path / "store")
    digest = read_schema(line.dataset).digest
    found = extract(line.dataset, line.teacher, tmp_path / "two", PARTS, digest, "u", tmp_path / "store")
    assert found["rows_scored"] == found["rows"]
    assert len(list((tmp_path / "store").iterdir())) == 2


def test_killed_extractions_go_on_where_they_stopped(line: Line, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    scored, score = [], Scorer.score

    def dying(self, rows):
        scored.append(len(rows))
        if len(scored) == 3:
            raise KeyboardInterrupt
        return score(self, rows)

    monkeypatch.setattr(Scorer, "score", dying)
    with pytest.raises(KeyboardInterrupt):
        run(line, tmp_path / "signals", store=tmp_path / "store")
    assert not (tmp_path / "signals").exists()
    monkeypatch.undo()
    found = run(line, tmp_path / "signals", store=tmp_path / "store")
    assert found["rows_scored"] == found["rows"] - sum(scored[:2])
    assert table_digest(tmp_path / "signals") == table_digest(line.signals)


@pytest.mark.parametrize("harm", ["torn", "foreign", "missing"])
def test_a_part_that_is_not_what_it_was_is_scored_again(line: Line, tmp_path: Path, harm: str):
    run(line, tmp_path / "signals", store=tmp_path / "store")
    table = folder_behind(tmp_path / "signals")
    part, other = table / "part-00001.parquet", table / "part-00002.parquet"
    if harm == "torn":
        part.write_bytes(part.read_bytes()[:100])
    elif harm == "foreign":
        shutil.copy(other, part)
    else:
        part.unlink()
    with pytest.raises(UserError, match=r"part-00001\.parquet"):
        read_signals(tmp_path / "signals", all_rows(line))
    assert run(line, tmp_path / "again", store=tmp_path / "store")["rows_scored"] == 50
    assert table_digest(tmp_path / "again") == table_digest(line.signals)


def test_shards_side_by_side_make_one_table_without_a_merge(line: Line, tmp_path: Path):
    for shard in (2, 0, 1):
        found = run(line, tmp_path / f"signals-{shard}", store=tmp_path / "store", shards=3, shard=shard)
        assert (tmp_path / f"signals-{shard}").exists() == (shard == 1)
    assert found["rows"] == len(all_rows(line))
    assert table_digest(tmp_path / "signals-1") == table_digest(line.signals)


@pytest.fixture(scope="module")
def folded(tmp_path_factory: pytest.TempPathFactory, encoder: Path, reviews_file: Path) -> Line:
    """A cross-fitted teacher and its signals, with vectors."""
    data = Data(source=str(reviews_file), split=Split(by="product"))
    signals = {"cross_fit": 3, "vectors": True}
    knobs = {"epochs": 2}
    root = tmp_path_factory.mktemp("folded")
    return run_line(root, encoder, data, {"task": Task(label="sentiment")}, signals=signals, teacher=knobs)


def test_each_training_row_is_scored_by_the_teacher_that_never_saw_it(folded: Line):
    schema = read_schema(folded.dataset)
    rows = read_rows(folded.dataset, "train", schema)
    panel = Panel.load(folded.teacher, schema.outcome)
    fold = rows.fold(3, panel.seed)
    taught = [set(scorer.taught.to_pylist()) for scorer in panel.folds]
    assert all((row in taught[k]) == (fold[i] != k) for i, row in enumerate(rows.row) for k in range(3))
    found = read_signals(folded.signals, rows.row)
    for k in range(3):
        own = np.flatnonzero(fold == k).tolist()
        model, tokenizer = load_model(folded.teacher / FOLDS / str(k))
        expected = predict_logits(model, encode(tokenizer, rows.at(own), model.head), 0).numpy()
        assert np.abs(found[own] - expected).max() < 0.01


def test_rows_that_belong_together_share_a_fold(folded: Line):
    schema = read_schema(folded.dataset)
    rows = read_rows(folded.dataset, "train", schema)
    products = pq.read_table(folded.dataset / "train")["split"].to_pylist()
    folds = dict(zip(products, rows.fold(3, 7).tolist(), strict=True))
    assert rows.fold(3, 7).tolist() == [folds[product] for product in products]
    assert len(set(folds.values())) == 3


def test_rows_that_judge_are_scored_by_the_teacher_of_all_training_rows(folded: Line):
    schema = read_schema(folded.dataset)
    rows = read_rows(folded.dataset, "test", schema)
    model, tokenizer = load_model(folded.teacher)
    expected = predict_logits(model, encode(tokenizer, rows, model.head), 0).numpy()
    assert np.abs(read_signals(folded.signals, rows.row) - expected).max() < 0.01


def test_the_table_says_who_scored_a_row(folded: Line):
    read_manifest(folded.signals)
    table = pq.read_table(folded.signals, columns=["split", "teacher"]).to_pandas()
    told = {split: set(rows) for split, rows in table.groupby("split")["teacher"]}
    assert told == {"train": {1, 2, 3}, "validation": {0}, "test": {0}}


def test_vectors_are_the_pooled_ones_of_the_teacher(folded: Line):
    schema = read_schema(folded.dataset)
    rows = read_rows(folded.dataset, "test", schema)
    model, tokenizer = load_model(folded.teacher)
    batch = encode(tokenizer, rows, model.head).batch(range(len(rows)), 0)
    vectors = model.pooling(model.encoder(**batch).last_hidden_state, batch["attention_mask"]).detach().numpy()
    assert np.abs(read_signals(folded.signals, rows.row, "vector") - vectors).max() < 0.01


@pytest.mark.parametrize("split", ["validation", "test"])
def test_a_teacher_that_was_taught_a_row_that_judges_is_refused(line: Line, tmp_path: Path, split: str):
    shutil.copytree(line.teacher, tmp_path / "teacher")
    leaked = read_rows(line.dataset, split, read_schema(line.dataset)).row[3]
    write_taught(tmp_path / "teacher", [*pq.read_table(line.teacher / TAUGHT)["row"].to_pylist(), leaked])
    with pytest.raises(UserError, match=f"taught 1 of the {split} rows that it would score, such as {leaked[:12]}"):
        extract(line.dataset, tmp_path / "teacher", tmp_path / "signals", PARTS, "d", "t")
    assert not (tmp_path / "signals").exists()


def test_a_fold_that_saw_its_own_rows_is_refused(folded: Line, tmp_path: Path):
    shutil.copytree(folded.teacher, tmp_path / "teacher")
    division = tmp_path / "teacher" / FOLDS / DIVISION
    told = json.loads(division.read_text(encoding="utf-8"))
    division.write_text(json.dumps(told | {"seed": told["seed"] + 1}), encoding="utf-8")
    with pytest.raises(UserError, match=r"folds/\d: this teacher was taught"):
        extract(folded.dataset, tmp_path / "teacher", tmp_path / "signals", PARTS, "d", "t")


def test_folds_do_not_change_the_teacher_of_all_rows(folded: Line, tmp_path: Path):
    whole = tmp_path / "whole"
    shutil.copytree(folded.teacher, whole)
    shutil.rmtree(whole / FOLDS)
    assert folder_digest(whole) != folder_digest(folded.teacher)
    assert len(Panel.load(whole, read_schema(folded.dataset).outcome).folds) == 0

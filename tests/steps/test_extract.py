"""Extraction: shards, resumption, the store, folds and their guard."""

import json
import shutil
from dataclasses import replace
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
from potstill.shelves import shelf_behind
from potstill.steps.extract import Plan, extract
from potstill.steps.ingest import ingest
from potstill.steps.teach import teach
from potstill.store import Folder, folder_digest
from tests.found import only
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
    assert run(line, tmp_path / "one", store=Folder(tmp_path / "store")) == {"rows": rows, "rows_scored": rows}
    assert run(line, tmp_path / "two", store=Folder(tmp_path / "store")) == {"rows": rows, "rows_scored": 0}
    assert shelf_behind(tmp_path / "one").path == shelf_behind(tmp_path / "two").path
    assert table_digest(tmp_path / "one") == table_digest(tmp_path / "two") == table_digest(line.signals)
    found = read_signals(tmp_path / "two", all_rows(line))
    assert found.tolist() == read_signals(line.signals, all_rows(line)).tolist()


def test_another_teacher_has_another_table(line: Line, tmp_path: Path):
    run(line, tmp_path / "one", store=Folder(tmp_path / "store"))
    digest = read_schema(line.dataset).digest
    found = extract(line.dataset, line.teacher, tmp_path / "two", PARTS, digest, "u", Folder(tmp_path / "store"))
    assert found["rows_scored"] == found["rows"]
    assert len(list((tmp_path / "store").iterdir())) == 2


def killed(line: Line, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """An extraction that dies at its third part: how many rows it was at, part by part."""
    scored, score = [], Scorer.score

    def dying(self, rows):
        scored.append(len(rows))
        if len(scored) == 3:
            raise KeyboardInterrupt
        return score(self, rows)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(Scorer, "score", dying)
        run(line, tmp_path / "signals", store=Folder(tmp_path / "store"))
    return scored


def test_killed_extractions_go_on_where_they_stopped(line: Line, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    scored = killed(line, tmp_path, monkeypatch)
    assert not (tmp_path / "signals").exists()
    found = run(line, tmp_path / "signals", store=Folder(tmp_path / "store"))
    assert found["rows_scored"] == found["rows"] - sum(scored[:2])
    assert table_digest(tmp_path / "signals") == table_digest(line.signals)


@pytest.mark.parametrize("harm", ["torn", "foreign", "missing"])
def test_a_part_that_is_not_what_it_was_is_scored_again(line: Line, tmp_path: Path, harm: str):
    run(line, tmp_path / "signals", store=Folder(tmp_path / "store"))
    table = shelf_behind(tmp_path / "signals").path
    part, other = (only(table, f"part-0000{number}-*.parquet") for number in (1, 2))
    if harm == "torn":
        part.write_bytes(part.read_bytes()[:100])
    elif harm == "foreign":
        shutil.copy(other, part)
    else:
        part.unlink()
    with pytest.raises(UserError, match=r"part-00001-.*\.parquet"):
        read_signals(tmp_path / "signals", all_rows(line))
    assert run(line, tmp_path / "again", store=Folder(tmp_path / "store"))["rows_scored"] == 50
    assert table_digest(tmp_path / "again") == table_digest(line.signals)


def test_shards_side_by_side_make_one_table_without_a_merge(line: Line, tmp_path: Path):
    for shard in (2, 0, 1):
        run(line, tmp_path / f"signals-{shard}", store=Folder(tmp_path / "store"), shards=3, shard=shard)
        assert (shelf_behind(tmp_path / f"signals-{shard}").path / "_manifest.json").exists() == (shard == 1)
    assert table_digest(tmp_path / "signals-1") == table_digest(line.signals)


@pytest.fixture(scope="module")
def folded(tmp_path_factory: pytest.TempPathFactory, encoder: Path, reviews_file: Path) -> Line:
    """A cross-fitted teacher and its signals, with vectors."""
    data = Data(source=str(reviews_file), split=Split(by="product"))
    signals = {"cross_fit": 3, "vectors": True}
    knobs = {"epochs": 2}
    root = tmp_path_factory.mktemp("folded")
    return run_line(root, encoder, data, {"task": Task(label="sentiment")}, signals=signals, teacher=knobs)


def test_a_plan_holds_each_row_once_and_no_part_crosses_a_split():
    plan = Plan((("train", 7), ("validation", 0), ("test", 3), ("unlabelled", 4)), part_rows=3)
    parts = [(split, list(rows)) for split, rows in (plan[number] for number in range(len(plan)))]
    assert parts == [
        ("train", [0, 1, 2]),
        ("train", [3, 4, 5]),
        ("train", [6]),
        ("test", [0, 1, 2]),
        ("unlabelled", [0, 1, 2]),
        ("unlabelled", [3]),
    ]


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
    with pytest.raises(UserError, match=r"_folds/\d: this teacher was taught"):
        extract(folded.dataset, tmp_path / "teacher", tmp_path / "signals", PARTS, "d", "t")


def test_folds_do_not_change_the_teacher_of_all_rows(folded: Line, tmp_path: Path):
    whole = tmp_path / "whole"
    shutil.copytree(folded.teacher, whole)
    shutil.rmtree(whole / FOLDS)
    assert folder_digest(whole) != folder_digest(folded.teacher)
    assert len(Panel.load(whole, read_schema(folded.dataset).outcome).folds) == 0


def test_the_datasets_shards_do_not_move_the_tables_parts(
    line: Line, reviews_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    data = Data(source=str(reviews_file), split=Split(by="product"), shard_rows=70)
    ingest(data, {"task": Task(label="sentiment")}, tmp_path / "dataset")
    digest = read_schema(tmp_path / "dataset").digest
    assert digest == read_schema(line.dataset).digest
    # The table is begun over one layout of shards, and ended over another.
    killed(line, tmp_path, monkeypatch)
    extract(tmp_path / "dataset", line.teacher, tmp_path / "signals", PARTS, digest, "t", Folder(tmp_path / "store"))
    assert table_digest(tmp_path / "signals") == table_digest(line.signals)
    assert read_signals(tmp_path / "signals", all_rows(line)).shape == (240, 2)


def test_what_to_do_about_a_damaged_part_is_said_and_helps(line: Line, tmp_path: Path):
    run(line, tmp_path / "signals", store=Folder(tmp_path / "store"))
    table = shelf_behind(tmp_path / "signals").path
    only(table, "part-00001-*.parquet").write_bytes(b"torn")
    with pytest.raises(UserError, match=r"remove .*_manifest\.json and run again: whole parts are kept") as told:
        read_signals(tmp_path / "signals", all_rows(line))
    manifest = Path(str(told.value).partition("remove ")[2].partition(" and run")[0])
    manifest.unlink()
    # So a cache no longer finds what the folder stands for, and the step runs.
    with pytest.raises(UserError, match="it is gone"):
        shelf_behind(tmp_path / "signals")
    assert run(line, tmp_path / "signals", store=Folder(tmp_path / "store"))["rows_scored"] == 50


def test_vectors_that_were_not_kept_are_missed_in_words(line: Line):
    with pytest.raises(UserError, match=r"the signals hold no vectors; set signals\.vectors: true"):
        read_signals(line.signals, all_rows(line), "vector")


def test_a_fold_without_rows_is_refused_before_any_teaching(line: Line, tmp_path: Path):
    with pytest.raises(UserError, match=r"folds hold no row: too few values of data\.split\.by; use fewer folds"):
        teach(line.dataset, line.settings, tmp_path / "teacher", cross_fit=20)
    assert not (tmp_path / "teacher").exists()


def test_texts_that_differ_in_white_space_alone_share_a_fold(line: Line):
    rows = read_rows(line.dataset, "train", read_schema(line.dataset))
    other = replace(rows, text=[f" {text.replace(' ', '  ')}" for text in rows.text], apart=None)
    alone = replace(rows, apart=None)
    assert other.fold(5, 7).tolist() == alone.fold(5, 7).tolist()
    assert len(set(alone.fold(5, 7).tolist())) == 5

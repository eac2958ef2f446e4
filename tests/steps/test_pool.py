"""Rows without a label: kept apart at ingest, scored by the teacher, learnt from by the student alone."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from potstill.data.dataset import UNLABELLED, read_rows, read_schema
from potstill.data.read import check_source
from potstill.errors import UserError
from potstill.learn.signals import read_signals
from potstill.learn.teachers import TAUGHT
from potstill.learn.trainer import Examples
from potstill.recipe import Data, Distill, Features, Split, Student, Task
from potstill.steps.distill import distill
from potstill.steps.ingest import ingest
from tests.conftest import reviews
from tests.steps.conftest import QUICK, Line, run_line


@pytest.fixture(scope="module")
def pool_file(tmp_path_factory: pytest.TempPathFactory, reviews_file: Path) -> Path:
    """300 fresh texts, 20 of the labelled rows', one twice, one empty, one null."""
    known = pq.read_table(reviews_file)["text"].to_pylist()[:20]
    fresh = reviews(540)["text"][240:]
    path = tmp_path_factory.mktemp("pool") / "pool.parquet"
    pq.write_table(pa.table({"text": [*known, *fresh, f"  {fresh[0]} ", " ", None]}), path)
    return path


@pytest.fixture(scope="module")
def pooled(tmp_path_factory: pytest.TempPathFactory, encoder: Path, reviews_file: Path, pool_file: Path) -> Line:
    """A line whose student also learns from the pool."""
    data = Data(source=str(reviews_file), split=Split(by="product"), unlabelled=str(pool_file))
    root = tmp_path_factory.mktemp("pooled")
    return run_line(root, encoder, data, {"task": Task(label="sentiment")}, distill={"epochs": 2})


def test_the_pool_is_kept_apart_each_text_once_and_none_of_the_labelled(pooled: Line):
    schema = read_schema(pooled.dataset)
    pool = read_rows(pooled.dataset, UNLABELLED, schema)
    assert len(pool) == len(set(pool.text)) == schema.unlabelled == 300
    assert np.isnan(pool.value).all()
    labelled = {text for split in schema.rows for text in read_rows(pooled.dataset, split, schema).text}
    assert not labelled & set(pool.text)
    assert sum(schema.rows.values()) == 240


def test_what_is_left_out_of_the_pool_is_told_with_its_reason(pooled: Line, pool_file: Path):
    rejected = pq.read_table(pooled.dataset / "rejected.parquet").to_pandas()
    assert set(rejected["file"]) == {str(pool_file)}
    counts = rejected["reason"].value_counts().to_dict()
    assert counts.pop("empty text") == 2
    assert counts.pop("duplicate") + counts.pop("also in test") + counts.pop("also in validation") == 21
    assert not counts


def test_the_pool_changes_the_dataset_but_no_labelled_row(pooled: Line, line: Line):
    with_pool, without = read_schema(pooled.dataset), read_schema(line.dataset)
    assert with_pool.digest != without.digest
    assert with_pool.rows == without.rows


def test_the_teacher_scores_the_pool_and_the_student_alone_learns_from_it(pooled: Line):
    pool = read_rows(pooled.dataset, UNLABELLED, read_schema(pooled.dataset))
    assert np.isfinite(read_signals(pooled.signals, pool.row)).all()
    taught = {
        name: set(pq.read_table(pooled.root / name / TAUGHT)["row"].to_pylist()) for name in ("teacher", "control")
    }
    assert not any(rows & set(pool.row) for rows in taught.values())
    learnt = pq.read_table(pooled.student / TAUGHT)["row"].to_pylist()
    assert len(learnt) == len(taught["teacher"]) + 300


def test_features_stand_beside_the_pools_texts(tmp_path: Path):
    rows = {**reviews(60), "stars": [str(i % 5) for i in range(60)]}
    pq.write_table(pa.table(rows), tmp_path / "rows.parquet")
    pool = {"text": ["a fine pot", "a poor pot"], "stars": ["4", "many"]}
    pq.write_table(pa.table(pool), tmp_path / "pool.parquet")
    data = Data(
        source=str(tmp_path / "rows.parquet"),
        unlabelled=str(tmp_path / "pool.parquet"),
        features=Features(numeric=["stars"]),
    )
    ingest(data, {"task": Task(label="sentiment")}, tmp_path / "dataset")
    found = read_rows(tmp_path / "dataset", UNLABELLED, read_schema(tmp_path / "dataset"))
    assert (found.text, found.features) == (["a fine pot"], [{"stars": 4.0}])
    reasons = pq.read_table(tmp_path / "dataset" / "rejected.parquet")["reason"].to_pylist()
    assert reasons == ["feature not a number: stars"]


def test_of_several_tasks_the_pool_has_a_label_for_none(tmp_path: Path, pool_file: Path):
    rows = {**reviews(120), "topic": ["pots" if i % 2 else "tea" for i in range(120)]}
    pq.write_table(pa.table(rows), tmp_path / "rows.parquet")
    data = Data(source=str(tmp_path / "rows.parquet"), unlabelled=str(pool_file))
    ingest(data, {"mood": Task(label="sentiment"), "topic": Task(label="topic")}, tmp_path / "dataset")
    found = read_rows(tmp_path / "dataset", UNLABELLED, read_schema(tmp_path / "dataset"))
    assert found.value.shape == (len(found), 2)
    assert np.isnan(found.value).all()


def test_a_pool_that_is_not_there_is_refused(tmp_path: Path, reviews_file: Path):
    data = Data(source=str(reviews_file), unlabelled=str(tmp_path / "nothing.parquet"))
    with pytest.raises(UserError, match=r"nothing\.parquet: no such file"):
        ingest(data, {"task": Task(label="sentiment")}, tmp_path / "dataset")
    assert not (tmp_path / "dataset").exists()


def test_check_source_looks_at_the_pool_too(tmp_path: Path, reviews_file: Path):
    data = Data(source=str(reviews_file), unlabelled=str(tmp_path / "nothing.parquet"))
    with pytest.raises(UserError, match=r"nothing\.parquet: no such file"):
        check_source(data, {"task": Task(label="sentiment")})


def test_the_student_takes_its_steps_on_the_pool_too(pooled: Line, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    seen: set[int] = set()
    batch = Examples.batch

    def watched(self, rows, *rest):
        seen.update(rows if len(self) > 300 else ())
        return batch(self, rows, *rest)

    monkeypatch.setattr(Examples, "batch", watched)
    knobs = Distill.model_validate(QUICK | {"epochs": 1})
    distill(pooled.dataset, pooled.teacher, pooled.signals, Student(layers=2), knobs, tmp_path / "student")
    labelled = read_schema(pooled.dataset).rows["train"]
    assert seen == set(range(labelled + 300))


def test_texts_that_measure_refusal_are_not_learnt_from(tmp_path: Path, reviews_file: Path):
    pq.write_table(pa.table({"text": ["where is my parcel", "a sound pot"]}), tmp_path / "pool.parquet")
    pq.write_table(pa.table({"text": ["where  is my parcel"]}), tmp_path / "others.parquet")
    data = Data(
        source=str(reviews_file),
        unlabelled=str(tmp_path / "pool.parquet"),
        out_of_scope=str(tmp_path / "others.parquet"),
    )
    ingest(data, {"task": Task(label="sentiment", refuse=0.05)}, tmp_path / "dataset")
    found = read_rows(tmp_path / "dataset", UNLABELLED, read_schema(tmp_path / "dataset"))
    assert found.text == ["a sound pot"]

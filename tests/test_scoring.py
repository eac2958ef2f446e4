"""A table keeps its rows and gains the model's answers; whatever fails leaves nothing half-written."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from tiny import write_edge

from potstill import scoring
from potstill.cli import main
from potstill.edge import EdgeModel
from potstill.errors import UserError
from potstill.scoring import Scored, score
from tests import s3


@pytest.fixture(scope="module")
def edge(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_edge(tmp_path_factory.mktemp("edge") / "small")


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scoring, "CHUNK_ROWS", 3)


def scored(edge: Path, source: Path, target: Path, threads: int) -> Scored:
    return score(edge, str(source), str(target), threads)


def table(folder: Path, name: str = "in.parquet", **columns: list[Any]) -> Path:
    pq.write_table(pa.table(columns), folder / name)
    return folder / name


TEXTS = [" ".join(["good"] * (i % 4) + ["bad"] * (i % 3)) or "kettle" for i in range(20)]


@pytest.mark.parametrize("threads", [1, 3])
def test_rows_keep_their_order_and_columns_and_gain_what_the_model_says(edge: Path, tmp_path: Path, threads: int):
    source = table(tmp_path, review=TEXTS, number=list(range(20)))
    assert scored(edge, source, tmp_path / "out.parquet", threads) == Scored(20, 0)
    found = pq.read_table(tmp_path / "out.parquet")
    assert found.column_names == [
        "review",
        "number",
        "predicted_label",
        "predicted_confidence",
        "predicted_probabilities",
        "predicted_error",
    ]
    assert found["number"].to_pylist() == list(range(20))
    for row, said in zip(found.to_pylist(), EdgeModel(edge).answer(TEXTS), strict=True):
        assert row["predicted_label"] == said["label"]
        assert row["predicted_confidence"] == said["confidence"]
        assert row["predicted_probabilities"] == list(said["probabilities"].values())
    names = found.schema.field("predicted_probabilities").metadata
    assert names == {b"0": b"negative", b"1": b"positive"}


def test_a_row_that_cannot_be_read_has_no_answer_and_says_why(edge: Path, tmp_path: Path):
    source = table(tmp_path, review=["good", None, "bad", "", None])
    assert scored(edge, source, tmp_path / "out.parquet", 1) == Scored(5, 2)
    found = pq.read_table(tmp_path / "out.parquet").to_pylist()
    assert [row["predicted_label"] for row in found] == ["positive", None, "negative", "negative", None]
    assert [row["predicted_error"] for row in found] == [None, "no text in 'review'", None, None, "no text in 'review'"]
    assert found[1]["predicted_probabilities"] is None


def test_a_folder_is_read_file_after_file(edge: Path, tmp_path: Path):
    folder = tmp_path / "in"
    folder.mkdir()
    table(folder, "b.parquet", review=["bad"] * 4)
    table(folder, "a.parquet", review=["good"] * 4)
    assert scored(edge, folder, tmp_path / "out.parquet", 2) == Scored(8, 0)
    assert pq.read_table(tmp_path / "out.parquet")["review"].to_pylist() == ["good"] * 4 + ["bad"] * 4


def test_no_rows_give_no_rows(edge: Path, tmp_path: Path):
    empty = tmp_path / "in.parquet"
    pq.write_table(pa.table({"review": pa.array([], pa.string())}), empty)
    assert scored(edge, empty, tmp_path / "out.parquet", 2) == Scored(0, 0)
    assert "predicted_label" in pq.read_table(tmp_path / "out.parquet").column_names


FAMILIES = {
    "rate": ({"kind": "rate", "prior": 0.5}, {"predicted_rate": pytest.approx(0.8807970779778823)}),
    "value": (
        {"kind": "value", "low": 0.0, "high": 2.0, "bins": 2, "scale": "linear", "smoothing": 0.75},
        {"predicted_mean": pytest.approx(0.5 * 0.11920292202211755 + 1.5 * 0.8807970779778823)},
    ),
    "together": (
        {"kind": "together", "tasks": [[name, {"kind": "classification", "names": [name]}] for name in ("a", "b")]},
        {"predicted_a_label": "a", "predicted_b_label": "b", "predicted_b_probabilities": [1.0]},
    ),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_has_its_columns(tmp_path: Path, family: str):
    outcome, expected = FAMILIES[family]
    edge = write_edge(tmp_path / "edge")
    card = json.loads((edge / "card.json").read_text())
    (edge / "card.json").write_text(json.dumps(card | {"outcome": outcome}))
    scored(edge, table(tmp_path, review=["good"]), tmp_path / "out.parquet", 1)
    (row,) = pq.read_table(tmp_path / "out.parquet").to_pylist()
    assert {name: row[name] for name in expected} == expected


def test_found_answers_are_a_list_with_their_confidences(tmp_path: Path):
    edge = write_edge(tmp_path / "edge")
    card = json.loads((edge / "card.json").read_text())
    (edge / "card.json").write_text(json.dumps(card | {"outcome": {"kind": "retrieval", "tau": 1.0, "decides": None}}))
    (edge / "catalogue.json").write_text(json.dumps(["no", "yes"]))
    np.eye(2, dtype="<f2").tofile(edge / "catalogue.f16")
    scored(edge, table(tmp_path, review=["good"]), tmp_path / "out.parquet", 1)
    (row,) = pq.read_table(tmp_path / "out.parquet").to_pylist()
    assert row["predicted_answer"] == "yes"
    assert [found["answer"] for found in row["predicted_answers"]] == ["yes", "no"]
    assert row["predicted_answers"][0]["confidence"] == row["predicted_confidence"] == pytest.approx(0.8807970779778823)


@pytest.mark.parametrize(
    ("columns", "why"),
    [
        ({"text": ["good"]}, "no text in 'review'; there is text"),
        ({"review": ["good"], "predicted_label": ["a"]}, "it has a column predicted_label already"),
    ],
)
def test_a_table_that_does_not_fit_is_refused(edge: Path, tmp_path: Path, columns: dict[str, list[Any]], why: str):
    with pytest.raises(UserError, match=why):
        scored(edge, table(tmp_path, **columns), tmp_path / "out.parquet", 1)


def test_what_is_no_parquet_is_refused(edge: Path, tmp_path: Path):
    (tmp_path / "in.parquet").write_text("review\ngood\n")
    with pytest.raises(UserError, match=r"in\.parquet: can't be read as Parquet"):
        scored(edge, tmp_path / "in.parquet", tmp_path / "out.parquet", 1)
    with pytest.raises(UserError, match=r"nowhere\.parquet: no such file, folder or match"):
        scored(edge, tmp_path / "nowhere.parquet", tmp_path / "out.parquet", 1)
    (tmp_path / "lines.jsonl").write_text('{"review": "good"}\n')
    with pytest.raises(UserError, match=r"lines\.jsonl: no \*\.parquet there"):
        scored(edge, tmp_path / "lines.jsonl", tmp_path / "out.parquet", 1)


def test_files_of_different_columns_are_refused(edge: Path, tmp_path: Path):
    folder = tmp_path / "in"
    folder.mkdir()
    table(folder, "a.parquet", review=["good"])
    table(folder, "b.parquet", review=["good"], number=[1])
    with pytest.raises(UserError, match="different columns"):
        scored(edge, folder, tmp_path / "out.parquet", 1)


def test_a_source_that_breaks_off_leaves_the_target_as_it_was(edge: Path, tmp_path: Path):
    source = tmp_path / "in.parquet"
    pq.write_table(pa.table({"review": TEXTS * 50}), source, row_group_size=100, use_dictionary=False)
    whole = bytearray(source.read_bytes())
    middle = pq.ParquetFile(source).metadata.row_group(5).column(0).data_page_offset
    whole[middle : middle + 40] = b"\xff" * 40
    source.write_bytes(whole)
    (tmp_path / "out.parquet").write_bytes(b"of yesterday")
    with pytest.raises(UserError, match=r"--input .*in\.parquet: its rows can't be read"):
        scored(edge, source, tmp_path / "out.parquet", 2)
    assert (tmp_path / "out.parquet").read_bytes() == b"of yesterday"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.parquet", "out.parquet"]


def test_a_target_that_cannot_be_written_is_told(edge: Path, tmp_path: Path):
    with pytest.raises(UserError, match=r"--output .*out\.parquet: can't write there"):
        scored(edge, table(tmp_path, review=["good"]), tmp_path / "nowhere" / "out.parquet", 1)


def test_a_folder_as_target_is_told_before_any_work(edge: Path, tmp_path: Path):
    with pytest.raises(UserError, match=r"--output .*: is a folder; name a file in it"):
        scored(edge, table(tmp_path, review=["good"]), tmp_path, 1)


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    with s3.served():
        yield f"s3://{s3.NAME}"


def put(folder: Path, key: str, **columns: list[Any]) -> None:
    boto3.client("s3").upload_file(str(table(folder, **columns)), s3.NAME, key)


def keys() -> set[str]:
    listed = boto3.client("s3").list_objects_v2(Bucket=s3.NAME)
    return {entry["Key"] for entry in listed.get("Contents", [])}


def test_a_buckets_table_is_scored_as_one_here_is(edge: Path, tmp_path: Path, bucket: str):
    put(tmp_path, "asked/b.parquet", review=TEXTS[10:])
    put(tmp_path, "asked/a.parquet", review=TEXTS[:10])
    put(tmp_path, "asked/a.csv", review=["no Parquet"])
    scored(edge, table(tmp_path, review=TEXTS), tmp_path / "here.parquet", 2)
    for source in ("asked", "asked/*.parquet"):
        assert score(edge, f"{bucket}/{source}", f"{bucket}/answers/out.parquet", 2) == Scored(20, 0)
        boto3.client("s3").download_file(s3.NAME, "answers/out.parquet", str(tmp_path / "there.parquet"))
        assert pq.read_table(tmp_path / "there.parquet").equals(pq.read_table(tmp_path / "here.parquet"))
    assert score(edge, f"{bucket}/asked/b.parquet", str(tmp_path / "one.parquet"), 1) == Scored(10, 0)


def test_what_fails_leaves_no_object(edge: Path, tmp_path: Path, bucket: str):
    put(tmp_path, "broken/a.parquet", review=["good"])
    put(tmp_path, "broken/b.parquet", number=[1])
    before = keys()
    with pytest.raises(UserError, match="different columns"):
        score(edge, f"{bucket}/broken", f"{bucket}/broken.parquet", 1)
    with pytest.raises(UserError, match=r"s3://elsewhere/out\.parquet: .*NoSuchBucket"):
        score(edge, f"{bucket}/broken/a.parquet", "s3://elsewhere/out.parquet", 1)
    for target in (bucket, f"{bucket}/", f"{bucket}/answers/"):
        with pytest.raises(UserError, match=f"--output {target}: names no file"):
            score(edge, f"{bucket}/broken/a.parquet", target, 1)
    assert keys() == before


def test_input_and_output_go_together():
    found = CliRunner().invoke(main, ["predict", "reviews", "--input", "in.parquet"])
    assert found.exit_code == 2
    assert "--input and --output go together" in found.output

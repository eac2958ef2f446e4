"""Rows in a bucket are read as those in a folder are."""

import json
from collections.abc import Iterator
from pathlib import Path

import boto3
import pandas as pd
import pytest

from potstill.data.read import check_source, stream_batches, stream_texts
from potstill.data.read import columns_of as columns_asked
from potstill.errors import UserError
from potstill.recipe import Data, Split, Task
from potstill.steps.ingest import ingest
from tests import s3

ROWS = pd.DataFrame({"text": [f"kettle number {i}" for i in range(60)], "mood": ["good", "bad", "fine"] * 20})
TASKS = {"mood": Task(kind="classification", label="mood")}


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with s3.served() as endpoint:
        yield endpoint


def put(key: str, file: Path) -> None:
    boto3.client("s3").upload_file(str(file), s3.NAME, key)


def asked(location: str) -> Data:
    return Data(source=location, text=["text"], split=Split(test=0.2, validation=0.2, seed=1))


def write(kind: str, file: Path) -> Path:
    if kind == "parquet":
        ROWS.to_parquet(file, row_group_size=7)
    elif kind == "csv":
        ROWS.to_csv(file, index=False)
    else:
        file.write_text("".join(json.dumps(row) + "\n" for row in ROWS.to_dict("records")), encoding="utf-8")
    return file


@pytest.mark.parametrize("kind", ["parquet", "csv", "jsonl"])
def test_each_kind_of_file_gives_the_rows_that_it_gives_here(server: str, tmp_path: Path, kind: str):
    here = write(kind, tmp_path / f"rows.{kind}")
    put(f"{kind}/rows.{kind}", here)
    columns = columns_asked(asked("any"), TASKS)
    there = [*stream_batches(f"s3://{s3.NAME}/{kind}", columns)]
    assert [batch.table for batch in there] == [batch.table for batch in stream_batches(str(here), columns)]
    assert there[0].file == f"s3://{s3.NAME}/{kind}/rows.{kind}"
    assert [*stream_texts(f"s3://{s3.NAME}/{kind}/*.{kind}", ["text"], pair=False)] == ROWS.text.tolist()


def test_ingest_makes_the_same_dataset_of_them(server: str, tmp_path: Path):
    here = write("parquet", tmp_path / "rows.parquet")
    put("ingest/rows.parquet", here)
    data = asked(f"s3://{s3.NAME}/ingest/*.parquet")
    check_source(data, TASKS)
    for name, source in (("there", data), ("here", asked(str(here)))):
        ingest(source, TASKS, tmp_path / name)
    told = [json.loads((tmp_path / name / "schema.json").read_text(encoding="utf-8")) for name in ("there", "here")]
    assert told[0]["digest"] == told[1]["digest"]


def test_what_writers_of_datasets_leave_is_passed_over(server: str, tmp_path: Path):
    here = write("csv", tmp_path / "rows.csv")
    for key in ("left/rows.csv", "left/_temporary/rows.csv", "left/.part.csv"):
        put(key, here)
    assert len([*stream_texts(f"s3://{s3.NAME}/left", ["text"], pair=False)]) == len(ROWS)


@pytest.mark.parametrize(
    ("key", "content", "told"),
    [
        ("none/rows.csv", None, "no such object, folder or match"),
        ("odd/rows.txt", b"text\n", "holds no object ending in .parquet"),
        ("empty/rows.csv", b"", "the file is empty"),
        ("torn/rows.parquet", b"PAR1 torn", "can't be read as Parquet"),
        ("other/rows.csv", b"texts,mood\na,b\n", "no column 'text' for the text; did you mean 'texts'"),
        ("latin/rows.csv", "text,mood\nthé,b\n".encode("latin-1"), "line 2 holds 0xe9"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(server: str, key: str, content: bytes | None, told: str):
    if content is not None:
        boto3.client("s3").put_object(Bucket=s3.NAME, Key=key, Body=content)
    with pytest.raises(UserError, match=rf"s3://shop/{key.split('/')[0]}.*{told}"):
        [*stream_batches(f"s3://{s3.NAME}/{key.split('/')[0]}", columns_asked(asked("any"), TASKS))]

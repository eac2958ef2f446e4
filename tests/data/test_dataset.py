"""What is written to a dataset folder is what is read from it."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from potstill.data.dataset import Rows, Schema, ShardWriter, read_rows, read_schema, read_span, write_schema
from potstill.errors import UserError
from potstill.inputs import Features
from potstill.outcomes import Classification, Retrieval

SCHEMA = Schema(
    task="intent",
    outcome=Classification(("café", "tea")),
    text=("question",),
    label=("intent",),
    features=Features(),
    reference=(),
    group=None,
    weight=None,
    rows={"train": 7, "validation": 0, "test": 0},
    rejected={"duplicate": 1},
    digest="0" * 64,
)
FIELDS = pa.schema([("row", pa.string()), ("text", pa.string()), ("label", pa.string())])


def table(numbers):
    labels = ["tea" if i % 2 else "café" for i in numbers]
    return pa.table({"row": [f"r{i}" for i in numbers], "text": [f"t{i}" for i in numbers], "label": labels}, FIELDS)


def test_schema_survives_the_round_trip(tmp_path):
    write_schema(tmp_path, SCHEMA)

    assert read_schema(tmp_path) == SCHEMA
    assert read_schema(tmp_path).outcome.names == ("café", "tea")


def test_a_folder_without_a_schema_is_no_dataset(tmp_path):
    for content in (None, "{", "[]", '{"task": "x"}'):
        if content is not None:
            (tmp_path / "schema.json").write_text(content)
        with pytest.raises(UserError, match=r"not a dataset: schema\.json is missing or broken"):
            read_schema(tmp_path)


def test_tables_of_any_size_fill_shards_of_the_asked_size(tmp_path):
    write_schema(tmp_path, SCHEMA)
    with ShardWriter(tmp_path / "train", FIELDS, shard_rows=3) as shards:
        for numbers in ([0], [1, 2, 3, 4, 5], [], [6]):
            shards.write(table(numbers))

    sizes = [pq.read_metadata(path).num_rows for path in sorted((tmp_path / "train").iterdir())]
    assert sizes == [3, 3, 1]
    rows = read_rows(tmp_path, "train", SCHEMA)
    assert rows.row == ["r0", "r1", "r2", "r3", "r4", "r5", "r6"]
    assert rows.text[6] == "t6"
    assert rows.value.tolist() == [0, 1, 0, 1, 0, 1, 0]
    assert len(rows) == 7


def test_any_span_of_rows_can_be_read_across_shards_and_row_groups(tmp_path):
    with ShardWriter(tmp_path / "train", FIELDS, shard_rows=5) as shards:
        for numbers in (range(3), range(3, 4), range(4, 13)):
            shards.write(table(numbers))

    for start in range(13):
        for stop in range(start + 1, 14):
            rows = read_span(tmp_path, "train", SCHEMA, range(start, stop))
            assert rows.row == [f"r{i}" for i in range(start, stop)]
            assert rows.value.tolist() == [i % 2 for i in range(start, stop)]


def test_a_span_is_read_without_the_shards_that_hold_none_of_it(tmp_path):
    with ShardWriter(tmp_path / "train", FIELDS, shard_rows=5) as shards:
        shards.write(table(range(20)))
    for other in (1, 3):
        (tmp_path / "train" / f"part-0000{other}.parquet").unlink()

    assert read_span(tmp_path, "train", SCHEMA, range(11, 14)).text == ["t11", "t12", "t13"]


def test_a_split_without_rows_can_be_read(tmp_path):
    with ShardWriter(tmp_path / "validation", FIELDS, shard_rows=5):
        pass

    assert len(read_rows(tmp_path, "validation", SCHEMA)) == 0


def test_the_first_rows_of_a_retrieval_are_found_among_their_own_answers():
    answers = ["c", "a", "c", "b"]
    rows = Rows(["0", "1", "2", "3"], ["q"] * 4, Retrieval().encode(answers), [{}] * 4, answer=answers)
    assert rows.value.tolist() == [2, 0, 2, 1]
    assert rows.first(1).value.tolist() == [0]
    assert rows.first(3).catalogue == ["a", "c"]
    assert rows.first(3).value.tolist() == [1, 0, 1]

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from potstill.data.rows import batches, sample
from potstill.errors import UserError


def jsonl(path: Path, rows: list[dict[str, object]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_every_kind_of_file_gives_the_same_rows_and_a_mark_before_them_is_no_part_of_a_name(tmp_path: Path):
    rows = [{"text": "good", "price": "2"}, {"text": "bad, really", "price": "3"}]
    jsonl(tmp_path / "a.jsonl", rows)
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "b.parquet")
    (tmp_path / "c.csv").write_text('\ufefftext,price\ngood,2\n"bad, really",3\n', encoding="utf-8")
    for file in tmp_path.iterdir():
        assert list(batches(file)) == [[(1, rows[0]), (2, rows[1])]]


def test_a_sample_is_of_all_files_and_each_row_is_as_likely_as_any(tmp_path: Path):
    for part in range(4):
        jsonl(tmp_path / f"{part}.jsonl", [{"id": 250 * part + i} for i in range(250)])
    drawn, total = sample(str(tmp_path), 400, seed=1)
    ids = [row["id"] for row in drawn]
    assert (total, len(ids), len(set(ids))) == (1000, 400, 400)
    # Of each quarter 100 are expected; a fair draw strays by 8 or so.
    assert all(70 < sum(250 * part <= i < 250 * (part + 1) for i in ids) < 130 for part in range(4))
    assert sample(str(tmp_path), 400, seed=1)[0] == drawn
    assert sample(str(tmp_path), 400, seed=2)[0] != drawn


def test_fewer_rows_than_asked_for_are_all_taken_in_order(tmp_path: Path):
    rows = [{"id": i} for i in range(3)]
    assert sample(str(jsonl(tmp_path / "a.jsonl", rows)), 5, seed=1) == (rows, 3)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.jsonl", b'{"id": 1}\n{"id": \n', r"a\.jsonl: item 2: not valid JSON"),
        ("a.parquet", b"PAR1 not really", r"a\.parquet: can't be read"),
        ("a.csv", b"text\n\xff\xfe\n", r"a\.csv: can't be read"),
    ],
)
def test_what_can_not_be_read_is_named_once(tmp_path: Path, name: str, content: bytes, words: str):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=words) as told:
        sample(str(tmp_path), 5, seed=1)
    assert str(told.value).count(name) == 1

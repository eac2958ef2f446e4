import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from potstill.errors import UserError
from potstill.learn import signals
from potstill.learn.signals import (
    Batch,
    Content,
    complete,
    is_written,
    join_signals,
    read_manifest,
    read_signals,
    table_digest,
    write_part,
)
from potstill.store import Folder
from tests.found import only

CONTENT = Content("t", "d", (("mood", ("bad", "good")),))
BOTH = Content("t", "d", (("mood", ("bad", "good")), ("kind", ("tea", "pot", "cup"))))
LOGITS = np.array([[1.5, -2.25], [0.0, 3.0], [-7.5, 0.125]], dtype=np.float32)


def batch(split: str, rows: list[str], logits: np.ndarray, **more: np.ndarray) -> Batch:
    return Batch(split, rows, logits, np.zeros(len(rows), np.int16), **more)


def write(folder: Path, content: Content = CONTENT) -> Path:
    write_part(Folder(folder), content, 0, batch("train", ["aa", "bb"], LOGITS[:2]))
    write_part(Folder(folder), content, 1, batch("test", ["cc"], LOGITS[2:]))
    assert complete(Folder(folder), content, 2) is not None
    return folder


def test_logits_come_back_joined_by_row_and_not_by_order(tmp_path: Path):
    assert read_signals(write(tmp_path), ["cc", "aa"]).tolist() == [[-7.5, 0.125], [1.5, -2.25]]


def test_a_row_that_came_again_gets_its_logits_again(tmp_path: Path):
    assert read_signals(write(tmp_path), ["cc", "aa", "cc"]).tolist() == [[-7.5, 0.125], [1.5, -2.25], [-7.5, 0.125]]


def test_no_rows_get_none(tmp_path: Path):
    assert read_signals(write(tmp_path), []).shape == (0, 2)


def test_blocks_in_any_order_get_what_is_theirs(tmp_path: Path):
    rows = [f"row {i}" for i in range(100)]
    for part in range(10):
        logits = np.array([[i, -i] for i in range(10 * part, 10 * part + 10)], dtype=np.float32)
        write_part(Folder(tmp_path), CONTENT, part, batch("train", rows[10 * part : 10 * part + 10], logits))
    complete(Folder(tmp_path), CONTENT, 10)
    order = np.random.default_rng(0).permutation(100).tolist()
    for asked in (list(range(100)), order, order[:7] * 3):
        blocks = [pa.array([rows[i] for i in asked[start : start + 13]]) for start in range(0, len(asked), 13)]
        found = np.concatenate(list(join_signals(tmp_path, blocks)))
        assert found[:, 0].tolist() == asked


def test_rows_in_the_order_of_the_table_read_each_part_about_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    rows = [f"row {i}" for i in range(60)]
    for part in range(6):
        write_part(Folder(tmp_path), CONTENT, part, batch("train", rows[10 * part : 10 * part + 10], np.zeros((10, 2))))
    complete(Folder(tmp_path), CONTENT, 6)
    read = []
    load = signals._Table._load
    monkeypatch.setattr(signals._Table, "_load", lambda self, part: read.append(part.name) or load(self, part))
    list(join_signals(tmp_path, (pa.array(rows[start : start + 15]) for start in range(0, 60, 15))))
    assert read == sorted(set(read))


def test_each_task_has_rows_of_its_own_and_they_come_back_side_by_side(tmp_path: Path):
    logits = np.arange(10, dtype=np.float32).reshape(2, 5)
    write_part(Folder(tmp_path), BOTH, 0, batch("train", ["aa", "bb"], logits))
    complete(Folder(tmp_path), BOTH, 1)
    table = pd.read_parquet(only(tmp_path, "part-00000-*"))
    assert list(zip(table["row"], table["task"], strict=True)) == [
        ("aa", "mood"),
        ("bb", "mood"),
        ("aa", "kind"),
        ("bb", "kind"),
    ]
    assert [values.tolist() for values in table["logits"]] == [[0, 1], [5, 6], [2, 3, 4], [7, 8, 9]]
    assert read_signals(tmp_path, ["bb", "aa"]).tolist() == logits[::-1].tolist()


def test_pooled_vectors_stand_beside_the_logits(tmp_path: Path):
    content = Content("t", "d", CONTENT.tasks, vectors=True)
    vectors = np.array([[[1, 2, 3]], [[4, 5, 6]]], dtype=np.float32)
    write_part(Folder(tmp_path), content, 0, batch("train", ["aa", "bb"], LOGITS[:2], vectors=vectors))
    complete(Folder(tmp_path), content, 1)
    assert read_signals(tmp_path, ["bb", "aa"], "vector").tolist() == [[4, 5, 6], [1, 2, 3]]
    assert read_signals(tmp_path, ["bb", "aa"]).tolist() == [[0.0, 3.0], [1.5, -2.25]]


def test_anyone_can_read_the_table_with_pandas_or_duckdb(tmp_path: Path):
    write(tmp_path)
    table = pd.read_parquet(tmp_path)
    assert table["row"].tolist() == ["aa", "bb", "cc"]
    assert table["split"].tolist() == ["train", "train", "test"]
    assert np.stack(table["logits"].to_numpy()).tolist() == LOGITS.tolist()
    query = f"select row, task, teacher, logits[1] from '{tmp_path}/*.parquet' order by row"
    assert duckdb.sql(query).fetchall() == [("aa", "mood", 0, 1.5), ("bb", "mood", 0, 0.0), ("cc", "mood", 0, -7.5)]


def test_logits_are_stored_as_float16_and_the_manifest_says_what_they_are(tmp_path: Path):
    write(tmp_path)
    assert str(pq.read_schema(only(tmp_path, "part-00000-*")).field("logits").type.value_type) == "halffloat"
    manifest = read_manifest(tmp_path)
    assert manifest.content == CONTENT
    assert (manifest.width, manifest.rows, [part.rows for part in manifest.parts]) == (2, 3, [2, 1])


def test_a_row_without_logits_is_refused(tmp_path: Path):
    with pytest.raises(UserError, match="no teacher's view of 1 of 2 rows, such as zz"):
        read_signals(write(tmp_path), ["aa", "zz"])


def test_a_tampered_part_is_named(tmp_path: Path):
    part = only(write(tmp_path), "part-00001-*")
    part.write_bytes(part.read_bytes()[:-1] + b"X")
    with pytest.raises(UserError, match=r"part-00001-.*\.parquet.*not the one that the manifest names"):
        read_signals(tmp_path, ["cc"])


def test_a_missing_part_is_named(tmp_path: Path):
    only(write(tmp_path), "part-00000-*").unlink()
    with pytest.raises(UserError, match=r"part-00000-.*\.parquet.*missing"):
        read_signals(tmp_path, ["aa"])


def test_without_a_manifest_there_is_no_table(tmp_path: Path):
    write_part(Folder(tmp_path), CONTENT, 0, batch("train", ["aa"], LOGITS[:1]))
    with pytest.raises(UserError, match=r"_manifest\.json: no table of signals"):
        read_signals(tmp_path, ["aa"])


def test_only_whole_parts_of_this_very_table_count_as_written(tmp_path: Path):
    write(tmp_path)
    assert is_written(Folder(tmp_path), CONTENT, 0)
    assert not is_written(Folder(tmp_path), CONTENT, 2)
    assert not is_written(Folder(tmp_path), Content("another", "d", CONTENT.tasks), 0)
    torn = only(tmp_path, "part-00000-*")
    torn.write_bytes(torn.read_bytes()[:-9])
    assert not is_written(Folder(tmp_path), CONTENT, 0)
    torn.unlink()
    assert not is_written(Folder(tmp_path), CONTENT, 0)


def test_a_part_without_its_receipt_is_as_good_as_none(tmp_path: Path):
    write(tmp_path)
    (tmp_path / "_part-00001.json").write_text('{"table": "cut o', encoding="utf-8")
    assert not is_written(Folder(tmp_path), CONTENT, 1)
    assert complete(Folder(tmp_path), CONTENT, 2) is None


def test_killed_while_writing_a_part_leaves_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def die(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", die)
    with pytest.raises(KeyboardInterrupt):
        write_part(Folder(tmp_path), CONTENT, 0, batch("train", ["aa"], LOGITS[:1]))
    monkeypatch.undo()
    assert not is_written(Folder(tmp_path), CONTENT, 0)
    assert not list(tmp_path.glob("*.parquet"))


def test_of_two_that_write_the_same_part_the_first_counts(tmp_path: Path):
    write(tmp_path)
    told = table_digest(tmp_path)
    write_part(Folder(tmp_path), CONTENT, 0, batch("train", ["aa", "bb"], LOGITS[:2] + 1))
    assert complete(Folder(tmp_path), CONTENT, 2) is not None
    assert table_digest(tmp_path) == told
    assert read_signals(tmp_path, ["aa"]).tolist() == [[1.5, -2.25]]
    assert len(list(tmp_path.glob("*.parquet"))) == 2


def test_many_that_fill_one_table_at_a_time_leave_one_whole_table(tmp_path: Path):
    def fill(writer: int) -> None:
        for number, rows in enumerate((["aa", "bb"], ["cc"])):
            # In the last bits of a float, two machines may differ.
            write_part(
                Folder(tmp_path), CONTENT, number, batch("train", rows, np.full((len(rows), 2), 1 + writer / 64))
            )
        complete(Folder(tmp_path), CONTENT, 2)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(fill, range(8)))
    assert complete(Folder(tmp_path), CONTENT, 2) is not None
    first, second = read_signals(tmp_path, ["aa", "cc"]).tolist()
    assert {*first, *second} <= {1 + writer / 64 for writer in range(8)}
    assert len(list(tmp_path.glob("*.parquet"))) == 2


def test_a_part_that_a_killed_writer_left_is_no_rows(tmp_path: Path):
    (tmp_path / "part-00000-0123456789ab.parquet").write_bytes(b"nobody's")
    write(tmp_path)
    assert pd.read_parquet(tmp_path).row.tolist() == ["aa", "bb", "cc"]


def test_the_address_says_all_that_decides_the_content():
    others = [
        Content("u", "d", CONTENT.tasks),
        Content("t", "e", CONTENT.tasks),
        Content("t", "d", BOTH.tasks),
        Content("t", "d", CONTENT.tasks, vectors=True),
        Content("t", "d", CONTENT.tasks, part_rows=7),
    ]
    assert CONTENT.address == Content("t", "d", (("mood", ("bad", "good")),)).address
    assert len({content.address for content in [CONTENT, *others]}) == 6


def test_the_same_rows_make_the_same_table_whoever_writes_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        write(tmp_path / name)
        monkeypatch.setattr(os, "getpid", lambda: 7)
    assert table_digest(tmp_path / "one") == table_digest(tmp_path / "two")
    told = json.loads((tmp_path / "one" / "_manifest.json").read_text(encoding="utf-8"))
    told["parts"][0]["sha256"] = "0"
    (tmp_path / "one" / "_manifest.json").write_text(json.dumps(told), encoding="utf-8")
    assert table_digest(tmp_path / "one") != table_digest(tmp_path / "two")


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e6])
def test_logits_that_float16_can_not_hold_are_refused(tmp_path: Path, bad: float):
    with pytest.raises(ValueError, match="not finite in float16"):
        write_part(Folder(tmp_path), CONTENT, 0, batch("train", ["aa"], np.array([[bad, 0.0]], dtype=np.float32)))
    assert not list(tmp_path.glob("*.parquet"))


@pytest.mark.parametrize("order", [range(100), range(99, -1, -1)], ids=["up", "down"])
def test_shards_that_end_one_by_one_look_at_few_receipts_of_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, order: range
):
    looks, look = [], signals._receipt
    monkeypatch.setattr(signals, "_receipt", lambda table, number: looks.append(number) or look(table, number))
    for ended, part in enumerate(order, 1):
        write_part(Folder(tmp_path), CONTENT, part, batch("train", [f"row {part}"], LOGITS[:1]))
        assert (complete(Folder(tmp_path), CONTENT, 100) is not None) == (ended == 100)
    # 100 · ln 100 is 460; all by all would be 5,000 and more.
    assert len(looks) < 1_000
    assert [part.name[:10] for part in read_manifest(tmp_path).parts] == [f"part-{i:05d}" for i in range(100)]

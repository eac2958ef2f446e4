"""An extraction in shards: the same table, none of a shard's work twice, and a shard that is missing."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from potstill.data.dataset import Rows, read_schema
from potstill.errors import UserError
from potstill.learn.shards import Shard
from potstill.learn.signals import read_manifest, table_digest
from potstill.learn.teachers import Scorer
from potstill.recipe import Data, Signals, Task, Teacher
from potstill.shelves import shelf_at, shelf_behind
from potstill.steps.extract import extract
from potstill.steps.ingest import ingest
from potstill.steps.shards import divide, join
from potstill.steps.teach import teach
from potstill.store import Folder, Shelf
from tests import s3
from tests.conftest import reviews
from tests.found import only
from tests.steps.conftest import QUICK, Line

THREE = Signals(shards=3, part_rows=50)


def digests(line: Line) -> tuple[str, str]:
    return read_schema(line.dataset).digest, "t"


def extracted(line: Line, number: int, to: Path, store: Shelf, settings: Signals = THREE) -> dict[str, float]:
    """One of three shards."""
    signals = to / f"shard-{number}"
    return extract(line.dataset, line.teacher, signals, settings, *digests(line), store, shards=3, shard=number)


def joined(line: Line, to: Path, store: Shelf, settings: Signals = THREE) -> dict[str, float]:
    return join(line.dataset, to / "signals", settings, *digests(line), store, 3)


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory, encoder: Path, reviews_file: Path) -> Line:
    """Two tasks, rows without a label, and a cross-fitted teacher with another one beside it."""
    root = tmp_path_factory.mktemp("everything")
    pq.write_table(pa.table({"text": reviews(340)["text"][240:]}), root / "pool.parquet")
    data = Data(source=str(reviews_file), unlabelled=str(root / "pool.parquet"))
    quick = {**QUICK, "epochs": 1, "encoder": str(encoder), "max_tokens": 16}
    made = Line(root, Teacher.model_validate(quick | {"others": [{"seed": 8}]}))
    ingest(data, {"sentiment": Task(label="sentiment"), "product": Task(label="product")}, made.dataset)
    teach(made.dataset, made.settings, made.teacher, cross_fit=2)
    return made


@pytest.fixture(params=["folder", "bucket"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Shelf]:
    if request.param == "folder":
        yield Folder(tmp_path / "store")
        return
    with s3.served():
        yield shelf_at(f"s3://{s3.NAME}/store")


def test_shards_of_every_kind_of_signals_make_the_table_that_one_extraction_makes(
    everything: Line, tmp_path: Path, store: Shelf
):
    settings = Signals(shards=3, part_rows=50, cross_fit=2, vectors=True)
    found = [extracted(everything, number, tmp_path, store, settings) for number in (2, 0, 1)]
    rows = joined(everything, tmp_path, store, settings)["rows"]
    assert rows == sum(shard["rows"] for shard in found) == sum(shard["rows_scored"] for shard in found) == 340
    extract(everything.dataset, everything.teacher, tmp_path / "alone", settings, *digests(everything))
    assert table_digest(tmp_path / "signals") == table_digest(tmp_path / "alone")
    by = [pq.read_table(part)["teacher"].to_pylist() for part in sorted((tmp_path / "alone").glob("part-*.parquet"))]
    assert {number for part in by for number in part} == {0, 1, 2}


def test_a_killed_shard_goes_on_where_it_stopped_beside_the_others(
    line: Line, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    store, score, scored = Folder(tmp_path / "store"), Scorer.score, []

    def dying(self: Scorer, rows: Rows) -> Any:
        scored.append(len(rows))
        if len(scored) == 2:
            raise KeyboardInterrupt
        return score(self, rows)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(Scorer, "score", dying)
        extracted(line, 0, tmp_path, store)
    assert not (tmp_path / "shard-0").exists()
    for number in (1, 2):
        extracted(line, number, tmp_path, store)
    with pytest.raises(UserError, match=r"shard 1-of-3 lacks 2 of 3 parts \(part 3\); run again"):
        joined(line, tmp_path, store)
    found = extracted(line, 0, tmp_path, store)
    assert found["rows_scored"] == found["rows"] - scored[0] > 0
    joined(line, tmp_path, store)
    assert table_digest(tmp_path / "signals") == table_digest(line.signals)


def test_shards_that_are_missing_are_named(line: Line, tmp_path: Path, store: Shelf):
    extracted(line, 1, tmp_path, store)
    with pytest.raises(UserError, match=r"/store/\w{64}: shard 1-of-3 lacks 3 .*, shard 3-of-3 lacks 2 of 2 parts"):
        joined(line, tmp_path, store)
    assert not (tmp_path / "signals").exists()


def test_a_shard_whose_part_was_torn_is_done_no_more_and_alone_is_extracted_anew(line: Line, tmp_path: Path):
    store = Folder(tmp_path / "store")
    for number in range(3):
        extracted(line, number, tmp_path, store)
    joined(line, tmp_path, store)
    table = shelf_behind(tmp_path / "signals").path
    only(table, "part-00001-*.parquet").write_bytes(b"torn")
    # As whoever reads the part says to do.
    (table / "_manifest.json").unlink()
    with pytest.raises(UserError, match=r"shard 2-of-3 lacks 1 of 2 parts \(part 1\)"):
        joined(line, tmp_path, store)
    for number in (0, 2):
        assert shelf_behind(tmp_path / f"shard-{number}").path == table
    with pytest.raises(UserError, match="it is gone"):
        shelf_behind(tmp_path / "shard-1")
    assert extracted(line, 1, tmp_path, store)["rows_scored"] == 50
    joined(line, tmp_path, store)
    assert table_digest(tmp_path / "signals") == table_digest(line.signals)


def test_a_part_that_went_before_its_manifest_is_missed(line: Line, tmp_path: Path, store: Shelf):
    for number in range(3):
        extracted(line, number, tmp_path, store)
    joined(line, tmp_path, store)
    table = shelf_behind(tmp_path / "signals")
    table.remove(next(part.name for part in read_manifest(tmp_path / "signals").parts if "-00002-" in part.name))
    with pytest.raises(UserError, match=r"shard 3-of-3 lacks 1 of 2 parts \(part 2\); run again"):
        joined(line, tmp_path, store)
    assert extracted(line, 2, tmp_path, store)["rows_scored"] == 50
    joined(line, tmp_path, store)
    assert table_digest(tmp_path / "signals") == table_digest(line.signals)


def test_no_shard_is_without_a_part_and_each_part_is_one_shards(line: Line):
    parts = len(read_manifest(line.signals).parts)
    for asked, given in ((1, 1), (4, 4), (16, parts)):
        shards = divide(line.dataset, Signals(shards=asked, part_rows=50))
        assert len(shards) == given
        assert sorted(part for shard in shards for part in shard.own(parts)) == [*range(parts)]
        assert all(len(shard.own(parts)) for shard in shards)


@pytest.mark.parametrize(("shard", "name"), [(Shard(), ""), (Shard(0, 4), "1-of-4"), (Shard(15, 16), "16-of-16")])
def test_a_shard_is_known_by_its_name(shard: Shard, name: str):
    assert (shard.name, Shard.named(name)) == (name, shard)


def test_shards_without_a_store_are_refused(line: Line, tmp_path: Path):
    with pytest.raises(UserError, match=r"signals\.shards: 3 fill one table in a store .* there is none"):
        extract(line.dataset, line.teacher, tmp_path / "signals", THREE, *digests(line), shards=3)

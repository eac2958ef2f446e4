"""Runs whose extraction falls into shards that fill one table side by side."""

import json
from pathlib import Path
from typing import Any

import pytest

from potstill.data.dataset import read_schema
from potstill.learn.signals import MANIFEST, read_manifest, table_digest
from potstill.recipe import Signals
from potstill.shelves import shelf_behind
from potstill.steps.extract import extract
from tests.found import only
from tests.pipelines.conftest import STEPS, Shop, ran

SHARDS = {f"extract-{number}-of-3" for number in (1, 2, 3)}
THREE = "signals={shards: 3, part_rows: 50}", "teacher.epochs=1", "distill.epochs=1"


@pytest.fixture(scope="module")
def first(shop: Shop) -> dict[str, Any]:
    return shop.run(*THREE)


def test_shards_side_by_side_make_the_table_that_one_extraction_makes(
    shop: Shop, first: dict[str, Any], tmp_path: Path
):
    assert ran(first) == (STEPS - {"extract"}) | SHARDS | {"divide", "join"}
    run = shop.root / "latest"
    signals = run / "join" / "signals"
    content = read_manifest(signals).content
    digests = content.dataset_digest, content.teacher_digest
    dataset = run / "ingest" / "dataset"
    assert digests[0] == read_schema(dataset).digest
    extract(dataset, run / "teach" / "teacher", tmp_path / "alone", Signals(part_rows=50), *digests)
    # So a student, which is known by this digest, is the same.
    assert table_digest(signals) == table_digest(tmp_path / "alone")
    assert [path.name for path in signals.iterdir()] == ["elsewhere.json"]


def test_mlflow_names_each_shards_run(shop: Shop, first: dict[str, Any]):
    client = shop.client()
    experiment = client.get_experiment_by_name("tiny")
    found = client.search_runs([experiment.experiment_id], "tags.`potstill.step` LIKE 'extract-%'")
    assert {run.info.run_name for run in found} == SHARDS
    assert sum(run.data.metrics["rows"] for run in found) == sum(first["rows"].values()) == 240


def test_a_shard_that_lacks_a_part_is_named_and_alone_is_extracted_anew(shop: Shop, first: dict[str, Any]):
    table = shelf_behind(shop.root / "latest" / "join" / "signals").path
    told = json.loads((table / MANIFEST).read_text(encoding="utf-8"))
    (table / MANIFEST).unlink()
    only(table, "part-00001-*.parquet").unlink()
    done = shop.potstill("run", str(shop.recipe), *(word for setting in THREE for word in ("--set", setting)))
    assert done.returncode == 2
    assert f"join: {table}: shard 2-of-3 lacks 1 of 2 parts (part 1); run again" in done.stderr
    mended = shop.run(*THREE)
    # It wrote the manifest, too: the same, so all that came after it is found again.
    assert ran(mended) == {"doctor", "ingest", "extract-2-of-3", "champion", "register"}
    assert "50 rows scored by the teacher" in mended["stdout"]
    assert json.loads((table / MANIFEST).read_text(encoding="utf-8")) == told

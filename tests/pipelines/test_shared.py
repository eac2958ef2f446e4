"""A run whose artifacts lie in a bucket, and another machine that finds them there."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import boto3
import pytest

from tests import s3
from tests.pipelines.conftest import STEPS, Shop, ran

ALWAYS = {"doctor", "ingest", "champion", "register"}


@pytest.fixture
def server() -> Iterator[str]:
    with s3.served() as endpoint:
        yield endpoint


def keys(prefix: str) -> set[str]:
    pages = boto3.client("s3").get_paginator("list_objects_v2").paginate(Bucket=s3.NAME, Prefix=prefix)
    return {entry["Key"].removeprefix(prefix) for page in pages for entry in page.get("Contents", [])}


def test_another_machine_with_the_same_store_repeats_nothing(
    shop: Shop, server: str, reviews_file: Path, tmp_path: Path
):
    boto3.client("s3").upload_file(str(reviews_file), s3.NAME, "rows/reviews.parquet")
    flags = ["--store", f"s3://{s3.NAME}/potstill", "--set", f"data.source=s3://{s3.NAME}/rows/*.parquet"]
    done = shop.potstill("run", str(shop.recipe), *flags)
    assert done.returncode == 0, done.stdout + done.stderr
    first = (shop.root / "latest").resolve()
    assert ran(json.loads((first / "summary.json").read_text(encoding="utf-8"))) == STEPS
    kept = keys(f"potstill/runs/{first.name}/")
    here = {path.relative_to(first).as_posix() for path in first.rglob("*") if path.is_file()}
    assert here <= kept
    assert {"summary.json", "report.html", "_whole.json", "teach/teacher/_whole.json"} <= kept
    assert not keys("potstill/checkpoints/")
    assert {Path(key).suffix for key in keys("potstill/signals/")} == {".parquet", ".json"}

    elsewhere = replace(shop, root=tmp_path / "elsewhere")
    done = elsewhere.potstill("run", str(shop.recipe), *flags)
    assert done.returncode == 0, done.stdout + done.stderr
    again = json.loads((elsewhere.root / "latest" / "summary.json").read_text(encoding="utf-8"))
    assert ran(again) == ALWAYS
    assert again["models"] == json.loads((first / "summary.json").read_text(encoding="utf-8"))["models"]


def test_a_store_out_of_reach_is_told_before_any_work(shop: Shop, server: str):
    done = shop.potstill("run", str(shop.recipe), "--store", "s3://nowhere/potstill")
    assert done.returncode == 2
    assert "doctor: s3://nowhere/potstill/doctor/" in done.stderr
    assert "there is no such bucket" in done.stderr
    assert "Traceback" not in done.stdout + done.stderr

"""What is kept in a store comes back as it was, or not at all."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from kfp import dsl
from rich.console import Console

from potstill.errors import UserError
from potstill.follow import Follower
from potstill.local.cache import DigestCache
from potstill.local.kept import WHOLE, keep, restore
from potstill.store import Folder, Shelf
from tests import s3


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with s3.served() as endpoint:
        yield endpoint


def made(folder: Path) -> Path:
    (folder / "deep").mkdir(parents=True)
    (folder / "a.txt").write_text("one", encoding="utf-8")
    (folder / "deep" / "b.txt").write_text("two", encoding="utf-8")
    return folder


def files(folder: Path) -> dict[str, str]:
    found = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_text(encoding="utf-8") for path in found}


def test_a_folder_and_a_file_come_back(tmp_path: Path):
    shelf, there = Folder(tmp_path / "store"), tmp_path / "there"
    keep(made(tmp_path / "here" / "model"), shelf)
    keep(tmp_path / "here" / "model" / "a.txt", shelf)
    assert restore(there / "model", shelf)
    assert restore(there / "a.txt", shelf)
    assert files(there) == {"model/a.txt": "one", "model/deep/b.txt": "two", "a.txt": "one"}


def test_what_is_not_there_or_not_whole_does_not_come_back(tmp_path: Path):
    shelf = Folder(tmp_path / "store")
    assert not restore(tmp_path / "none", shelf)
    keep(made(tmp_path / "here" / "model"), shelf)
    (tmp_path / "store" / "model" / "deep" / "b.txt").unlink()
    assert not restore(tmp_path / "there" / "model", shelf)
    (tmp_path / "store" / "model" / WHOLE).unlink()
    assert not restore(tmp_path / "there" / "model", shelf)
    assert files(tmp_path / "there") == {}


def test_what_was_changed_in_the_store_is_named_and_leaves_nothing_here(tmp_path: Path):
    keep(made(tmp_path / "here" / "model"), Folder(tmp_path / "store"))
    (tmp_path / "store" / "model" / "a.txt").write_text("other", encoding="utf-8")
    with pytest.raises(UserError, match=r"model/a\.txt: its content isn't what was kept there"):
        restore(tmp_path / "there" / "model", Folder(tmp_path / "store"))
    assert not (tmp_path / "there" / "model").exists()


def test_what_is_there_already_is_not_put_again(server: str, tmp_path: Path):
    shelf = shelf_of_bucket()
    folder = made(tmp_path / "model")
    keep(folder, shelf)
    first = stamps()
    (folder / "a.txt").write_text("new", encoding="utf-8")
    keep(folder, shelf)
    changed = {key for key, stamp in stamps().items() if stamp != first[key]}
    assert "kept/model/deep/b.txt" not in changed
    assert "kept/model/a.txt" in changed


def shelf_of_bucket() -> Shelf:
    from potstill.bucket import Bucket

    return Bucket(f"s3://{s3.NAME}/kept")


def stamps() -> dict[str, Any]:
    store = boto3.client("s3")
    store.put_bucket_versioning(Bucket=s3.NAME, VersioningConfiguration={"Status": "Enabled"})
    found = store.list_objects_v2(Bucket=s3.NAME, Prefix="kept/")["Contents"]
    return {entry["Key"]: store.head_object(Bucket=s3.NAME, Key=entry["Key"]).get("VersionId") for entry in found}


def cache_in(root: Path, store: Shelf | None) -> DigestCache:
    root.mkdir(parents=True, exist_ok=True)
    with (root / "log").open("w", encoding="utf-8") as log:
        cache = DigestCache(str(root / "cache"), Follower(log, Console()), store)
    cache._follower.reused = lambda _: None  # type: ignore[method-assign]
    cache._asked["key"] = "teach"
    return cache


@pytest.mark.parametrize("name", ["plain", 'Über \\ "quoted"'])
def test_another_machine_finds_a_result_under_its_own_root(tmp_path: Path, name: str):
    store, here, there = Folder(tmp_path / "store"), tmp_path / name / "here", tmp_path / name / "there"
    teacher = made(here / "run-1" / "teach" / "teacher")
    outputs = {"teacher": dsl.Model(name="teacher", uri=str(teacher), metadata={"digest": "d"}), "Output": "d"}
    cache_in(here, store).put("key", outputs)
    found = cache_in(there, store).get("key")
    assert found is not None
    assert found["Output"] == "d"
    assert Path(found["teacher"].path) == there / "run-1" / "teach" / "teacher"
    assert found["teacher"].metadata == {"digest": "d"}
    assert files(Path(found["teacher"].path)) == {"a.txt": "one", "deep/b.txt": "two"}
    assert cache_in(tmp_path / "nobody", Folder(tmp_path / "empty")).get("key") is None


def test_a_store_that_is_spoilt_ends_no_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    store, here = Folder(tmp_path / "store"), tmp_path / "here"
    teacher = made(here / "run-1" / "teach" / "teacher")
    cache_in(here, store).put("key", {"teacher": dsl.Model(name="teacher", uri=str(teacher))})
    (tmp_path / "store" / "runs" / "run-1" / "teach" / "teacher" / "a.txt").write_text("other", encoding="utf-8")
    assert cache_in(tmp_path / "there", store).get("key") is None
    assert "its content isn't what was kept there" in capsys.readouterr().out
    assert not (tmp_path / "there" / "run-1" / "teach" / "teacher").exists()

"""What a bucket does as a folder does, and what a server can do that a folder can't."""

import hashlib
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import boto3
import pytest

from potstill import bucket
from potstill.bucket import Bucket, RemoteFile, credentials, find_objects
from potstill.errors import UserError
from potstill.shelves import shelf_at
from potstill.store import Folder, Shelf
from tests import s3


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with s3.served() as endpoint:
        yield endpoint


@pytest.fixture(params=["folder", "bucket"])
def shelf(request: pytest.FixtureRequest, server: str, tmp_path: Path) -> Shelf:
    if request.param == "folder":
        return Folder(tmp_path / "shelf")
    return Bucket(f"s3://{s3.NAME}/{tmp_path.name}")


def written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def keys_put(*keys: str) -> None:
    for key in keys:
        boto3.client("s3").put_object(Bucket=s3.NAME, Key=key, Body=key.encode())


def test_what_is_put_is_read(shelf: Shelf, tmp_path: Path):
    shelf.write("a.json", b"one")
    shelf.inside("deep/down").write("b.json", b"two")
    assert shelf.read("a.json") == b"one"
    assert shelf.read("deep/down/b.json") == b"two"
    shelf.fetch("deep/down/b.json", tmp_path / "new" / "b")
    assert (tmp_path / "new" / "b").read_bytes() == b"two"
    assert list(shelf.names()) == ["a.json", "deep/down/b.json"]
    assert list(shelf.inside("deep").names()) == ["down/b.json"]


def test_writing_and_replacing_take_the_place_of_what_was_there(shelf: Shelf, tmp_path: Path):
    shelf.write("a", b"one")
    shelf.write("a", b"two")
    assert shelf.read("a") == b"two"
    shelf.replace("a", written(tmp_path / "three", b"three"))
    assert shelf.read("a") == b"three"


def test_adding_leaves_what_is_there(shelf: Shelf, tmp_path: Path):
    one, two = written(tmp_path / "one", b"one"), written(tmp_path / "two", b"two")
    assert shelf.add("a", one)
    assert not shelf.add("a", two)
    assert shelf.read("a") == b"one"
    assert list(shelf.names()) == ["a"]


def test_of_many_that_add_at_a_time_one_wins(shelf: Shelf, tmp_path: Path):
    files = [written(tmp_path / str(i), bytes([i]) * 1000) for i in range(8)]
    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(lambda file: shelf.add("a", file), files))
    assert won.count(True) == 1
    assert shelf.read("a") == files[won.index(True)].read_bytes()


def test_what_is_not_there_is_told_so(shelf: Shelf, tmp_path: Path):
    for look in (lambda: shelf.read("a"), lambda: shelf.fetch("a", tmp_path / "a")):
        with pytest.raises(FileNotFoundError):
            look()
    assert shelf.digest("a") is None
    shelf.remove("a")
    assert list(shelf.names()) == []
    assert not (tmp_path / "a").exists()


def test_a_digest_is_that_of_the_content(shelf: Shelf, tmp_path: Path):
    shelf.replace("a", written(tmp_path / "a", b"one"))
    shelf.write("b", b"two")
    assert shelf.digest("a") == hashlib.sha256(b"one").hexdigest()
    assert shelf.digest("b") == hashlib.sha256(b"two").hexdigest()


def test_removed_is_gone(shelf: Shelf):
    shelf.write("a", b"one")
    shelf.remove("a")
    assert list(shelf.names()) == []


def test_a_large_file_goes_up_in_parts_and_comes_down_whole(server: str, tmp_path: Path):
    content = bytes(range(256)) * 40_000 * 2
    place = Bucket(f"s3://{s3.NAME}/large")
    place.replace("a", written(tmp_path / "a", content))
    assert "-" in boto3.client("s3").head_object(Bucket=s3.NAME, Key="large/a")["ETag"], "not in parts"
    place.fetch("a", tmp_path / "b")
    assert (tmp_path / "b").read_bytes() == content


def test_what_was_tampered_with_is_named(server: str, tmp_path: Path):
    place = Bucket(f"s3://{s3.NAME}/tampered")
    place.write("a", b"one")
    digest = hashlib.sha256(b"one").hexdigest()
    boto3.client("s3").put_object(Bucket=s3.NAME, Key="tampered/a", Body=b"two", Metadata={"sha256": digest})
    for look in (lambda: place.read("a"), lambda: place.fetch("a", tmp_path / "a")):
        with pytest.raises(UserError, match=r"s3://shop/tampered/a: its content isn't what was put there"):
            look()
    assert not list(tmp_path.iterdir())


def test_a_listing_goes_beyond_one_page(server: str):
    names = [f"{i:04d}" for i in range(1005)]
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda name: keys_put(f"many/{name}"), names))
    assert list(Bucket(f"s3://{s3.NAME}/many").names()) == names


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("rows/2026/a.csv", ["rows/2026/a.csv"]),
        ("rows/2026", ["rows/2026/a.csv", "rows/2026/b.parquet"]),
        ("rows/2026/", ["rows/2026/a.csv", "rows/2026/b.parquet"]),
        ("rows/*.csv", ["rows/c.csv"]),
        ("rows/*/*.csv", ["rows/2026/a.csv", "rows/20261/d.csv"]),
        ("rows/**/*.csv", ["rows/2026/a.csv", "rows/20261/d.csv", "rows/c.csv"]),
        ("rows/2026/?.csv", ["rows/2026/a.csv"]),
        ("rows/2026/[bx].*", ["rows/2026/b.parquet"]),
        ("row", []),
    ],
)
def test_objects_are_found_as_files_are(server: str, pattern: str, found: list[str]):
    keys_put("rows/2026/a.csv", "rows/2026/b.parquet", "rows/20261/d.csv", "rows/c.csv")
    assert [file.location for file in find_objects(f"s3://{s3.NAME}/{pattern}")] == [
        f"s3://{s3.NAME}/{k}" for k in found
    ]


def test_an_object_is_read_from_any_place(server: str):
    boto3.client("s3").put_object(Bucket=s3.NAME, Key="seek", Body=bytes(range(256)) * 4096)
    (file,) = find_objects(f"s3://{s3.NAME}/seek")
    assert file == RemoteFile(f"s3://{s3.NAME}/seek", 256 * 4096)
    with file.open_bytes() as content:
        content.seek(-256, 2)
        assert content.read(3) == b"\x00\x01\x02"
        content.seek(700_001)
        assert content.read(2) == bytes([700_001 % 256, 700_002 % 256])


def test_a_bucket_that_is_not_there_is_named(server: str):
    with pytest.raises(UserError, match=r"s3://nowhere/x/a: there is no such bucket"):
        Bucket("s3://nowhere/x").write("a", b"")
    with pytest.raises(UserError, match=r"s3://nowhere/x: there is no such bucket"):
        find_objects("s3://nowhere/x")


def test_a_location_without_a_bucket_is_refused():
    with pytest.raises(UserError, match="names no bucket"):
        shelf_at("s3://")


def test_a_server_out_of_reach_is_named_without_secrets(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(bucket, "ATTEMPTS", 1)
    with s3.given("http://127.0.0.1:9"), pytest.raises(UserError, match=r"s3://shop/a: .*127\.0\.0\.1:9") as told:
        Bucket("s3://shop").read("a")
    assert s3.SECRET not in str(told.value)


def test_no_credentials_are_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    with s3.given("http://127.0.0.1:9"):
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.delenv(name)
        monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
        monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
        with pytest.raises(UserError, match=r"s3://shop/a: Unable to locate credentials"):
            Bucket("s3://shop").read("a")


@pytest.mark.skipif("TEST_S3_ENDPOINT" not in os.environ, reason="moto takes any credentials: needs a real server")
def test_wrong_credentials_are_refused_without_telling_them(server: str):
    with s3.given(server, os.environ["TEST_S3_KEY"], "wrong"):
        with pytest.raises(UserError, match="s3://shop/a: the secret key is wrong") as told:
            Bucket(f"s3://{s3.NAME}").write("a", b"one")
        assert "wrong" not in str(told.value).replace("the secret key is wrong", "")
    with s3.given(server, "nobody", s3.SECRET), pytest.raises(UserError, match="the access key is unknown there"):
        Bucket(f"s3://{s3.NAME}").read("a")
    with s3.given(server, "nobody", s3.SECRET), pytest.raises(UserError, match=r"wrong, or may not do that|unknown"):
        Bucket(f"s3://{s3.NAME}").digest("a")


def test_credentials_of_a_profile_are_told_as_variables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "credentials").write_text(
        "[shop]\naws_access_key_id = key\naws_secret_access_key = secret\naws_session_token = token\n"
    )
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_PROFILE", "shop")
    assert credentials() == {
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_SESSION_TOKEN": "token",
    }

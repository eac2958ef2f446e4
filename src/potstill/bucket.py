"""An S3 bucket as a shelf, and its objects as files to read: any server that speaks S3, by boto3's own settings.

Endpoint, region and credentials come from where boto3 looks for them: AWS_ENDPOINT_URL, AWS_REGION, AWS_ACCESS_KEY_ID
and so on, profiles, or the role of the machine or pod. Every request carries the SHA-256 of its body, which the server
checks; what comes down is held against the SHA-256 that went up with it. Failed requests are tried again with growing
pauses.
"""

import contextlib
import functools
import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, BinaryIO

from potstill.errors import UserError
from potstill.store import drafted, file_digest

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

SCHEME = "s3://"
# Requests in all, pauses between them up to 20 s (botocore's standard mode).
ATTEMPTS = 8
DIGEST = "sha256"
ABSENT = {"404", "NoSuchKey", "NotFound"}
REFUSED = {
    "InvalidAccessKeyId": "the access key is unknown there",
    "SignatureDoesNotMatch": "the secret key is wrong",
    "AccessDenied": "these credentials may not do that",
    "403": "the credentials are wrong, or may not do that",
    "NoSuchBucket": "there is no such bucket",
}


def is_remote(location: str) -> bool:
    """Whether a location is in a bucket."""
    return location.startswith(SCHEME)


@functools.cache
def _client() -> "S3Client":
    try:
        import boto3
        from botocore.config import Config
    except ModuleNotFoundError as error:
        raise UserError("s3:// needs boto3: pip install 'potstill[s3]'") from error
    config = Config(
        signature_version="s3v4",
        retries={"mode": "standard", "total_max_attempts": ATTEMPTS},
        connect_timeout=10,
        # The body's SHA-256 goes into the signature. Servers other than AWS's know no newer way.
        s3={"payload_signing_enabled": True},
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
    )
    # A session of its own: the shared one keeps the credentials that it saw first.
    client: S3Client = boto3.Session().client("s3", config=config)
    return client


def credentials() -> dict[str, str]:
    """What boto3 finds, by a profile or a role, as the variables that it reads; empty where it finds none."""
    import boto3

    found = boto3.Session().get_credentials()
    if found is None:
        return {}
    now = found.get_frozen_credentials()
    told = {"AWS_ACCESS_KEY_ID": now.access_key, "AWS_SECRET_ACCESS_KEY": now.secret_key}
    return told | ({"AWS_SESSION_TOKEN": now.token} if now.token else {})


@contextlib.contextmanager
def _told(what: str) -> Iterator[None]:
    """Tell in one line what a server or the settings refuse; what isn't there is a FileNotFoundError."""
    from boto3.exceptions import Boto3Error
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except ClientError as error:
        code = str(error.response.get("Error", {}).get("Code", ""))
        if code in ABSENT:
            raise FileNotFoundError(what) from error
        raise UserError(f"{what}: {REFUSED.get(code, f'the store answers {code}')}") from error
    except (BotoCoreError, Boto3Error) as error:
        # These name an endpoint or a setting, never a secret.
        raise UserError(f"{what}: {str(error).splitlines()[0]}") from error


def _split(location: str) -> tuple[str, str]:
    """Bucket and key of s3://bucket/key."""
    bucket, _, key = location.removeprefix(SCHEME).partition("/")
    if not bucket:
        raise UserError(f"{location}: names no bucket; expected s3://bucket/folder")
    return bucket, key


@dataclass(frozen=True)
class Bucket:
    """Everything under one location of a bucket, by names; see `potstill.store.Shelf`."""

    location: str

    def __post_init__(self) -> None:
        _split(self.location)

    def __str__(self) -> str:
        return self.location

    def inside(self, name: str) -> "Bucket":
        """The shelf below this one."""
        return Bucket(f"{self.location.rstrip('/')}/{name}")

    def read(self, name: str) -> bytes:
        """A whole object.

        Raises:
            FileNotFoundError: there is none.
            UserError: it isn't what went up, or the store refuses.
        """
        bucket, key = self._place(name)
        with _told(self._named(name)):
            found = _client().get_object(Bucket=bucket, Key=key)
            content: bytes = found["Body"].read()
        _check(hashlib.sha256(content).hexdigest(), found["Metadata"], self._named(name))
        return content

    def write(self, name: str, content: bytes) -> None:
        """Put an object in the place of whatever was there; readers see the old one or the new one."""
        self._put(name, content, hashlib.sha256(content).hexdigest())

    def add(self, name: str, file: Path) -> bool:
        """Put a file unless something is there already; whether it was put. Of two that race, one is told no.

        A file of up to 5 GB, as one request is the one way to do that everywhere.
        """
        try:
            with file.open("rb") as content:
                self._put(name, content, file_digest(file), IfNoneMatch="*")
        except FileExistsError:
            return False
        return True

    def replace(self, name: str, file: Path) -> None:
        """Put a file in the place of whatever was there, in parts if it is large."""
        bucket, key = self._place(name)
        with _told(self._named(name)):
            extra = {"Metadata": {DIGEST: file_digest(file)}}
            _client().upload_file(str(file), bucket, key, ExtraArgs=extra)

    def fetch(self, name: str, to: Path) -> None:
        """Bring an object down, whole or not at all.

        Raises:
            FileNotFoundError: there is none.
            UserError: it isn't what went up, or the store refuses.
        """
        bucket, key = self._place(name)
        to.parent.mkdir(parents=True, exist_ok=True)
        with _told(self._named(name)), drafted(to) as draft:
            metadata = _client().head_object(Bucket=bucket, Key=key)["Metadata"]
            _client().download_file(bucket, key, str(draft))
            _check(file_digest(draft), metadata, self._named(name))

    def digest(self, name: str) -> str | None:
        """SHA-256 with which an object went up; none: it isn't there, or somebody else put it."""
        bucket, key = self._place(name)
        try:
            with _told(self._named(name)):
                metadata: dict[str, str] = _client().head_object(Bucket=bucket, Key=key)["Metadata"]
                return metadata.get(DIGEST)
        except FileNotFoundError:
            return None

    def names(self) -> Iterator[str]:
        """Names of all objects here and below, in their order, a page at a time."""
        bucket, prefix = _split(f"{self.location.rstrip('/')}/")
        for key, _ in _listed(bucket, prefix, self.location):
            yield key.removeprefix(prefix)

    def remove(self, name: str) -> None:
        """Take an object away, if it is there."""
        bucket, key = self._place(name)
        with _told(self._named(name)):
            _client().delete_object(Bucket=bucket, Key=key)

    def _put(self, name: str, content: bytes | IO[bytes], digest: str, **condition: Any) -> None:
        from botocore.exceptions import ClientError

        bucket, key = self._place(name)
        with _told(self._named(name)):
            try:
                _client().put_object(Bucket=bucket, Key=key, Body=content, Metadata={DIGEST: digest}, **condition)
            except ClientError as error:
                # 409: another one is putting it at this moment.
                if str(error.response["Error"]["Code"]) in {"412", "PreconditionFailed", "ConditionalRequestConflict"}:
                    raise FileExistsError(self._named(name)) from error
                raise

    def _place(self, name: str) -> tuple[str, str]:
        return _split(self._named(name))

    def _named(self, name: str) -> str:
        return f"{self.location.rstrip('/')}/{name}"


def _check(found: str, metadata: dict[str, str], where: str) -> None:
    told = metadata.get(DIGEST)
    if told is not None and told != found:
        raise UserError(f"{where}: its content isn't what was put there; remove it and run again")


@dataclass(frozen=True, order=True)
class RemoteFile:
    """An object to read like a file: as a stream, and from any place in it."""

    location: str
    size_bytes: int

    def __str__(self) -> str:
        return self.location

    @property
    def suffix(self) -> str:
        """As a path's."""
        return Path(self.location).suffix

    def open_bytes(self) -> BinaryIO:
        """Its content, by requests for parts of it."""
        import smart_open

        with _told(self.location):
            content: BinaryIO = smart_open.open(
                self.location, "rb", compression="disable", transport_params={"client": _client()}
            )
        return content


def find_objects(location: str) -> list[RemoteFile]:
    """The objects at a location, below it, or whose keys fit it as a glob, in order of their keys.

    Raises:
        UserError: the store refuses.
    """
    bucket, key = _split(location)
    fixed = re.split(r"[*?\[]", key, maxsplit=1)[0]
    is_glob = fixed != key
    fits = re.compile(_regex(key)) if is_glob else re.compile(f"{re.escape(key.rstrip('/'))}(/.*)?" if key else ".*")
    return [
        RemoteFile(f"{SCHEME}{bucket}/{found}", size)
        for found, size in _listed(bucket, fixed, location)
        if fits.fullmatch(found) and not found.endswith("/")
    ]


def _regex(pattern: str) -> str:
    """A glob as a regular expression: `**` spans folders, `*` and `?` stay within one."""
    tokens = {"**/": "(?:[^/]+/)*", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    pieces = re.split(r"(\*\*/|\*\*|\*|\?|\[[^\]]+\])", pattern)
    return "".join(tokens.get(piece) or (piece if piece.startswith("[") else re.escape(piece)) for piece in pieces)


def _listed(bucket: str, prefix: str, location: str) -> Iterator[tuple[str, int]]:
    """Keys under a prefix and their sizes, a page at a time."""
    with _told(location):
        for page in _client().get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
            for entry in page.get("Contents", []):
                yield entry["Key"], entry["Size"]

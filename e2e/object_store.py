"""An S3 server with accounts: Ceph on one machine, a daemon of each kind.

Ceph's documentation, "Manual deployment", tells the steps; the settings below let one disk file be enough.
"""

import contextlib
import subprocess
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import boto3

from machine import free_port, listens, started, until

BUCKET = "shop"
PATIENCE_S = 90
SETTINGS = """\
[global]
fsid = {fsid}
mon host = v2:127.0.0.1:{monitor}
public addr = 127.0.0.1
cluster addr = 127.0.0.1
keyring = {folder}/keyring
run dir = {folder}
log file = {folder}/$name.log
admin socket = {folder}/$name.asok
mon data = {folder}/mon
mgr data = {folder}/mgr
osd data = {folder}/osd
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 1
osd crush chooseleaf type = 0
osd memory target = 1073741824
mon allow pool size one = true
mgr initial modules =
ms bind ipv6 = false
[mon]
ms bind msgr1 = false
mon initial members = a
[osd]
ms bind msgr1 = false
bluestore block create = true
bluestore block size = 8589934592
[client.rgw.a]
rgw frontends = beast endpoint=127.0.0.1:{port}
"""
POWERS = {
    "mon.": {"mon": "allow *"},
    "client.admin": {"mon": "allow *", "osd": "allow *", "mgr": "allow *"},
    "mgr.a": {"mon": "allow profile mgr", "osd": "allow *"},
    "osd.0": {"mon": "allow profile osd", "mgr": "allow profile osd", "osd": "allow *"},
    "client.rgw.a": {"mon": "allow rwx", "osd": "allow rwx", "mgr": "allow rw"},
}


@dataclass(frozen=True)
class ObjectStore:
    """Where it is and who may ask."""

    endpoint: str
    key: str
    secret: str

    @property
    def environment(self) -> dict[str, str]:
        """As AWS's tools read it."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": self.key,
            "AWS_SECRET_ACCESS_KEY": self.secret,
            "AWS_REQUEST_CHECKSUM_CALCULATION": "when_required",
        }

    def client(self):
        """Of boto3, with the account's credentials."""
        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            region_name="us-east-1",
            aws_access_key_id=self.key,
            aws_secret_access_key=self.secret,
        )

    def keys(self, prefix: str) -> set[str]:
        """Of all objects below a prefix."""
        pages = self.client().get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=prefix)
        return {entry["Key"] for page in pages for entry in page.get("Contents", [])}


@contextlib.contextmanager
def object_store(folder: Path) -> Iterator[ObjectStore]:
    """A running server with an empty bucket, `BUCKET`."""
    port, monitor, fsid = free_port(), free_port(), str(uuid.uuid4())
    settings = folder / "ceph.conf"
    settings.write_text(SETTINGS.format(folder=folder, fsid=fsid, port=port, monitor=monitor))
    for name in ("mon", "mgr", "osd"):
        (folder / name).mkdir()

    def daemon(*command: str) -> contextlib.AbstractContextManager[subprocess.Popen[bytes]]:
        return started([command[0], "--conf", settings, "-f", *command[1:]], folder / "daemons.log")

    def ceph(*command: str | Path) -> str:
        return _told("ceph", "--conf", settings, "--connect-timeout", "60", *command)

    _make_keys(folder / "keyring")
    _told("monmaptool", "--create", "--addv", "a", f"v2:127.0.0.1:{monitor}", "--fsid", fsid, folder / "monmap")
    _told("ceph-mon", "--conf", settings, "--mkfs", "-i", "a", "--monmap", folder / "monmap")
    with contextlib.ExitStack() as running:
        running.enter_context(daemon("ceph-mon", "-i", "a"))
        number = str(uuid.uuid4())
        ceph("osd", "new", number)
        _told("ceph-osd", "--conf", settings, "-i", "0", "--mkfs", "--osd-uuid", number)
        running.enter_context(daemon("ceph-mgr", "-i", "a"))
        running.enter_context(daemon("ceph-osd", "-i", "0"))
        until("Ceph's disk is up", lambda: "1 up" in ceph("osd", "stat"), PATIENCE_S, folder / "daemons.log")
        running.enter_context(daemon("radosgw", "-n", "client.rgw.a"))
        until("Ceph's gateway listens", lambda: listens(port), PATIENCE_S, folder / "daemons.log")
        account = ObjectStore(f"http://127.0.0.1:{port}", "shop", uuid.uuid4().hex)
        user = ("user", "create", "--uid=shop", "--display-name=shop")
        _told("radosgw-admin", "--conf", settings, *user, f"--access-key={account.key}", f"--secret={account.secret}")
        account.client().create_bucket(Bucket=BUCKET)
        yield account


def _make_keys(keyring: Path) -> None:
    _told("ceph-authtool", "--create-keyring", keyring)
    for name, powers in POWERS.items():
        allowed = [word for daemon, power in powers.items() for word in ("--cap", daemon, power)]
        _told("ceph-authtool", keyring, "--gen-key", "--name", name, *allowed)


def _told(*command: str | Path) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command[0]}: {done.stdout[-1000:]}{done.stderr[-3000:]}"
    return done.stdout

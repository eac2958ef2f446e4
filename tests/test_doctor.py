"""What is missing is named before any work."""

from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest
from click.testing import CliRunner
from mlflow.exceptions import MlflowException
from tiny import fresh_mlflow

from potstill.cli import main
from potstill.doctor import Finding, examine
from tests import s3


@pytest.fixture
def server() -> Iterator[str]:
    with s3.served() as endpoint:
        yield endpoint


@pytest.fixture
def mlflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    uri = fresh_mlflow(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    return uri


def failed(findings: Iterator[Finding]) -> list[str]:
    return [finding.words for finding in findings if not finding.passed]


def test_all_is_well(server: str, mlflow: str, tmp_path: Path):
    boto3.client("s3").put_object(Bucket=s3.NAME, Key="rows/a.csv", Body=b"text\n")
    findings = [*examine(f"s3://{s3.NAME}/store", [f"s3://{s3.NAME}/rows"])]
    assert [(finding.what, finding.passed) for finding in findings] == [
        ("store", True),
        ("rows", True),
        ("MLflow", True),
    ]
    assert findings[1].words == f"s3://{s3.NAME}/rows: 1 file"
    assert not boto3.client("s3").list_objects_v2(Bucket=s3.NAME, Prefix="store").get("Contents")
    assert not failed(examine(str(tmp_path / "store"), []))
    assert not [path for path in (tmp_path / "store").rglob("*") if path.is_file()]


def test_everything_that_is_missing_is_told_at_once(server: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    told = failed(examine("s3://nowhere/store", [str(tmp_path / "none.csv")]))
    assert len(told) == 3
    assert told[0].startswith("s3://nowhere/store/doctor/")
    assert told[0].endswith("there is no such bucket")
    assert "none.csv: no such file" in told[1]
    assert "MLflow at http://127.0.0.1:9 does not answer" in told[2]


def test_a_password_in_mlflows_address_is_not_told(monkeypatch: pytest.MonkeyPatch):
    class Failing:
        tracking_uri = "http://shop:hidden@127.0.0.1:9"

        def get_experiment_by_name(self, name: str) -> None:
            raise MlflowException(f"API request to {self.tracking_uri}/api failed: {name}")

    monkeypatch.setattr("potstill.tracking.client", Failing)
    (told,) = failed(examine("", []))
    assert "API request to http://127.0.0.1:9/api failed" in told
    assert "hidden" not in told


def test_shards_that_would_have_no_store_to_meet_in_are_told(mlflow: str):
    (told,) = failed(examine("", [], shards=4))
    assert told.startswith("signals.shards: 4 fill one table in a store that outlives them, and there is none")
    assert not failed(examine("", []))


def test_credentials_that_are_not_set_are_named(mlflow: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    with s3.given("http://127.0.0.1:9"):
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.delenv(name)
        for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
            monkeypatch.setenv(name, str(tmp_path / "none"))
        monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        (told,) = failed(examine("s3://shop/store", []))
    assert told.endswith("Unable to locate credentials; not set: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY")


def test_the_command_tells_a_line_each_and_fails_if_one_did(mlflow: str, tmp_path: Path):
    done = CliRunner().invoke(main, ["doctor", "--store", str(tmp_path / "store")])
    assert done.exit_code == 0
    assert done.output.splitlines()[0] == f"✓ store: {tmp_path / 'store'}: put, got and deleted"
    (tmp_path / "file").write_text("", encoding="utf-8")
    done = CliRunner().invoke(main, ["doctor", "--store", str(tmp_path / "file")])
    assert done.exit_code == 1
    assert done.output.startswith(f"✗ store: {tmp_path / 'file' / 'doctor'}: can't write there")

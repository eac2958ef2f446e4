"""What can be told without a container engine; e2e/ runs real containers."""

import os
import signal
from pathlib import Path

import pytest
from rich.console import Console

from potstill.errors import UserError
from potstill.images import LOCK, read_lock
from potstill.local.containers import confined, containers, hand_over, prepare, user
from potstill.local.run import run
from potstill.recipe import load_recipe

RECIPE = Path(__file__).parents[2] / "recipes" / "review-sentiment.yaml"


def test_a_step_sees_where_things_are_and_nothing_else_of_the_environment():
    told = {
        "MLFLOW_TRACKING_URI": "http://mlflow",
        "AWS_REGION": "eu",
        "POTSTILL_RUN_ID": "run-1",
        "OMP_NUM_THREADS": "1",
    }
    told |= {"https_proxy": "http://proxy:8080"}
    others = {
        "AWS_CA_BUNDLE": "/etc/here.pem",
        "AWS_CONFIG_FILE": "/root/.aws/config",
        "PATH": "/bin",
        "HOME": "/root",
        "GITHUB_TOKEN": "secret",
        "PYTHONPATH": "/elsewhere",
        "NOMLFLOW_X": "y",
    }
    arguments = confined("run-1", told | others).container_run_args
    assert arguments["environment"] == told | {"PYTHONSAFEPATH": "1"}
    assert arguments["labels"]["potstill.run"] == "run-1"
    assert arguments["labels"]["potstill.keeper"].endswith(f":{os.getpid()}")
    assert arguments["read_only"]
    assert arguments["cap_drop"] == ["ALL"]
    assert arguments["user"].split(":")[0] not in ("0", "root")


def test_containers_of_root_are_the_images_own_user(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(os, "getuid", lambda: 0)
    assert user() == (10001, 10001)
    monkeypatch.setattr(os, "getuid", lambda: 1234)
    monkeypatch.setattr(os, "getgid", lambda: 5678)
    assert user() == (1234, 5678)


def test_where_no_engine_answers_it_is_told_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/no.sock")
    with pytest.raises(UserError, match=rf"no container engine answers at unix://{tmp_path}/no.sock: start Docker"):
        prepare(["sha256:" + "a" * 64])


def test_containers_want_a_server_of_mlflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    with pytest.raises(UserError, match=r"--images: .* only by a server: .* MLFLOW_TRACKING_URI, as in http://"):
        run(load_recipe(RECIPE, ()), tmp_path / "runs", Console(), None, images=read_lock(LOCK))
    assert not (tmp_path / "runs").exists()


def test_rows_that_a_container_would_not_see_are_refused_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    recipe = load_recipe(RECIPE, ("data.source=../elsewhere/*.parquet",))
    with pytest.raises(UserError, match=r"--images: \.\./elsewhere/\*\.parquet: .* reads what lies below"):
        run(recipe, tmp_path / "runs", Console(), None, images=read_lock(LOCK))
    assert not (tmp_path / "runs").exists()


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a folder away")
def test_root_gives_away_what_steps_write_to_and_nothing_else(tmp_path: Path):
    (tmp_path / "other").mkdir()
    (tmp_path / "signals" / "old").mkdir(parents=True)
    hand_over(tmp_path / "run", tmp_path)
    owners = {path.relative_to(tmp_path).as_posix(): path.stat().st_uid for path in tmp_path.rglob("*")}
    assert owners == {
        "other": 0,
        "run": 10001,
        "signals": 10001,
        "signals/old": 10001,
        "checkpoints": 10001,
        "doctor": 10001,
    }
    assert tmp_path.stat().st_uid == 0


def test_a_run_that_ignores_a_signal_goes_on_ignoring_it_and_one_that_hears_it_ends_its_containers(tmp_path: Path):
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN), signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        with pytest.raises(KeyboardInterrupt), containers(tmp_path):
            os.kill(os.getpid(), signal.SIGHUP)
            os.kill(os.getpid(), signal.SIGTERM)
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    finally:
        for number, handler in zip((signal.SIGHUP, signal.SIGTERM), before, strict=True):
            signal.signal(number, handler)

"""Promotion against a real MLflow server with basic authentication, over HTTP on loopback."""

import os
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from mlflow import MlflowClient
from mlflow.server import get_app_client
from tiny import bare_versions

from potstill.cli import main
from potstill.errors import UserError
from potstill.moves import LostRaceError, look, move
from potstill.promotion import history, promote, promote_approved, rollback
from potstill.registry import versions

ADMIN, PASSWORD, OTHERS = "admin", "a-long-password", "another-long-password"
PATIENCE_S = 120
RACERS, ROUNDS = 4, 4


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder, port = tmp_path_factory.mktemp("server"), free_port()
    (folder / "auth.ini").write_text(f"""[mlflow]
default_permission = READ
database_uri = sqlite:///{folder}/auth.db
admin_username = {ADMIN}
authorization_function = mlflow.server.auth:authenticate_request_basic_auth
auth_cache_ttl_seconds = 600
""")
    settings = {
        "MLFLOW_AUTH_CONFIG_PATH": str(folder / "auth.ini"),
        "MLFLOW_AUTH_ADMIN_PASSWORD": PASSWORD,
        "MLFLOW_FLASK_SERVER_SECRET_KEY": "for tests alone",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }
    command = [str(Path(sys.executable).with_name("mlflow")), "server", "--app-name", "basic-auth", "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{folder}/mlflow.db", "--host", "127.0.0.1", "--port", str(port)]
    with (folder / "log").open("w") as log:
        server = subprocess.Popen(
            [*command, "--artifacts-destination", str(folder / "artifacts")],
            env={key: value for key, value in os.environ.items() if not key.startswith("MLFLOW")} | settings,
            stdout=log,
            stderr=log,
        )
    try:
        until_healthy(f"http://127.0.0.1:{port}", server, folder / "log")
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(PATIENCE_S)


def until_healthy(uri: str, server: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline and server.poll() is None:
        try:
            with urllib.request.urlopen(f"{uri}/health", timeout=5):
                return
        except OSError:
            time.sleep(0.5)
    raise AssertionError(log.read_text())


@dataclass
class Account:
    """The environment of somebody at the server, and a command of theirs."""

    patch: pytest.MonkeyPatch

    def of(self, name: str, password: str) -> None:
        self.patch.setenv("MLFLOW_TRACKING_USERNAME", name)
        self.patch.setenv("MLFLOW_TRACKING_PASSWORD", password)

    def potstill(self, *words: str) -> Result:
        return CliRunner().invoke(main, list(words))


@pytest.fixture
def account(uri: str, monkeypatch: pytest.MonkeyPatch) -> Account:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    account = Account(monkeypatch)
    account.of(ADMIN, PASSWORD)
    return account


def shelf(uri: str, model: str, count: int) -> MlflowClient:
    """A model with versions, each judged against the one before."""
    found = MlflowClient(uri)
    bare_versions(found, found.create_experiment(model), model, count)
    return found


def test_promotion_approval_and_rollback_go_to_the_server_and_back(uri: str, account: Account):
    found = shelf(uri, "reviews", 3)
    done = account.potstill("promote", "reviews", "1", "--reason", "the first")
    assert (done.exit_code, done.output) == (0, "reviews: champion is now version 1 (was none)\n")
    found.set_registered_model_alias("reviews", "approved", "2")
    done = account.potstill("promote", "reviews", "--approved")
    said = "reviews: champion is now version 2 (was 1), approved in MLflow\n"
    assert (done.exit_code, done.output) == (0, said)
    done = account.potstill("promote", "reviews", "--approved")
    assert (done.exit_code, done.output) == (0, "reviews: nothing to do, no version is approved\n")
    found.set_model_version_tag("reviews", "3", "approved", "Maria")
    assert "by Maria" in account.potstill("promote", "reviews", "--approved", "--reason", "ticket 7").output
    done = account.potstill("rollback", "reviews", "--reason", "complaints")
    assert (done.exit_code, done.output) == (0, "reviews: champion is again version 2 (was 3)\n")
    assert found.get_model_version_by_alias("reviews", "champion").version == "2"
    assert [(made.to, made.who, made.kind, made.run) for made in history("reviews")] == [
        ("1", ADMIN, "promotion", "run-1"),
        ("2", "approved in MLflow", "approval", "run-2"),
        ("3", "approved in MLflow by Maria", "approval", "run-3"),
        ("2", ADMIN, "rollback", "run-2"),
    ]
    assert len(account.potstill("history", "reviews").output.splitlines()) == 5
    assert [line.version for line in versions("reviews") if "champion" in line.aliases] == ["2"]


def test_of_many_that_race_over_http_one_wins_each_round(uri: str, account: Account):
    found = shelf(uri, "raced", RACERS)
    start, won, lost = threading.Barrier(RACERS), [], []

    def race(number: int) -> None:
        own = MlflowClient(uri)
        for turn in range(ROUNDS):
            start.wait(PATIENCE_S)
            seen = look(own, "raced")
            start.wait(PATIENCE_S)
            try:
                won.append((turn, move(own, seen, str(number), "promotion", f"{turn} {number}")))
            except LostRaceError as error:
                lost.append(str(error))

    racers = [threading.Thread(target=race, args=(number + 1,)) for number in range(RACERS)]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join(PATIENCE_S)
    assert [turn for turn, _ in won] == list(range(ROUNDS))
    assert history("raced") == tuple(made for _, made in won)
    assert len(lost) == (RACERS - 1) * ROUNDS
    assert all(said.startswith("raced: ") for said in lost)
    assert not [entry.name for entry in found.search_registered_models() if "raced " in entry.name]


def test_of_many_challengers_that_were_judged_against_one_champion_one_is_promoted(uri: str, account: Account):
    found = shelf(uri, "judged", RACERS + 1)
    promote("judged", "1", "the first")
    for number in range(2, RACERS + 2):
        found.set_model_version_tag("judged", str(number), "judged_against", "1")
    outcomes: list[str] = []

    def race(number: int) -> None:
        try:
            outcomes.append(f"won {promote('judged', str(number), 'mine').to}")
        except UserError as error:
            outcomes.append(str(error))

    racers = [threading.Thread(target=race, args=(number,)) for number in range(2, RACERS + 2)]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join(PATIENCE_S)
    (won,) = [said for said in outcomes if said.startswith("won")]
    assert len(outcomes) == RACERS
    assert [made.to for made in history("judged")] == ["1", won.removeprefix("won ")]


def test_a_wrong_password_is_one_clear_line_without_it(uri: str, account: Account):
    account.of(ADMIN, "gehe1m-und-falsch")
    done = account.potstill("promote", "reviews", "1")
    assert (done.exit_code, len(done.output.splitlines())) == (2, 1)
    assert done.output.startswith(f"potstill: MLflow at {uri} refuses user admin: unknown, or the password is wrong")
    account.patch.delenv("MLFLOW_TRACKING_USERNAME")
    account.patch.delenv("MLFLOW_TRACKING_PASSWORD")
    account.patch.setenv("MLFLOW_TRACKING_URI", uri.replace("//", "//ops:gehe1m-und-falsch@"))
    inside = account.potstill("rollback", "reviews")
    assert (inside.exit_code, len(inside.output.splitlines())) == (2, 1)
    assert f"MLflow at {uri} refuses user ops" in inside.output
    assert "gehe1m" not in done.output + inside.output
    account.patch.setenv("MLFLOW_TRACKING_URI", uri)
    assert f"MLflow at {uri} wants to know who asks" in account.potstill("models").output


def test_a_password_in_the_address_is_told_nowhere(uri: str, account: Account):
    shelf(uri, "addressed", 1)
    account.patch.delenv("MLFLOW_TRACKING_USERNAME")
    account.patch.delenv("MLFLOW_TRACKING_PASSWORD")
    account.patch.setenv("MLFLOW_TRACKING_URI", uri.replace("//", f"//{ADMIN}:{PASSWORD}@"))
    assert promote("addressed", "1", "the first").who == ADMIN
    account.patch.setenv("MLFLOW_TRACKING_URI", f"http://{ADMIN}:{PASSWORD}@127.0.0.1:{free_port()}")
    account.patch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    done = account.potstill("promote", "addressed", "1")
    assert "does not answer" in done.output
    assert PASSWORD not in done.output


def test_a_server_that_is_away_is_one_clear_line_within_seconds(account: Account):
    away = f"http://127.0.0.1:{free_port()}"
    account.patch.setenv("MLFLOW_TRACKING_URI", away)
    began = time.monotonic()
    done = account.potstill("rollback", "reviews")
    assert time.monotonic() - began < 40
    assert (done.exit_code, len(done.output.splitlines())) == (2, 1)
    assert done.output.startswith(f"potstill: MLflow at {away} does not answer: ")


def test_who_may_only_read_or_edit_moves_nothing_and_leaves_nothing(uri: str, account: Account):
    found = shelf(uri, "guarded", 2)
    promote("guarded", "1", "the first")
    found.set_registered_model_alias("guarded", "approved", "2")
    accounts = get_app_client("basic-auth", uri)
    for name in ("reader", "editor"):
        accounts.create_user(name, OTHERS)
    accounts.grant_user_permission("editor", "registered_model", "guarded", "EDIT")
    for name in ("reader", "editor"):
        account.of(name, OTHERS)
        for attempt in (lambda: promote_approved("guarded", "x"), lambda: promote("guarded", "2", "x")):
            with pytest.raises(
                UserError, match=f"guarded: MLflow doesn't let {name} change it; that takes MANAGE on it"
            ):
                attempt()
    account.of(ADMIN, PASSWORD)
    assert look(found, "guarded").champion == "1"
    assert [made.to for made in history("guarded")] == ["1"]
    with pytest.raises(UserError, match="no earlier champion"):
        rollback("guarded", "x")
    assert "guarded is being moved" not in [entry.name for entry in found.search_registered_models()]

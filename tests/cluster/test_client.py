"""How the commands speak with a backend: who they are, what they make of its answers, how often they ask."""

import socket
import subprocess
from pathlib import Path

import pytest
from asking import Backend, served
from click.testing import CliRunner

from potstill.cli import main

TOKEN = "secret-token-1"


def told(backend: Backend, *options: str) -> str:
    """The one line that `potstill runs` ends with."""
    result = backend("runs", *options)
    assert result.exit_code == 2, result.output
    assert result.output.count("\n") == 1
    return result.output.removeprefix(f"potstill: {backend.host}: ").rstrip("\n")


def test_the_token_comes_from_the_environment(backend: Backend, monkeypatch: pytest.MonkeyPatch):
    backend.control("reset", token=TOKEN)
    assert told(backend) == "asks who you are (401); set KFP_EXISTING_TOKEN to a bearer token"
    monkeypatch.setenv("KFP_EXISTING_TOKEN", f"{TOKEN}\n")
    assert backend("runs").exit_code == 0


def test_a_mounted_token_is_read_anew_when_it_was_renewed(
    backend: Backend, recipe: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    mounted = tmp_path / "token"
    mounted.write_text(TOKEN)
    monkeypatch.setenv("KF_PIPELINES_SA_TOKEN_PATH", str(mounted))
    backend.control("reset", token=TOKEN)
    assert backend("submit", str(recipe)).exit_code == 0
    mounted.write_text("another")
    assert told(backend) == "does not take the token (401); it may have expired"


def test_a_token_that_can_not_be_read_is_told(backend: Backend, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("KF_PIPELINES_SA_TOKEN_PATH", str(tmp_path / "none"))
    result = backend("runs")
    assert result.exit_code == 2
    assert result.output == f"potstill: {tmp_path / 'none'}: can't read the token there (KF_PIPELINES_SA_TOKEN_PATH)\n"


@pytest.mark.parametrize("token", ["two words", "with\nline", "ümlaut"])
def test_what_can_be_no_token_is_not_repeated(backend: Backend, monkeypatch: pytest.MonkeyPatch, token: str):
    monkeypatch.setenv("KFP_EXISTING_TOKEN", token)
    result = backend("runs")
    assert result.exit_code == 2
    assert "KFP_EXISTING_TOKEN: is no token" in result.output
    assert token not in result.output


@pytest.mark.parametrize("status", [400, 403, 500])
def test_a_backend_that_repeats_the_token_does_not_make_us_repeat_it(
    backend: Backend, monkeypatch: pytest.MonkeyPatch, status: int
):
    monkeypatch.setenv("KFP_EXISTING_TOKEN", TOKEN)
    backend.fail("GET", "/runs$", status=status, times=9, body=f'{{"message": "Bearer {TOKEN} is not enough"}}')
    assert f"({status}): Bearer … is not enough" in told(backend)


@pytest.mark.parametrize(
    ("fault", "line"),
    [
        ({"status": 403}, "not allowed (403); is the namespace right (--namespace)?"),
        ({"status": 404, "body": "<html>"}, "has no Kubeflow Pipelines API (404); is the address right?"),
        ({"status": 404, "body": '{"message": "gone"}'}, "refuses (404): gone"),
        ({"status": 400, "body": '{"error": "bad\\n  filter"}'}, "refuses (400): bad filter"),
        ({"status": 502, "body": "<html>", "type": "text/html"}, "failed (502)"),
        (
            {"status": 200, "body": "<html>Log in", "type": "text/html; charset=utf-8"},
            "answers with text/html; charset=utf-8, no JSON object: a login page? Set KFP_EXISTING_TOKEN",
        ),
        ({"status": 200, "body": '{"runs": 3}'}, "its answer is none of the v2beta1 API"),
        ({"status": 200, "body": '{"runs": [{"created_at": "noon"}]}'}, "its answer is none of the v2beta1 API"),
        ({"drop": True}, "no answer: the connection broke off"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_refusal_is_one_line(backend: Backend, fault: dict, line: str):
    backend.fail("GET", "/runs$", times=9, **fault)
    assert told(backend) == line


@pytest.mark.parametrize("fault", [{"status": 500}, {"status": 503}, {"drop": True}], ids=str)
def test_a_read_is_tried_again(backend: Backend, fault: dict):
    backend.fail("GET", "/runs$", times=2, **fault)
    assert backend("runs").exit_code == 0
    assert backend.control("log").count("GET /apis/v2beta1/runs") == 3


def test_a_refusal_is_not_tried_again(backend: Backend):
    backend.fail("GET", "/runs$", status=403, times=9)
    told(backend)
    assert backend.control("log").count("GET /apis/v2beta1/runs") == 1


def test_nobody_there(backend: Backend):
    with socket.socket() as unheard:
        unheard.bind(("127.0.0.1", 0))
        backend.host = f"http://127.0.0.1:{unheard.getsockname()[1]}"
        assert told(backend) == "no answer: connection refused"


def test_an_unknown_name(backend: Backend):
    backend.host = "http://no-such-machine.invalid"
    assert told(backend) == "no answer: no machine has that name"


@pytest.mark.parametrize("host", ["ftp://a", "https://", "http://me:pw@a", "https://a:notaport", "https://a/#/runs"])
def test_what_is_no_address_is_refused(backend: Backend, host: str):
    backend.host = host
    result = backend("runs")
    assert result.exit_code == 2
    assert "--host: write it as https://kubeflow.example.com/pipeline" in result.output
    assert "pw" not in result.output


def test_the_host_may_come_from_the_environment(backend: Backend, monkeypatch: pytest.MonkeyPatch):
    missing = CliRunner().invoke(main, ["runs"])
    assert missing.exit_code == 2
    assert "KF_PIPELINES_ENDPOINT" in missing.output
    monkeypatch.setenv("KF_PIPELINES_ENDPOINT", backend.host)
    assert CliRunner().invoke(main, ["runs"]).exit_code == 0


def test_a_certificate_of_ones_own_authority_is_taken_when_it_is_named(
    backend: Backend, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    both = tmp_path / "both.pem"
    made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=127.0.0.1", "-days", "1"]
    subprocess.run([*made, "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", both, "-out", tmp_path / "own.pem"])
    both.write_text(both.read_text() + (tmp_path / "own.pem").read_text())
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    with served("--certificate", str(both)) as port:
        backend.host = f"https://127.0.0.1:{port}"
        assert "its certificate is not trusted; SSL_CERT_FILE" in told(backend)
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "own.pem"))
        assert backend("runs").exit_code == 0

"""The commands themselves: help, no way to give a token on the command line, and the doctor's view of the backend."""

from pathlib import Path

import pytest
from asking import Backend
from click.testing import CliRunner
from tiny import fresh_mlflow

from potstill.cli import main

COMMANDS = [
    "doctor",
    "submit",
    "runs",
    *(f"schedule {verb}" for verb in ("apply", "list", "pause", "resume", "remove")),
]


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_an_example_and_no_token(command: str):
    result = CliRunner().invoke(main, [*command.split(), "--help"])
    assert result.exit_code == 0
    assert f"potstill {command} " in result.output.split("Example:")[1]
    assert "--token" not in result.output


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", fresh_mlflow(tmp_path))
    return str(tmp_path)


def test_the_doctor_asks_the_backend_for_its_pipelines(backend: Backend, recipe: Path, root: str):
    assert backend("submit", str(recipe)).exit_code == 0
    done = backend("doctor", "--root", root)
    assert done.exit_code == 0, done.output
    assert done.output.splitlines()[-1] == f"✓ Kubeflow Pipelines: {backend.host}: answers; pipelines: 1"
    backend.fail("GET", "/pipelines$", status=403)
    done = backend("doctor", "--root", root)
    assert done.exit_code == 1
    assert done.output.splitlines()[-1].startswith(f"✗ Kubeflow Pipelines: {backend.host}: not allowed (403)")


def test_the_doctor_refuses_what_the_first_step_would(recipe: Path, root: str):
    (Path(root) / "rows.csv").write_text("text,sentiment\n", encoding="utf-8")
    settings = f"data.source={root}/rows.csv", "signals.shards=4"
    done = CliRunner().invoke(main, ["doctor", str(recipe), "--set", settings[0], "--set", settings[1], "--root", root])
    assert done.exit_code == 1
    assert "✗ store: signals.shards: 4 fill one table in a store that outlives them" in done.output

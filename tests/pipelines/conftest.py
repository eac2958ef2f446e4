"""A tiny shop whose recipe is run by the command that a user types."""

import json
import os
import re
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

STEPS = {"doctor", "ingest", "teach", "extract", "distill", "control", "compress", "champion", "evaluate", "register"}


@dataclass(frozen=True)
class Shop:
    """A recipe and a root to run it in."""

    recipe: Path
    root: Path

    def potstill(self, *arguments: str, stdin: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
        command = [str(Path(sys.executable).with_name("potstill")), *arguments, "--root", str(self.root)]
        clean = {key: value for key, value in os.environ.items() if not key.startswith("MLFLOW")}
        return subprocess.run(
            command, input=stdin, capture_output=True, text=True, check=False, env=clean | environment
        )

    def run(self, *overrides: str, **environment: str) -> dict[str, Any]:
        flags = [word for override in overrides for word in ("--set", override)]
        done = self.potstill("run", str(self.recipe), *flags, **environment)
        assert done.returncode == 0, done.stdout + done.stderr
        summary: dict[str, Any] = json.loads((self.root / "latest" / "summary.json").read_text())
        return summary | {"stdout": done.stdout}

    def stopped_at(self, pattern: str, *flags: str, by: signal.Signals = signal.SIGKILL) -> str:
        """Run until a line matches, then send all processes of the run a signal; what was said."""
        command = [str(Path(sys.executable).with_name("potstill")), "run", str(self.recipe), *flags]
        clean = {key: value for key, value in os.environ.items() if not key.startswith("MLFLOW")}
        with subprocess.Popen(
            [*command, "--root", str(self.root)],
            stdout=subprocess.PIPE,
            text=True,
            env=clean,
            start_new_session=True,
            # Tests that run in the background ignore interruptions, and would hand that on.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        ) as running:
            assert running.stdout is not None
            said = []
            for line in running.stdout:
                said.append(line)
                if re.match(pattern, line):
                    os.killpg(running.pid, by)
        assert running.returncode == (1 if by == signal.SIGINT else -by), "".join(said)
        return "".join(said)

    def client(self) -> MlflowClient:
        return MlflowClient(f"sqlite:///{self.root / 'mlflow.db'}")


def ran(summary: dict[str, Any]) -> set[str]:
    return {name for name, step in summary["steps"].items() if not step["cached"]}


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory, encoder: Path, reviews_file: Path) -> Shop:
    folder = tmp_path_factory.mktemp("shop")
    training = "epochs: 6, learning_rate: 1e-2, batch_size: 16"
    (folder / "tiny.yaml").write_text(f"""
name: tiny
data: {{source: {reviews_file}, split: {{by: product}}}}
tasks: {{sentiment: {{label: sentiment}}}}
teacher: {{encoder: {encoder}, max_tokens: 16, {training}}}
student: {{layers: 2}}
distill: {{{training}}}
evaluate: {{resamples: 200, latency_rows: 20}}
budget: {{retention: 0.8, flips: 0.2, latency_p95_ms: 1000}}
register: {{model: tiny}}
""")
    return Shop(folder / "tiny.yaml", folder / "root")

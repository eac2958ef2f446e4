"""What tests ask of the backend: to start, to speak with it by the commands, to look into it, to make it fail."""

import json
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result

from potstill.cli import main

SERVER = Path(__file__).with_name("backend.py")
RECIPE = """\
name: {name}
data: {{source: s3://shop/reviews.parquet, text: text}}
tasks: {{sentiment: {{kind: classification, label: sentiment}}}}
teacher: {{encoder: bert-base-uncased, epochs: {epochs}}}
register: {{model: reviews}}
"""


@dataclass
class Backend:
    """The server, and what tests do with it."""

    host: str

    def control(self, route: str, /, **told: Any) -> Any:
        request = urllib.request.Request(f"{self.host}/control/{route}", json.dumps(told).encode(), method="POST")
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.load(answer)

    def things(self, kind: str) -> list[dict[str, Any]]:
        return self.control(f"things/{kind}")

    def writes(self) -> list[str]:
        """The requests so far that change something."""
        return [line for line in self.control("log") if not line.startswith("GET ")]

    def fail(self, method: str, path: str, **how: Any) -> None:
        self.control("faults", method=method, path=path, **how)

    def __call__(self, *words: str) -> Result:
        return CliRunner().invoke(main, [*words, "--host", self.host])


@contextmanager
def served(*options: str) -> Iterator[int]:
    """The server's port."""
    with subprocess.Popen([sys.executable, SERVER, *options], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            yield int(process.stdout.readline())
        finally:
            process.terminate()


def write_recipe(path: Path, name: str = "reviews", epochs: int = 3) -> Path:
    path.write_text(RECIPE.format(name=name, epochs=epochs))
    return path

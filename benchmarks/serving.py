"""How many requests a second `potstill serve` answers, how fast, and whether any is lost while versions change.

wrk (https://github.com/wg/wrk) asks, in a process of its own, over connections that each ask again as soon as they are
answered; each request is one of the texts of a Parquet file. Meanwhile the champion moves between two versions of the
same model in a registry made for the purpose. Memory is what the service's processes have to themselves (USS).

    python benchmarks/serving.py .potstill/latest/compress/edge/small ../shared/data/banking77/test.parquet --swaps 10
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pyarrow.parquet as pq
from mlflow import MlflowClient

from potstill import promotion, registry

MODEL = "measured"
# Requests are made before the clock runs; wrk's threads share nothing, so each begins at another text.
SCRIPT = """
local requests, place = {}, 0
function setup(thread) first = (first or 0) + 1; thread:set("place", first * 997) end
function init(args)
  for line in io.lines(args[1]) do
    requests[#requests + 1] = wrk.format("POST", "/predict", {["Content-Type"] = "application/json"}, line)
  end
end
function request() place = place % #requests + 1; return requests[place] end
"""


def main() -> None:
    """Serve, ask, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("edge", type=Path, help="An edge model's folder.")
    parser.add_argument("texts", type=Path, help="Parquet file with real texts.")
    parser.add_argument("--column", default="text")
    parser.add_argument("--seconds", type=int, default=120)
    parser.add_argument("--connections", type=int, nargs="+", default=[1, 8, 16])
    parser.add_argument("--swaps", type=int, default=0, help="Times that the champion moves, in each measurement.")
    parser.add_argument("--serve", nargs=argparse.REMAINDER, default=[], help="What follows goes to potstill serve.")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        _register(folder, given.edge)
        _write_requests(folder, pq.read_table(given.texts, columns=[given.column])[given.column].to_pylist())
        print("| connections | requests/s | p50 ms | p90 ms | p99 ms | lost | swaps | MB before | MB after |")
        print("|---|---|---|---|---|---|---|---|---|")
        with _serving(given.serve) as (url, service):
            for connections in given.connections:
                _ask(folder, url, connections, 5)
                before, swaps = _memory_mb(service), _swaps(url)
                with _moving(given.swaps, given.seconds):
                    found = _ask(folder, url, connections, given.seconds)
                cells = [connections, *found, _swaps(url) - swaps, before, _memory_mb(service)]
                print(f"| {' | '.join(map(str, cells))} |", flush=True)


def _register(folder: Path, edge: Path) -> None:
    """Two versions of the same model in a registry of its own; the first is the champion."""
    os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{folder / 'mlflow.db'}"
    client = MlflowClient()
    experiment = client.create_experiment("measured", artifact_location=(folder / "artifacts").as_uri())
    for number, alias in ((1, "champion"), (2, "challenger")):
        copy = folder / f"edge-{number}"
        shutil.copytree(edge, copy)
        run_id = client.create_run(experiment).info.run_id
        tags = {"edge_digest": str(number)}
        registry.register_edge(MODEL, copy, run_id=run_id, tags=tags, alias=alias, judged_against="none", why="")


def _write_requests(folder: Path, texts: list[str]) -> None:
    (folder / "script.lua").write_text(SCRIPT)
    lines = (json.dumps({"rows": [text]}) for text in texts)
    (folder / "requests").write_text("\n".join(lines), encoding="utf-8")


@contextmanager
def _serving(options: list[str]) -> Iterator[tuple[str, psutil.Process]]:
    """A service of the champion, and where it is."""
    potstill = str(Path(sys.executable).with_name("potstill"))
    command = [potstill, "serve", MODEL, "--port", "0", "--poll-s", "0.5", *options]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            line = process.stderr.readline()
            told = re.search(r"on (http://\S+)", line)
            assert told, line
            drain = threading.Thread(target=process.stderr.read, daemon=True)
            drain.start()
            yield told[1], psutil.Process(process.pid)
        finally:
            process.terminate()


def _ask(folder: Path, url: str, connections: int, seconds: int) -> tuple[Any, ...]:
    """Requests a second; milliseconds that half, nine in ten, and 99 in a hundred took at most; how many failed."""
    load = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "10s", "--latency"]
    command = [*load, "-s", str(folder / "script.lua"), url, "--", str(folder / "requests")]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    rate = float(re.search(r"Requests/sec:\s+([\d.]+)", said)[1])  # type: ignore[index]
    shares = [_ms(re.search(rf"(?m)^\s*{share}%\s+(\S+)", said)[1]) for share in (50, 90, 99)]  # type: ignore[index]
    errors = re.findall(r"(?:connect|read|write|timeout) (\d+)|responses: (\d+)", said)
    return f"{rate:.0f}", *(f"{share:.2f}" for share in shares), sum(int(a or b) for a, b in errors)


def _ms(time: str) -> float:
    """What wrk writes as 1.20ms, 850.00us or 1.05s."""
    number, unit = re.fullmatch(r"([\d.]+)(us|ms|s)", time).groups()  # type: ignore[union-attr]
    return float(number) * {"us": 1e-3, "ms": 1.0, "s": 1e3}[unit]


@contextmanager
def _moving(times: int, seconds: int) -> Iterator[None]:
    """Move the champion so many times, evenly spread, while the block runs."""
    done = threading.Event()

    def move() -> None:
        for _ in range(times):
            if done.wait(seconds / (times + 1)):
                return
            champion = registry.named(MODEL)[1]
            promotion.promote(MODEL, "2" if champion == "1" else "1", "measured", force=True)

    mover = threading.Thread(target=move)
    mover.start()
    yield
    done.set()
    mover.join()


def _swaps(url: str) -> int:
    """Swaps so far, of all processes."""
    with urllib.request.urlopen(f"{url}/metrics") as response:
        told = response.read().decode()
    found = re.search(r"^potstill_swaps_total (\S+)", told, re.MULTILINE)
    return int(float(found[1])) if found else 0


def _memory_mb(service: psutil.Process) -> int:
    """What the service's processes have to themselves."""
    own = [service, *service.children(recursive=True)]
    return round(sum(process.memory_full_info().uss for process in own) / 1e6)


if __name__ == "__main__":
    main()

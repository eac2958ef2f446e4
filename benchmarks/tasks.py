"""One table of all recipes: what each model reaches, and what the small one keeps.

Each recipe is run (what is unchanged since the last run under the same root is reused) and its summary is read. The
table goes to stdout as Markdown, a recipe that was refused or failed included, with the reason.

    python benchmarks/tasks.py recipes/*.yaml --root .potstill
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from potstill.metrics import primary
from potstill.outcomes import Part, outcome_of, parts_of
from potstill.recipe import load_recipe

MODELS = ("trivial", "baseline", "control", "teacher", "student", "student_int8")
HEADS = ("recipe", "metric", *MODELS, "gain kept", "over control", "p50 ms", "p95 ms", "MB", "verdict")


def main() -> int:
    """Run, read, print; 1 if a recipe gave no summary."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipes", type=Path, nargs="+")
    parser.add_argument("--root", type=Path, default=Path(".potstill"))
    parser.add_argument("--read-only", action="store_true", help="Take the newest runs under the root as they are.")
    given = parser.parse_args()
    failed = 0
    print(f"| {' | '.join(HEADS)} |\n|{'---|' * len(HEADS)}")
    for path in given.recipes:
        name = load_recipe(path).name
        if not given.read_only:
            command = [str(Path(sys.executable).with_name("potstill")), "run", str(path), "--root", str(given.root)]
            subprocess.run(command, check=False, stdout=sys.stderr)  # noqa: S603 - our own program
        summary = _newest(given.root, name)
        failed += summary is None
        lines = _lines(name, summary) if summary else [(name, "no summary: the run failed; see its log")]
        for cells in lines:
            print(f"| {' | '.join(cells)} |", flush=True)
    return 1 if failed else 0


def _newest(root: Path, name: str) -> dict[str, Any] | None:
    """The summary of the recipe's newest run that has one."""
    summaries = sorted(root.glob("*/summary.json"), key=lambda path: path.stat().st_mtime, reverse=True)
    found = (json.loads(path.read_text(encoding="utf-8")) for path in summaries)
    return next((summary for summary in found if summary["recipe"] == name), None)


def _lines(name: str, summary: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """A line a task."""
    return [_cells(name, summary, part) for part in parts_of(outcome_of(summary["outcome"]))]


def _cells(name: str, summary: Mapping[str, Any], part: Part) -> tuple[str, ...]:
    metric = part.named(primary(part.outcome))
    meaning = summary["metrics"][metric]
    models = summary["models"]
    small = models["student_int8"]
    clauses = {clause["name"]: clause["words"] for clause in summary["verdict"]["clauses"]}
    difference = clauses[f"{part.task} control".strip()].partition("control: ")[2].partition(";")[0]
    interval = difference[difference.index("interval ") + len("interval ") :]
    return (
        name,
        meaning["title"],
        meaning["form"].format(summary["trivial"][metric]),
        *(_with_interval(models[model], metric, meaning["form"]) for model in MODELS[1:]),
        f"{small[part.named('gain_kept')]:.1%}",
        f"{difference.split()[0]} ({interval})",
        f"{small['latency_p50_ms']:.2f}",
        f"{small['latency_p95_ms']:.2f}",
        f"{small['size_bytes'] / 1e6:.1f}",
        "accepted" if summary["verdict"]["accepted"] else f"refused: {'; '.join(summary['verdict']['reasons'])}",
    )


def _with_interval(figures: Mapping[str, float], metric: str, form: str) -> str:
    low, high = (form.format(figures[f"{metric}_{end}"]) for end in ("low", "high"))
    return f"{form.format(figures[metric])} ({low}–{high})"


if __name__ == "__main__":
    sys.exit(main())

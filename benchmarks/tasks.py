"""One table of all recipes: what each model reaches, and what the small one keeps.

Each recipe is run (what is unchanged since the last run under the same root is reused) and its summary is read. The
table goes to stdout as Markdown, a recipe that was refused or failed included, with the reason. A figure shows how much
of the teacher's gain over a plain forecast each model keeps.

    python benchmarks/tasks.py recipes/*.yaml --root .potstill --figure docs/tasks.svg
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from potstill.evaluate.figures import COLOURS, STYLE
from potstill.evaluate.names import name_of
from potstill.metrics import primary
from potstill.outcomes import Part, outcome_of, parts_of
from potstill.recipe import load_recipe

MODELS = ("trivial", "baseline", "control", "teacher", "student", "edge")
# What lies further left is no use, however far.
LEAST_DRAWN = -0.5
DRAWN = ("baseline", "control", "edge")
HEADS = ("recipe", "metric", *MODELS, "gain kept", "over control", "p50 ms", "p95 ms", "MB", "verdict")


def main() -> int:
    """Run, read, print; 1 if a recipe gave no summary."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipes", type=Path, nargs="+")
    parser.add_argument("--root", type=Path, default=Path(".potstill"))
    parser.add_argument("--read-only", action="store_true", help="Take the newest runs under the root as they are.")
    parser.add_argument("--figure", type=Path, help="Where to draw what is kept, as SVG.")
    given = parser.parse_args()
    failed, kept = 0, {}
    print(f"| {' | '.join(HEADS)} |\n|{'---|' * len(HEADS)}")
    for path in given.recipes:
        name = load_recipe(path).name
        if not given.read_only:
            command = [str(Path(sys.executable).with_name("potstill")), "run", str(path), "--root", str(given.root)]
            subprocess.run(command, check=False, stdout=sys.stderr)
        summary = _newest(given.root, name)
        failed += summary is None
        lines = _lines(name, summary) if summary else [(name, "no summary: the run failed; see its log")]
        kept |= _kept(name, summary) if summary else {}
        for cells in lines:
            print(f"| {' | '.join(cells)} |", flush=True)
    if given.figure and kept:
        _draw(kept, given.figure)
    return 1 if failed else 0


def _newest(root: Path, name: str) -> dict[str, Any] | None:
    """The summary of the recipe's newest run that has one."""
    summaries = sorted(root.glob("*/summary.json"), key=lambda path: path.stat().st_mtime, reverse=True)
    found = (json.loads(path.read_text(encoding="utf-8")) for path in summaries)
    return next((summary for summary in found if summary["recipe"] == name), None)


def _lines(name: str, summary: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """A line a task."""
    return [_cells(name, summary, part) for part in parts_of(outcome_of(summary["outcome"]))]


def _kept(name: str, summary: Mapping[str, Any]) -> dict[str, dict[str, list[float]]]:
    """Recipe and task → model → share of the teacher's gain that it keeps, with its interval."""
    return {
        f"{name} {part.task}".strip(): {
            model: [summary["models"][model][part.named(f"gain_kept{end}")] for end in ("", "_low", "_high")]
            for model in DRAWN
        }
        for part in parts_of(outcome_of(summary["outcome"]))
    }


def _draw(kept: Mapping[str, Mapping[str, list[float]]], path: Path) -> None:
    """A line a task: the teacher's gain is 1, a plain forecast's 0."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(8, 1 + 0.34 * len(kept)), layout="constrained")
        axes = figure.add_subplot()
        for place, models in enumerate(kept.values()):
            for shift, (model, (value, low, high)) in zip((0.22, 0, -0.22), models.items(), strict=True):
                label = name_of(model) if place == 0 else None
                axes.plot([low, high], [place - shift] * 2, color=COLOURS[model], linewidth=1)
                axes.plot(value, place - shift, "o", markersize=4, color=COLOURS[model], label=label)
        axes.axvline(1, color=COLOURS["teacher"], linewidth=1, label="teacher")
        axes.set_yticks(range(len(kept)), list(kept))
        axes.invert_yaxis()
        axes.set_xlim(left=max(axes.get_xlim()[0], LEAST_DRAWN))
        axes.set_xlabel("share of the teacher's gain over a plain forecast that is kept, with 95 % interval")
        axes.legend(frameon=False, fontsize=9, loc="upper left", bbox_to_anchor=(1, 1))
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, format="svg", metadata={"Date": None})


def _cells(name: str, summary: Mapping[str, Any], part: Part) -> tuple[str, ...]:
    metric = part.named(primary(part.outcome))
    meaning = summary["metrics"][metric]
    models = summary["models"]
    small = models["edge"]
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

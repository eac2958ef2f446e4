"""The command `ladder`: climb, show, and lay down the table and the picture."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from potstill.commands.rungs import Ladder, Rung
from potstill.evaluate import figures
from potstill.follow import following, spoken
from potstill.metrics import Meaning
from potstill.recipe import Recipe
from potstill.store import write_text
from potstill.workshop import Workshop, refuse_open_form


def ladder(recipe: Recipe, root: Path, console: Console) -> Path:
    """Make what is missing, measure each rung, show them, and write `ladder.csv` and `ladder.svg`.

    Args:
        recipe: whose teacher and student they are.
        root: where everything lies.
        console: for progress and the table.

    Returns:
        The picture.

    Raises:
        UserError: bad input, or a recipe with several teachers or without a form of student.
    """
    refuse_open_form(recipe)
    folder = root / "ladder" / recipe.name
    folder.mkdir(parents=True, exist_ok=True)
    climber = Ladder(Workshop(recipe, root))
    with following(console, folder / "ladder.log") as follower, spoken("ladder", follower):
        rungs = []
        for rung in climber.climb():
            rungs.append(rung)
            print(f"{rung.name}: {climber.judge.meaning.form.format(rung.figure)}, {rung.p50_ms:.2f} ms")
    console.print()
    console.print(table(rungs, climber.judge.meaning))
    write_text(folder / "ladder.csv", written(rungs))
    shown = [(rung.name, climber.judge.words(rung.figure), rung.p50_ms, rung.size_bytes) for rung in rungs]
    write_text(folder / "ladder.svg", figures.ladder(shown))
    return folder / "ladder.svg"


def table(rungs: Sequence[Rung], meaning: Meaning) -> Table:
    """The rungs for a terminal, each beside the first."""
    found = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for head in ("step", meaning.title, "of teacher", "p50 ms", "faster", "mean ms", "faster", "MB", "smaller"):
        found.add_column(head, justify="left" if head == "step" else "right", no_wrap=True)
    first = rungs[0]
    for rung in rungs:
        kept = f"{rung.figure / first.figure:.1%}" if meaning.zero_is_nothing and first.figure > 0 else "–"
        found.add_row(
            rung.name,
            meaning.form.format(rung.figure),
            kept,
            f"{rung.p50_ms:.2f}",
            f"{first.p50_ms / rung.p50_ms:.1f}×",
            f"{rung.mean_ms:.2f}",
            f"{first.mean_ms / rung.mean_ms:.1f}×",
            f"{rung.size_bytes / 1e6:.1f}",
            f"{first.size_bytes / rung.size_bytes:.1f}×",
        )
    return found


def written(rungs: Sequence[Rung]) -> str:
    """The rungs as CSV."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["step", "figure", "p50_ms", "mean_ms", "size_bytes"])
    for rung in rungs:
        writer.writerow([rung.name, f"{rung.figure:.6f}", f"{rung.p50_ms:.4f}", f"{rung.mean_ms:.4f}", rung.size_bytes])
    return text.getvalue()

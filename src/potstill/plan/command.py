"""The command `plan`: measure the machine, foresee, train the promising, show, and lay down recipe and picture."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
import yaml
from matplotlib.figure import Figure
from rich import box
from rich.console import Console
from rich.table import Table

from potstill import local
from potstill.errors import UserError
from potstill.evaluate.figures import COLOURS, STYLE, spread_by_factors, svg
from potstill.plan.choose import Planner, Tried
from potstill.plan.limits import Limits, measure_limits
from potstill.plan.rungs import refuse_several_teachers
from potstill.recipe import Budget, Recipe, changed_recipe
from potstill.store import write_text
from potstill.workshop import Workshop


@dataclass(frozen=True)
class Plan:
    """Where a plan lies: its picture, and the recipe of the chosen student, if one keeps the budget."""

    picture: Path
    recipe: Path | None
    words: str


def plan(loaded: Recipe, recipe: Path, overrides: Sequence[str], root: Path, console: Console) -> Plan:
    """Find the cheapest student that keeps the recipe's budget; write `frontier.svg` and `best.yaml` or none.

    Args:
        loaded: the recipe.
        recipe: its file.
        overrides: settings that are replaced.
        root: where everything lies.
        console: for progress and tables.

    Raises:
        UserError: bad input.
    """
    refuse_several_teachers(loaded)
    if loaded.cascade is not None:
        raise UserError("cascade: a plan judges single students; leave it out, and add it to the recipe that is found")
    folder = root / "plan" / loaded.name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "best.yaml").unlink(missing_ok=True)
    planner = Planner(Workshop(loaded, root))
    with local.following(console, folder / "plan.log") as follower, local.spoken("plan", follower):
        planner.beside()
        limits = measure_limits()
        print(
            f"this machine, one core: {limits.gflops:.0f} GFLOP/s in float32, {limits.gbytes_s:.0f} GB/s, "
            f"{limits.overhead_ms * 1e3:.0f} µs to ask ONNX Runtime"
        )
        forecasts = planner.foresee()
        promising = planner.promising(forecasts)
        print(f"{len(promising)} of {len(forecasts)} forms are foreseen to keep time and size of the budget")
        # Where none is, the cheapest shows by how much it misses.
        chosen = planner.cheapest(promising or forecasts[:1])
    console.print()
    console.print(table(planner, limits))
    write_text(folder / "frontier.svg", picture(planner.tried, loaded.budget, planner.judge.meaning.title))
    if chosen is None:
        return Plan(folder / "frontier.svg", None, missed(planner, loaded.budget))
    assert chosen.forecast is not None  # noqa: S101 - those beside have none, and are never chosen
    form = chosen.forecast.form
    told = yaml.safe_dump(form.model_dump(mode="json", exclude_defaults=True), default_flow_style=True, width=1000)
    write_text(folder / "best.yaml", changed_recipe(recipe, [*overrides, f"student={told.strip()}"]))
    measured = f"{chosen.retention:.1%} of the teacher, {chosen.p95_ms:.2f} ms (p95), {chosen.size_bytes / 1e6:.1f} MB"
    words = f"{chosen.name} keeps time, size and retention of the budget: {measured}"
    return Plan(folder / "frontier.svg", folder / "best.yaml", words)


def table(planner: Planner, limits: Limits) -> Table:
    """What was tried, cheapest first."""
    found = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    heads = (
        "form",
        f"validation {planner.judge.meaning.title}",
        "retention",
        "p50 ms",
        "foreseen",
        "p95 ms",
        "MB",
        "of limit",
    )
    for head in heads:
        found.add_column(head, justify="left" if head == "form" else "right", no_wrap=True)
    for tried in sorted(planner.tried, key=lambda one: one.p50_ms):
        share = tried.limit_share(limits)
        found.add_row(
            tried.name,
            planner.judge.meaning.form.format(tried.figure),
            f"{tried.retention:.1%}",
            f"{tried.p50_ms:.2f}",
            f"{tried.forecast.p50_ms:.2f}" if tried.forecast else "–",
            f"{tried.p95_ms:.2f}",
            f"{tried.size_bytes / 1e6:.1f}",
            "–" if share is None else f"{share:.0%}",
            style="bold" if tried.forecast and planner.keeps_budget(tried) else None,
        )
    return found


def missed(planner: Planner, budget: Budget) -> str:
    """By how much the form that keeps most of the teacher misses the budget."""
    forms = [tried for tried in planner.tried if tried.forecast]
    nearest = max(forms, key=lambda tried: tried.retention)
    told = [
        f"{found:{form}} instead of {allowed:{form}}{unit}"
        for found, allowed, form, unit, is_missed in (
            (nearest.retention, budget.retention, ".1%", " of the teacher", nearest.retention < budget.retention),
            (nearest.p95_ms, budget.latency_p95_ms, ".2f", " ms (p95)", nearest.p95_ms > budget.latency_p95_ms),
            (nearest.size_bytes / 1e6, budget.size_mb, ".1f", " MB", nearest.size_bytes > budget.size_mb * 1e6),
        )
        if is_missed
    ]
    return f"no form keeps the budget; {nearest.name} comes nearest: {', '.join(told)}"


def picture(tried: Sequence[Tried], budget: Budget, title: str) -> str:
    """As SVG: quality against time, the marker's area growing with the files; lines show what the budget asks."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7.6, 4.4), layout="constrained")
        axes = figure.subplots()
        for one in tried:
            colour = COLOURS["edge"] if one.forecast else COLOURS["baseline"]
            axes.scatter(one.p50_ms, one.retention, s=20 + 6 * one.size_bytes / 1e6, color=colour, alpha=0.85, zorder=3)
            axes.annotate(one.name, (one.p50_ms, one.retention), (6, 5), textcoords="offset points", fontsize=8)
        axes.axhline(budget.retention, color=COLOURS["control"], linewidth=1, zorder=1)
        axes.axvline(budget.latency_p95_ms, color=COLOURS["control"], linewidth=1, zorder=1)
        spread_by_factors(axes, (1, 2, 5))
        axes.margins(x=0.25, y=0.15)
        axes.set_xlabel("median latency at batch 1 on one thread, ms; the line is the budget's p95")
        axes.set_ylabel(f"{title}: share of the teacher's that is kept")
        return svg(figure)

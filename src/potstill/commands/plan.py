"""The command `plan`: measure the machine, foresee, train the promising, show, and lay down recipe and picture."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from rich import box
from rich.console import Console
from rich.table import Table

from potstill.commands.planner import Planner
from potstill.commands.rungs import refuse_several_teachers
from potstill.errors import UserError
from potstill.evaluate import figures
from potstill.evaluate.report import plan_rows
from potstill.follow import following, spoken
from potstill.metrics import Meaning
from potstill.plan.forecast import foresee, promising
from potstill.plan.frontier import kept_words, missed, nearest
from potstill.plan.limits import measure_limits
from potstill.recipe import Recipe, changed_recipe
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
    shop, budget = Workshop(loaded, root), loaded.budget
    planner = Planner(shop)
    with following(console, folder / "plan.log") as follower, spoken("plan", follower):
        planner.beside()
        limits = measure_limits()
        print(f"this machine, one core: {limits.words()}")
        forecasts = foresee(shop.dataset, shop.teacher, loaded.student, loaded.distill, loaded.compress)
        chosen = planner.cheapest(promising(forecasts, budget))
    found = planner.frontier.tried
    tried, meaning = [one.told(limits, budget) for one in found], planner.frontier.judge.meaning
    console.print()
    console.print(table(tried, meaning))
    picture = figures.frontier(tried, budget.retention, budget.latency_p95_ms, meaning.title)
    write_text(folder / "frontier.svg", picture)
    if chosen is None:
        return Plan(folder / "frontier.svg", None, missed(nearest(found, budget), budget))
    assert chosen.forecast is not None  # noqa: S101 - those beside have none, and are never chosen
    form = chosen.forecast.form.model_dump(mode="json", exclude_defaults=True)
    told = yaml.safe_dump(form, default_flow_style=True, width=1000).strip()
    write_text(folder / "best.yaml", changed_recipe(recipe, [*overrides, f"student={told}", "plan=null"]))
    return Plan(folder / "frontier.svg", folder / "best.yaml", kept_words(chosen))


def table(tried: Sequence[Mapping[str, Any]], meaning: Meaning) -> Table:
    """What was tried, cheapest first; what keeps the budget stands out."""
    found = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    heads, *rows = plan_rows(tried, meaning.title, meaning.form)
    for head in heads:
        found.add_column(head, justify="left" if head == "form" else "right", no_wrap=True)
    keeps = {one["name"] for one in tried if one["keeps"]}
    for row in rows:
        found.add_row(*row, style="bold" if row[0] in keeps else None)
    return found

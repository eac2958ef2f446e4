"""Choose: of students that were taught side by side the cheapest that keeps the budget."""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from potstill.plan.forecast import from_text
from potstill.plan.forms import name_of_form, words_of
from potstill.plan.frontier import Frontier, Tried, cheapest, kept_words, missed, nearest
from potstill.plan.limits import measure_limits
from potstill.recipe import Budget, Evaluate, Student
from potstill.steps.compress import SMALL
from potstill.steps.foresee import FORESEEN
from potstill.store import to_json, writing

# In the folder of an edge model's files: what was tried before its form was chosen.
PLAN = "plan.json"


@dataclass(frozen=True)
class Contender:
    """What distill and compress wrote of one form."""

    student: Path
    edge: Path


@dataclass(frozen=True)
class Choice:
    """The form to take.

    Attributes:
        name: as the contenders have it.
        form: the same as a recipe's section.
        tried: its figures.
    """

    name: str
    form: Student
    tried: Tried


def choose(
    dataset: Path,
    signals: Path,
    contenders: Mapping[str, Contender],
    foreseen: Path,
    budget: Budget,
    settings: Evaluate,
    to: Contender,
) -> Choice:
    """Judge every contender on the validation rows, all on this machine, and copy the one to take.

    Where none keeps the budget on these rows, the one that misses it by least goes on, and the contract has the last
    word on the test rows. Beside the copied edge model stands `plan.json`: what was tried.

    Args:
        dataset: what ingest wrote.
        signals: what extract wrote.
        contenders: by the name of their form.
        foreseen: what foresee wrote.
        budget: what is to be kept.
        settings: how to measure.
        to: the folders to write.
    """
    limits = measure_limits()
    print(f"this machine, one core: {limits.words()}")
    forecasts = from_text((foreseen / FORESEEN).read_text(encoding="utf-8"))
    frontier = Frontier(dataset, signals, settings)
    frontier.add_baseline()
    by_name = {name_of_form(forecast.form): forecast for forecast in forecasts}
    found = {
        name: frontier.add(words_of(by_name[name].form), one.edge / SMALL, by_name[name])
        for name, one in sorted(contenders.items())
    }
    chosen = cheapest(frontier.tried, budget)
    best = chosen or nearest(frontier.tried, budget)
    words = kept_words(best) if chosen else missed(best, budget)
    print(words)
    name = next(name for name, tried in found.items() if tried is best)
    told = {
        "words": words,
        "chosen": best.name,
        "forms": len(forecasts),
        "fitting": sum(forecast.fits(budget) for forecast in forecasts),
        "limits": limits.words(),
        "retention": budget.retention,
        "latency_p95_ms": budget.latency_p95_ms,
        "tried": [tried.told(limits, budget) for tried in frontier.tried],
    }
    with writing(to.student) as student, writing(to.edge) as edge:
        shutil.copytree(contenders[name].student, student, dirs_exist_ok=True)
        shutil.copytree(contenders[name].edge, edge, dirs_exist_ok=True)
        (edge / PLAN).write_text(to_json(told), encoding="utf-8")
    return Choice(name, by_name[name].form, best)

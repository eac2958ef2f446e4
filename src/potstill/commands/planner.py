"""The planner: the cheapest student that keeps the budget, with as few trainings as can be."""

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from potstill.commands.rungs import pressed
from potstill.learn.model import load_model
from potstill.outcomes import Retrieval
from potstill.plan.forecast import Forecast
from potstill.plan.forms import words_of
from potstill.plan.frontier import Frontier, Tried
from potstill.recipe import Static, Student
from potstill.workshop import Workshop

STATIC_WIDTH = 256


@dataclass
class Planner:
    """Trains forms of student one after the other and judges them.

    Attributes:
        workshop: has dataset, teacher and signals.
    """

    workshop: Workshop

    @cached_property
    def frontier(self) -> Frontier:
        """What was tried."""
        return Frontier(self.workshop.dataset, self.workshop.signals, self.workshop.recipe.evaluate)

    def beside(self) -> None:
        """Judge what a plan is held against: the linear baseline, and a static student where it can be."""
        self.frontier.add_baseline()
        config: Any = load_model(self.workshop.teacher)[0].encoder.config
        form = Student(static=Static(width=min(STATIC_WIDTH, config.hidden_size)))
        can_be_taught = self.workshop.recipe.distill.why_not(form) is None
        if can_be_taught and not isinstance(self.frontier.judge.outcome, Retrieval):
            self._learn(form)

    def cheapest(self, forecasts: Sequence[Forecast]) -> Tried | None:
        """The first that keeps enough of the teacher, found by halving, for dearer forms keep more.

        None where none does, or where this one takes more time or room than it may: dearer ones take more still.
        """
        done: dict[int, Tried] = {}
        budget = self.workshop.recipe.budget

        def keeps_enough(place: int) -> bool:
            done[place] = self._learn(forecasts[place].form, forecasts[place])
            return done[place].retention >= budget.retention

        place = first_that(keeps_enough, len(forecasts))
        return None if place is None or not done[place].keeps(budget) else done[place]

    def _learn(self, form: Student, forecast: Forecast | None = None) -> Tried:
        with tempfile.TemporaryDirectory(prefix="potstill-") as scratch:
            last = pressed(self.workshop, form, self.workshop.recipe.compress, Path(scratch))[-1]
            return self.frontier.add(words_of(form), last.folder, forecast)


def first_that(holds: Callable[[int], bool], count: int) -> int | None:
    """The first place from 0 that holds, where all after one that holds do too; as few as can be are asked."""
    low, high = 0, count
    while low < high:
        middle = (low + high) // 2
        if holds(middle):
            high = middle
        else:
            low = middle + 1
    return low if low < count else None

"""Knobs that change while a student learns."""

import math

from potstill.recipe import Schedule


def value_at(progress: float, start: float, schedule: Schedule | None) -> float:
    """A knob's value after a share of the steps.

    Args:
        progress: share of the steps that are done, 0 to 1.
        start: its value at the start.
        schedule: where it goes; none: it stays.
    """
    if schedule is None:
        return start
    share = progress if schedule.form == "linear" else (1 - math.cos(math.pi * progress)) / 2
    return start + (schedule.to - start) * share

"""Progress in plain lines, which a log keeps and a terminal's runner may redraw."""

import time
from collections.abc import Callable


class Progress:
    """Says how far a loop is and how long the rest will take, at most once every few seconds.

    Args:
        total: units of work.
        unit: what one of them is called.
        every_s: shortest time between two lines, in seconds.
        clock: seconds that only grow.
        before: units that were done earlier; they tell nothing of the pace.
    """

    def __init__(
        self,
        total: int,
        unit: str,
        every_s: float = 5.0,
        clock: Callable[[], float] = time.monotonic,
        before: int = 0,
    ) -> None:
        self._total = total
        self._unit = unit
        self._every_s = every_s
        self._clock = clock
        self._before = before
        self._start = self._last = clock()

    def at(self, done: int, where: str = "") -> None:
        """Report `done` units; quiet if the last line is young."""
        now = self._clock()
        if now - self._last < self._every_s or done == self._before:
            return
        self._last = now
        left = (now - self._start) / (done - self._before) * (self._total - done)
        place = f"{where}, " if where else ""
        print(f"… {place}{self._unit} {done:,}/{self._total:,}, about {duration(left)} left", flush=True)

    def say(self, line: str) -> None:
        """Print a line that stays, with the time since the start."""
        print(f"{line} ({duration(self._clock() - self._start)})", flush=True)


def duration(seconds: float) -> str:
    """`42 s`, `3 min 05 s` or `2 h 10 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"

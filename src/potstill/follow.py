"""What goes on is followed line by line: told to a person, and kept whole in a log.

Steps speak in lines: `step │ text` is for people; `::potstill {json}` is an event. All else goes to the log alone.
"""

import contextlib
import io
import json
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

from rich.console import Console
from rich.markup import escape
from rich.status import Status as Line

from potstill import tracking
from potstill.progress import duration

EVENT, SPOKEN = re.compile(r"^\s*::potstill (\{.*\})$"), re.compile(r"^\s*([a-z0-9-]+) │ (.*)$")


@dataclass
class StepState:
    """How far one step is."""

    status: str = "running"
    cached: bool = False
    wall_s: float = 0.0


@dataclass
class Follower(io.TextIOBase):
    """Takes the runner's output line by line: shows what is for people, keeps the rest in the log."""

    log: TextIO
    console: Console
    steps: dict[str, StepState] = field(default_factory=dict)
    error: str = ""
    expected: bool = False
    status: Line | None = None
    _rests: dict[int, str] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def write(self, text: str) -> int:
        """Take some output; whole lines are dealt with. Steps side by side write from a thread each."""
        writer = threading.get_ident()
        with self._lock:
            *lines, self._rests[writer] = (self._rests.get(writer, "") + text).split("\n")
            for line in lines:
                self._take(line)
            self.log.flush()
        return len(text)

    def _take(self, line: str) -> None:
        self.log.write(line + "\n")
        if event := EVENT.match(line):
            self._happened(json.loads(event[1]))
        elif spoken := SPOKEN.match(line):
            self._said(spoken[1], spoken[2])

    def reused(self, step: str) -> None:
        """The cache had this step's result."""
        self.steps[step] = StepState("succeeded", cached=True)
        self.console.print(f"[bold]{step:<9}[/] unchanged, reused", highlight=False)

    def _happened(self, event: dict[str, Any]) -> None:
        step = event["step"]
        if event["event"] == "start":
            self.steps[step] = StepState()
            self._show(f"{step} …")
        elif event["event"] == "end":
            self.steps[step] = StepState("succeeded", wall_s=event["wall_s"])
            self.console.print(f"[bold]{step:<9}[/] [green]done[/] in {duration(event['wall_s'])}", highlight=False)
        else:
            self.steps[step].status = "failed"
            self.error, self.expected = f"{step}: {event['message']}", event["expected"]

    def _said(self, step: str, line: str) -> None:
        if line.startswith("…") and self.status:
            self._show(f"{step} {escape(line)}")
        else:
            self.console.print(f"[bold]{step:<9}[/] {escape(line)}", highlight=False, soft_wrap=True)

    def _show(self, line: str) -> None:
        if self.status:
            self.status.update(line)


@contextlib.contextmanager
def following(console: Console, log: Path) -> Iterator[Follower]:
    """What takes the output: it keeps all in a log, and on a terminal the last line redraws itself."""
    with log.open("a", encoding="utf-8") as file:
        if not console.is_terminal:
            yield Follower(file, console)
            return
        with console.status("starting …") as status:
            yield Follower(file, console, status=status)


@contextlib.contextmanager
def spoken(step: str, follower: Follower) -> Iterator[None]:
    """While the block runs, what is printed is followed as a step's words."""
    with tracking.Spoken(step, follower) as told, contextlib.redirect_stdout(told):
        yield

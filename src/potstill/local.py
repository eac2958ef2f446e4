"""Run the pipeline on this machine by kfp's own local runner, follow it, and gather what it leaves.

Steps speak in lines: `step │ text` is for people; `::potstill {json}` is an event. All else goes to `run.log` alone.
"""

import contextlib
import datetime
import io
import json
import os
import re
import signal
import threading
import time
import warnings
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TextIO

from kfp import dsl, local
from kfp.local import cache, executor_input_utils
from kfp.local.orchestrator import enhanced_dag_orchestrator
from kfp.local.status import Status
from rich.console import Console
from rich.markup import escape
from rich.status import Status as Line

from potstill import tracking
from potstill.code import code_version
from potstill.errors import UserError
from potstill.pipelines import distill
from potstill.progress import duration
from potstill.recipe import Recipe
from potstill.shelves import shelf_behind
from potstill.store import write_text

EVENT, SPOKEN = re.compile(r"^\s*::potstill (\{.*\})$"), re.compile(r"^\s*([a-z0-9-]+) │ (.*)$")
# In kfp's name of a loop's turn.
ITERATION = "-iteration-"
# A thread that waits should not burn a core that a neighbour needs; results don't depend on it.
CHILD_ENVIRONMENT = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "0", "TOKENIZERS_PARALLELISM": "false"}


class RunFailedError(Exception):
    """A step failed for a reason that is not the user's input."""


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


class DigestCache(cache.LocalCache):
    """kfp's local cache, which knows an artifact by its content instead of its place.

    Ingest always runs, into a new folder each time; equal rows must still find the results made from them.
    """

    def __init__(self, cache_root: str, follower: Follower) -> None:
        super().__init__(cache_root)
        self._follower = follower
        self._asked: dict[str, str] = {}

    @staticmethod
    def _serialize_value_for_key(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: DigestCache._serialize_value_for_key(entry) for name, entry in value.items()}
        if isinstance(value, list):
            return [DigestCache._serialize_value_for_key(entry) for entry in value]
        if isinstance(value, dsl.Artifact) and "digest" in value.metadata:
            return {"schema_title": value.schema_title, "digest": value.metadata["digest"]}
        return cache.LocalCache._serialize_value_for_key(value)

    def compute_key(
        self, component_name: str, image: str, full_command: list[str], arguments: dict[str, Any], *more: Any, **by: Any
    ) -> str:
        """The key, remembered with the step that asked for it: a component of several steps is told which it is."""
        key: str = super().compute_key(component_name, image, full_command, arguments, *more, **by)
        # kfp numbers the tasks of one component.
        step = re.sub(r"^comp-|-\d+$", "", component_name)
        self._asked[key] = tracking.name_of(step, arguments.get("variant", ""))
        return key

    def get(self, key: str) -> dict[str, Any] | None:
        """Cached outputs, announced to the follower."""
        found: dict[str, Any] | None = super().get(key)
        if found is not None and not all(map(_is_there, found.values())):
            return None
        if found is not None:
            self._follower.reused(self._asked[key])
        return found


def _is_there(output: Any) -> bool:
    """Whether the folder that an output stands for is still there."""
    if isinstance(output, dsl.Artifact) and Path(output.path).is_dir():
        try:
            shelf_behind(Path(output.path))
        except UserError:
            return False
    return True


def run(recipe: Recipe, root: Path, console: Console, artifacts: Path | None) -> Path:
    """Run a recipe's pipeline and return the run's folder, which holds `summary.json`, `report.html` and `run.log`.

    Args:
        recipe: what to run.
        root: where runs and the cache lie.
        console: for progress.
        artifacts: where a new MLflow experiment keeps its files; none: where its server puts them.

    Raises:
        UserError: bad input, as the step that found it says.
        RunFailedError: any other failure, with the place of the log.
    """
    started = time.monotonic()
    folder = _new_folder(root, recipe.name)
    os.environ.update(CHILD_ENVIRONMENT | {tracking.RUN_ID_VARIABLE: folder.name})
    tracking.open_run(recipe.name, recipe.model_dump(mode="json", by_alias=True), artifacts)
    with following(console, folder / "run.log") as follower:
        try:
            _execute(recipe, folder, follower)
        except RuntimeError as error:
            if follower.expected:
                raise UserError(follower.error) from error
            raise RunFailedError(f"{follower.error or 'the pipeline failed'}; see {folder / 'run.log'}") from error
        except KeyboardInterrupt:
            # The exit handler has no turn after an interruption.
            tracking.close(recipe.name, "CANCELLED")
            raise
    _conclude(folder, follower.steps, time.monotonic() - started)
    _point_latest(root, folder)
    return folder


def _new_folder(root: Path, name: str) -> Path:
    stamp = datetime.datetime.now().strftime("%Y-%m-%d-%H-%M-%S-%f")
    folder = (root / f"{name}-{stamp}").absolute()
    try:
        folder.mkdir(parents=True)
    except OSError as error:
        raise UserError(f"--root {root}: can't write there: {error.strerror}") from error
    return folder


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


def _execute(recipe: Recipe, folder: Path, follower: Follower) -> None:
    root = folder.parent
    # kfp names a run's folder by itself, at the moment of the call; we need to know it before.
    executor_input_utils.get_local_pipeline_resource_name = lambda _: folder.name
    local.init(local.SubprocessRunner(use_venv=False), pipeline_root=str(root), enable_caching=True)
    cache_root = str(root / "cache")
    cache._cache_singleton, cache._cache_singleton_root = DigestCache(cache_root, follower), cache_root
    local.config.LocalExecutionConfig.instance.cache_root = cache_root
    with contextlib.redirect_stdout(follower), warnings.catch_warnings(), _stopping_at_once(follower):
        warnings.simplefilter("ignore")
        distill.build(recipe)(code_version=code_version(), store=str(root))


@contextlib.contextmanager
def _stopping_at_once(follower: Follower) -> Iterator[None]:
    """While the block runs, an interruption or a failed step ends a loop: kfp would begin what still waits in it."""
    interrupted = threading.Event()
    execute = enhanced_dag_orchestrator.execute_task

    def interrupt(*_: Any) -> None:
        interrupted.set()
        raise KeyboardInterrupt

    def unless_stopped(task_name: str, **more: Any) -> Any:
        if ITERATION in task_name and (interrupted.is_set() or follower.error):
            return {}, Status.FAILURE
        return execute(task_name=task_name, **more)

    # Who ignores interruptions, as a job in the background does, goes on ignoring them.
    hears = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if hears:
        signal.signal(signal.SIGINT, interrupt)
    enhanced_dag_orchestrator.execute_task = unless_stopped
    try:
        yield
    finally:
        enhanced_dag_orchestrator.execute_task = execute
        if hears:
            signal.signal(signal.SIGINT, signal.default_int_handler)


def _conclude(folder: Path, steps: dict[str, StepState], wall_s: float) -> None:
    """Complete the summary with times, and lay it and the report where a person looks."""
    registered = folder / "register"
    summary = json.loads((registered / "summary").read_text(encoding="utf-8"))
    summary["wall_s"] = round(wall_s, 1)
    summary["steps"] = {name: asdict(state) for name, state in steps.items()}
    report = (registered / "report").read_text(encoding="utf-8")
    write_text(folder / "report.html", report)
    write_text(folder / "summary.json", json.dumps(summary, indent=1, ensure_ascii=False))


def _point_latest(root: Path, folder: Path) -> None:
    draft = root / f".latest-{os.getpid()}"
    draft.symlink_to(folder.name)
    draft.replace(root / "latest")

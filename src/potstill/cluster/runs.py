"""Runs on a backend: starting one, following it to its end, and those that were."""

import datetime
import time
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import islice
from typing import Any

import kfp_server_api
from rich.console import Console
from rich.markup import escape
from rich.status import Status

from potstill.cluster.client import Backend, UnsureError, known_experiment, made_experiment, made_once, named, pages
from potstill.cluster.package import Order, pipeline_named, uploaded
from potstill.errors import UserError
from potstill.progress import duration

ENDED = {"SUCCEEDED": "done", "FAILED": "failed", "CANCELED": "cancelled", "SKIPPED": "skipped"}
POLL_S = 5.0
# For so long a run is followed on while the backend gives no answer: it may be restarted under a long run.
PATIENCE_S = 600.0
# Among so many of the newest runs one that goes on is looked for.
LOOKED_AT = 1000
# How the backend names the task that prepares another one's container.
DRIVER = "-driver"


class RunFailedError(Exception):
    """A run on the cluster ended otherwise than well; tells which task failed, and why."""


def start(backend: Backend, ordered: Order, experiment: str) -> Any:
    """Start a run of a recipe in an experiment; pipeline, version and experiment are made where they are missing.

    Raises:
        BackendError: the backend refuses, or it stays unsure whether there is such a run.
    """
    version = uploaded(backend, ordered.package)
    place = made_experiment(backend, experiment)
    # No two runs have one name, so that one whose start is unsure can be looked for.
    name = f"{ordered.package.recipe}-{datetime.datetime.now(datetime.UTC):%Y-%m-%d-%H-%M-%S-%f}"
    wanted = kfp_server_api.V2beta1Run(
        display_name=name,
        experiment_id=place.experiment_id,
        pipeline_version_reference=version_reference(version),
        runtime_config=ordered.config,
        service_account=ordered.service_account,
    )
    by = {"experiment_id": place.experiment_id}
    return made_once(
        lambda: named(backend.runs.run_service_list_runs, "runs", "display_name", name, **by),
        lambda: backend.runs.run_service_create_run(run=wanted),
    )


def going_on(backend: Backend, recipe: str) -> Any | None:
    """The newest run of a recipe that has not ended, whoever started it; none if the newest thousand runs hold none.

    Raises:
        BackendError: the backend refuses, or gives no answer.
    """
    if (pipeline := pipeline_named(backend, recipe)) is None:
        return None
    newest = islice(_newest(backend, None), LOOKED_AT)
    own = (run for run in newest if _pipeline_of(run) == pipeline.pipeline_id)
    return next((run for run in own if run.state not in ENDED), None)


def version_reference(version: Any) -> Any:
    """A pipeline's version, as a run names it."""
    return kfp_server_api.V2beta1PipelineVersionReference(
        pipeline_id=version.pipeline_id, pipeline_version_id=version.pipeline_version_id
    )


class Follower:
    """Tells what changed among a run's tasks since they were last seen.

    Args:
        steps: names for people of the tasks that are told of, by the names that the backend gives.
        console: for lines that stay.
        line: on a terminal, the one that redraws itself; a log gets a line for each start instead.
    """

    def __init__(self, steps: dict[str, str], console: Console, line: Status | None) -> None:
        self._steps, self._console, self._line = steps, console, line
        self._states: dict[str, str] = {}

    def see(self, run: Any) -> None:
        """Take a run's present state."""
        tasks = [task for task in _tasks(run) if task.display_name in self._steps]
        for task in sorted(tasks, key=lambda task: _wall_s(run.created_at, task.start_time)):
            if task.state and self._states.get(task.task_id) != task.state:
                self._states[task.task_id] = task.state
                self._tell(task)
        running = sorted({self._steps[task.display_name] for task in tasks if task.state == "RUNNING"})
        if self._line and running:
            self._line.update(f"{escape(', '.join(running))} …")

    def say(self, line: str) -> None:
        """Print a line that stays."""
        self._console.print(escape(line), highlight=False, soft_wrap=True)

    def _tell(self, task: Any) -> None:
        if task.state == "SUCCEEDED":
            told = f"[green]done[/] in {duration(_wall_s(task.start_time, task.end_time))}"
        elif task.state in ENDED:
            told = f"[{'red' if task.state == 'FAILED' else 'yellow'}]{ENDED[task.state]}[/]"
        elif task.state == "RUNNING" and not self._line:
            told = "started"
        else:
            return
        step = escape(self._steps[task.display_name])
        self._console.print(f"[bold]{step}[/] {told}", highlight=False, soft_wrap=True)


def follow(backend: Backend, run_id: str, steps: dict[str, str], console: Console) -> None:
    """Show a run's progress until it has ended.

    Args:
        backend: where it runs.
        run_id: which one.
        steps: see `Follower`.
        console: see `Follower`.

    Raises:
        RunFailedError: it failed or was cancelled.
        BackendError: the backend refuses, or gives no answer for ten minutes.
    """
    heard = time.monotonic()
    with console.status("waiting for the first step …") if console.is_terminal else nullcontext() as line:
        follower = Follower(steps, console, line)
        while True:
            try:
                run = backend.runs.run_service_get_run(run_id)
            except UnsureError as error:
                if time.monotonic() - heard > PATIENCE_S:
                    raise
                follower.say(f"{error}; the run goes on, asking again")
            else:
                heard = time.monotonic()
                follower.see(run)
                if run.state in ENDED:
                    break
            time.sleep(POLL_S)
    if run.state != "SUCCEEDED":
        raise RunFailedError(_failure(run, steps))


def _tasks(run: Any) -> list[Any]:
    told = (run.run_details and run.run_details.task_details) or []
    return [task for task in told if task.display_name]


def _failure(run: Any, steps: dict[str, str]) -> str:
    """Which task failed, and why. The 2.17 backend tells no task's error itself (kubeflow/pipelines issue 14007)."""
    failed = [task for task in _tasks(run) if task.state == "FAILED"]
    own = [task for task in failed if task.display_name.removesuffix(DRIVER) in steps]
    told = next((thing.error.message for thing in (*own, *failed, run) if thing.error and thing.error.message), "")
    if not told and run.state == "FAILED":
        told = "the backend tells no reason; the task's log on the run's page does"
    names = ", ".join(dict.fromkeys(steps[task.display_name.removesuffix(DRIVER)] for task in own))
    headline = f"run {ENDED[run.state]}" + (f" at {names}" if names else "")
    return headline + (f": {' '.join(told.split())}" if told else "")


@dataclass(frozen=True)
class Past:
    """A run, as a list shows it.

    Attributes:
        wall_s: how long it took, or has taken so far.
        recipe: the pipeline's name; empty where its pipeline is gone or it was started from a file.
    """

    state: str
    started: datetime.datetime
    wall_s: float
    recipe: str
    name: str
    link: str


def recent(backend: Backend, last: int, experiment: str | None, recipe: str | None) -> list[Past]:
    """The newest runs, newest first.

    Args:
        backend: where they run.
        last: how many, at most.
        experiment: only this one's.
        recipe: only this one's.

    Raises:
        UserError: there is no such experiment or recipe.
    """
    ask, by = backend.pipelines.pipeline_service_list_pipelines, {"namespace": backend.namespace}
    recipes = {pipeline.pipeline_id: pipeline.name for pipeline in pages(ask, "pipelines", **by)}
    if recipe is not None and recipe not in recipes.values():
        raise UserError(f"--recipe {recipe}: the backend has no such pipeline")
    fitting = (run for run in _newest(backend, experiment) if recipe in (None, recipes.get(_pipeline_of(run))))
    now = datetime.datetime.now(datetime.UTC)
    return [
        Past(
            (run.state or "PENDING").lower(),
            run.created_at,
            _wall_s(run.created_at, run.finished_at if run.state in ENDED else now),
            recipes.get(_pipeline_of(run), ""),
            run.display_name,
            backend.link("runs", run.run_id),
        )
        for run in islice(fitting, last)
    ]


def _newest(backend: Backend, experiment: str | None) -> Iterator[Any]:
    if experiment is not None:
        by = {"experiment_id": known_experiment(backend, experiment).experiment_id}
    else:
        by = {"namespace": backend.namespace}
    return pages(backend.runs.run_service_list_runs, "runs", sort_by="created_at desc", **by)


def _pipeline_of(run: Any) -> str:
    reference = run.pipeline_version_reference
    return (reference.pipeline_id if reference else None) or ""


def _wall_s(begin: datetime.datetime | None, end: datetime.datetime | None) -> float:
    """Seconds between; the backend gives the epoch for a moment that it doesn't know."""
    return max(0.0, (end - begin).total_seconds()) if begin and end else 0.0

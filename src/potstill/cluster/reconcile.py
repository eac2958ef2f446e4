"""Schedules on a backend: what a file declares is made so, and what is there can be paused and removed.

A recurring run can't be changed (kubeflow/pipelines issue 3789). So its name carries the digest of what runs and when:
a change makes a new one, and only then ends the old. An apply that broke off in between is finished by the next.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

import kfp_server_api

from potstill.cluster.client import (
    Backend,
    experiment_named,
    known_experiment,
    made_experiment,
    made_once,
    pages,
)
from potstill.cluster.package import uploaded
from potstill.cluster.runs import version_reference
from potstill.cluster.schedules import Wanted, run_name
from potstill.errors import UserError

# In the description of each recurring run that is Potstill's; those without it are someone else's.
MARK = re.compile(r"potstill schedule (\S+) ([0-9a-f]{64})")


@dataclass(frozen=True)
class Kept:
    """A recurring run that Potstill made.

    Attributes:
        schedule: name of the schedule that it keeps.
        digest: see `Wanted`.
        runs: whether it is not paused.
    """

    schedule: str
    digest: str
    runs: bool
    cron: str
    experiment_id: str
    identity: str

    @property
    def name(self) -> str:
        """Its own name."""
        return run_name(self.schedule, self.digest)


@dataclass(frozen=True)
class Step:
    """One thing to do to one recurring run; a `keep` does nothing.

    Attributes:
        paused: whether what is made starts paused, or what is kept is.
    """

    verb: Literal["keep", "create", "disable", "delete"]
    subject: Wanted | Kept
    paused: bool = False

    def __str__(self) -> str:
        name = self.subject.run_name if isinstance(self.subject, Wanted) else self.subject.name
        tail = f"  {self.subject.cron}" if self.verb in ("keep", "create") else ""
        return f"{self.verb:<8}{name}{tail}{'  paused' if self.paused else ''}"


def plan(wanted: list[Wanted], there: list[Kept]) -> list[Step]:
    """What must be done, in order, so that what is wanted runs and nothing else of ours."""
    steps: list[Step] = []
    for one in wanted:
        own = [kept for kept in there if kept.schedule == one.name]
        current = next((kept for kept in own if kept.digest == one.digest), None)
        if current:
            steps.append(Step("keep", current, not current.runs))
        else:
            # A schedule that was paused stays paused when it changes.
            steps.append(Step("create", one, bool(own) and not any(kept.runs for kept in own)))
        steps += _end(kept for kept in own if kept is not current)
    declared = {one.name for one in wanted}
    return steps + _end(kept for kept in there if kept.schedule not in declared)


def _end(past: Iterable[Kept]) -> list[Step]:
    """Disabled first, so that a deletion that breaks off leaves nothing that starts runs."""
    steps = []
    for kept in past:
        if kept.runs:
            steps.append(Step("disable", kept))
        steps.append(Step("delete", kept))
    return steps


def steps_to(backend: Backend, experiment: str, wanted: list[Wanted]) -> list[Step]:
    """The plan for an experiment; asks, and changes nothing.

    Raises:
        BackendError: the backend refuses.
    """
    place = experiment_named(backend, experiment)
    return plan(wanted, list(_kept(backend, place.experiment_id)) if place else [])


def carry_out(backend: Backend, experiment: str, steps: list[Step], tell: Callable[[Step], None]) -> None:
    """Do what a plan says, and tell of each step that is done.

    Raises:
        BackendError: the backend refuses; the next apply goes on from there.
    """
    for step in steps:
        if isinstance(step.subject, Wanted):
            _create(backend, experiment, step.subject, step.paused)
        elif step.verb == "disable":
            _disable(backend, step.subject)
        elif step.verb == "delete":
            _delete(backend, step.subject)
        tell(step)


def _create(backend: Backend, experiment: str, wanted: Wanted, paused: bool) -> None:
    version = uploaded(backend, wanted.order.package)
    place = made_experiment(backend, experiment)
    body = kfp_server_api.V2beta1RecurringRun(
        display_name=wanted.run_name,
        description=f"potstill schedule {wanted.name} {wanted.digest}",
        experiment_id=place.experiment_id,
        # Without a version the newest would run, whatever it is by then.
        pipeline_version_reference=version_reference(version),
        runtime_config=wanted.order.config,
        service_account=wanted.order.service_account,
        trigger=kfp_server_api.V2beta1Trigger(cron_schedule=kfp_server_api.V2beta1CronSchedule(cron=wanted.cron)),
        mode="DISABLE" if paused else "ENABLE",
        # Two runs at once would race for the champion's place.
        max_concurrency="1",
        no_catchup=not wanted.catch_up,
    )
    made_once(
        lambda: next((kept for kept in _kept(backend, place.experiment_id) if kept.name == wanted.run_name), None),
        lambda: backend.recurring_runs.recurring_run_service_create_recurring_run(recurring_run=body),
    )


def _disable(backend: Backend, kept: Kept) -> None:
    backend.recurring_runs.recurring_run_service_disable_recurring_run(kept.identity)


def _delete(backend: Backend, kept: Kept) -> None:
    backend.recurring_runs.recurring_run_service_delete_recurring_run(kept.identity)


def _kept(backend: Backend, experiment_id: str | None) -> Iterator[Kept]:
    """The recurring runs that are Potstill's, of an experiment or of all."""
    ask = backend.recurring_runs.recurring_run_service_list_recurring_runs
    by = {"experiment_id": experiment_id} if experiment_id else {"namespace": backend.namespace}
    for found in pages(ask, "recurring_runs", **by):
        mark = MARK.fullmatch(found.description or "")
        if mark and found.display_name == run_name(mark[1], mark[2]):
            cron = found.trigger.cron_schedule.cron
            runs = found.status == "ENABLED"
            yield Kept(mark[1], mark[2], runs, cron, found.experiment_id, found.recurring_run_id)


def listed(backend: Backend) -> list[tuple[Kept, str]]:
    """All schedules of Potstill's by name, each with the name of its experiment."""
    ask, by = backend.experiments.experiment_service_list_experiments, {"namespace": backend.namespace}
    names = {place.experiment_id: place.display_name for place in pages(ask, "experiments", **by)}
    found = sorted(_kept(backend, None), key=lambda kept: (kept.schedule, kept.identity))
    return [(kept, names.get(kept.experiment_id, kept.experiment_id)) for kept in found]


def pause(backend: Backend, schedule: str, experiment: str | None) -> None:
    """Let a schedule start no runs until it is resumed; an apply leaves it paused.

    Raises:
        UserError: there is no such schedule, or one in several experiments.
    """
    for kept in _of(backend, schedule, experiment):
        _disable(backend, kept)


def resume(backend: Backend, schedule: str, experiment: str | None) -> None:
    """Let a paused schedule start runs again.

    Raises:
        UserError: see `pause`; or an apply broke off, so that two would run.
    """
    found = _of(backend, schedule, experiment)
    if len(found) > 1:
        raise UserError(f"{schedule}: an apply broke off and left {len(found)} of it; apply the schedules first")
    backend.recurring_runs.recurring_run_service_enable_recurring_run(found[0].identity)


def remove(backend: Backend, schedule: str, experiment: str | None) -> None:
    """End a schedule; an apply of a file that declares it makes it again.

    Raises:
        UserError: see `pause`.
    """
    for kept in _of(backend, schedule, experiment):
        _disable(backend, kept)
        _delete(backend, kept)


def _of(backend: Backend, schedule: str, experiment: str | None) -> list[Kept]:
    """The recurring runs of one schedule: one, or after an apply that broke off more."""
    place = known_experiment(backend, experiment).experiment_id if experiment else None
    there = list(_kept(backend, place))
    found = [kept for kept in there if kept.schedule == schedule]
    if not found:
        names = ", ".join(sorted({kept.schedule for kept in there})) or "none at all"
        raise UserError(f"{schedule}: no such schedule; there is {names}")
    if len({kept.experiment_id for kept in found}) > 1:
        raise UserError(f"{schedule}: several experiments have it; say which by --experiment")
    return found

"""The schedules that a file declares: read, checked, and made into what the backend is to hold."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field

from potstill.cluster.cron import check_cron
from potstill.cluster.package import Order, order
from potstill.errors import UserError
from potstill.pipelines.pods import Cluster, load_cluster
from potstill.sections import Section, load

NAME = r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?$"
DIGEST_DIGITS = 8


class Schedule(Section):
    """One recipe that runs by itself."""

    recipe: str = Field(min_length=1, description="The recipe's file, as seen from this file's folder.")
    cron: Annotated[str, AfterValidator(check_cron)] = Field(
        description="Six fields: second, minute, hour, day of month, month, day of week; in the backend's time zone."
    )
    set: list[str] = Field([], description="Settings replaced, each as section.key=value.")
    catch_up: bool = Field(False, description="Whether turns that were missed, in a pause or an outage, are made up.")


class Schedules(Section):
    """A file of them."""

    experiment: str = Field(min_length=1, description="The experiment whose schedules this file declares, all of them.")
    cluster: str = Field("", description="File that says how steps run, as seen from this file's folder.")
    schedules: dict[Annotated[str, Field(pattern=NAME, max_length=60)], Schedule]


@dataclass(frozen=True)
class Wanted:
    """A schedule as the backend is to hold it.

    Attributes:
        name: of the schedule; what runs it is called `name-digest`.
        digest: of all that decides what runs and when; 64 hexadecimal digits.
    """

    name: str
    cron: str
    catch_up: bool
    order: Order
    digest: str

    @property
    def run_name(self) -> str:
        """Name of the recurring run."""
        return run_name(self.name, self.digest)


def run_name(schedule: str, digest: str) -> str:
    """Name of the recurring run that keeps a schedule of that digest."""
    return f"{schedule}-{digest[:DIGEST_DIGITS]}"


def read_schedules(path: Path, images: Path | None = None) -> tuple[str, list[Wanted]]:
    """The experiment and its schedules, as a file declares them.

    Args:
        path: the file.
        images: see `order`.

    Raises:
        UserError: the file can't be read, a key is unknown or stands twice, a cron expression is wrong, a recipe is not
            there or wrong; the message names the file and the key.
    """
    file = load(Schedules, path)
    cluster = load_cluster(path.parent / file.cluster if file.cluster else None)
    wanted = [_wanted(path, name, schedule, cluster, images) for name, schedule in file.schedules.items()]
    return file.experiment, wanted


def _wanted(path: Path, name: str, schedule: Schedule, cluster: Cluster, images: Path | None) -> Wanted:
    try:
        ordered = order(path.parent / schedule.recipe, tuple(schedule.set), cluster, images)
    except UserError as error:
        raise UserError(f"{path}: schedules.{name}: {error}") from error
    told = [schedule.cron, schedule.catch_up, ordered.package.version, ordered.parameters, ordered.service_account]
    digest = hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()
    return Wanted(name, schedule.cron, schedule.catch_up, ordered, digest)

"""The schedules that a file declares: read, checked, and made into what the backend is to hold."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import AfterValidator, Field

from potstill.cluster.cron import check_cron
from potstill.cluster.package import Order, order
from potstill.errors import UserError
from potstill.recipe import Section, section

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


class _File(Section):
    experiment: str = Field(min_length=1, description="The experiment whose schedules this file declares, all of them.")
    schedules: dict[Annotated[str, Field(pattern=NAME, max_length=60)], Any]


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


def read_schedules(path: Path) -> tuple[str, list[Wanted]]:
    """The experiment and its schedules, as a file declares them.

    Raises:
        UserError: the file can't be read, a key is unknown or stands twice, a cron expression is wrong, a recipe is not
            there or wrong; the message names the file and the key.
    """
    file = section(_File, str(path), _read(path))
    return file.experiment, [_wanted(path, name, values) for name, values in file.schedules.items()]


def _wanted(path: Path, name: str, values: Any) -> Wanted:
    where = f"{path}: schedules.{name}"
    if not isinstance(values, dict):
        raise UserError(f"{where}: a schedule is a mapping of recipe, cron and perhaps set and catch_up")
    schedule = section(Schedule, where, values)
    try:
        ordered = order(path.parent / schedule.recipe, tuple(schedule.set))
    except UserError as error:
        raise UserError(f"{where}: {error}") from error
    told = [schedule.cron, schedule.catch_up, ordered.package.version, ordered.parameters]
    digest = hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()
    return Wanted(name, schedule.cron, schedule.catch_up, ordered, digest)


def _read(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
        tree = yaml.compose(text, Loader=yaml.SafeLoader)
        values = yaml.safe_load(text)
    except OSError as error:
        raise UserError(f"{path}: can't read the schedules: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: is not UTF-8 (byte {error.start})") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}:{mark.line + 1}" if mark else str(path)
        raise UserError(f"{where}: not valid YAML: {getattr(error, 'problem', None) or error}") from error
    if not isinstance(values, dict):
        raise UserError(f"{path}: is no mapping of experiment and schedules")
    _refuse_doubles(tree, path, "")
    return values


def _refuse_doubles(node: yaml.Node | None, path: Path, prefix: str) -> None:
    """YAML's reader takes the last of two equal keys without a word."""
    if not isinstance(node, yaml.MappingNode):
        return
    seen: set[str] = set()
    for key, value in node.value:
        name = f"{prefix}{key.value}"
        if name in seen:
            raise UserError(f"{path}:{key.start_mark.line + 1}: {name} stands there twice")
        seen.add(name)
        _refuse_doubles(value, path, f"{name}.")

"""The space of a search: which settings change, and how far."""

import json
import math
import types
import typing
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import optuna
import yaml

from potstill.errors import UserError
from potstill.recipe import Distill, Recipe, Section, Student, load_recipe

SECTIONS: dict[str, type[Section]] = {"distill": Distill, "student": Student}
# Where good values of a setting lie, as far as papers and our own runs tell; a search may say otherwise.
USUAL: dict[str, tuple[float, float]] = {
    "temperature": (1, 8),
    "alpha": (0.3, 1),
    "learning_rate": (3e-5, 5e-4),
    "head_learning_rate": (1e-4, 1e-2),
    "epochs": (2, 10),
    "layers": (1, 6),
    "warmup": (0, 0.3),
    "weight_decay": (1e-4, 0.3),
    "focus": (0, 3),
    "label_smoothing": (0, 0.2),
    "listwise": (0, 1),
    "margin": (0, 2),
    "align": (0, 2),
    "unlabelled": (0, 1),
    "balance": (0, 1),
}
USUAL_CHOICES: dict[str, list[Any]] = {"batch_size": [16, 32, 64]}
# A range that spans so many times its lower end is searched by its logarithm.
WIDE = 8
Choice = str | int | float | bool | None


@dataclass(frozen=True)
class Knob:
    """A setting that a search changes.

    Attributes:
        key: of the recipe, such as `distill.temperature`.
        low: the least value.
        high: the most.
        is_whole: whether it is a whole number.
        choices: the values there are, instead of a range.
    """

    key: str
    low: float = 0
    high: float = 0
    is_whole: bool = False
    choices: tuple[Choice, ...] = ()

    @property
    def by_logarithm(self) -> bool:
        """Whether what counts is the ratio of two values, not their difference."""
        return self.low > 0 and self.high / self.low >= WIDE

    def suggest(self, trial: optuna.Trial) -> Choice:
        """A value for a trial."""
        if self.choices:
            return trial.suggest_categorical(self.key, list(self.choices))
        if self.is_whole:
            return trial.suggest_int(self.key, int(self.low), int(self.high), log=self.by_logarithm)
        return trial.suggest_float(self.key, self.low, self.high, log=self.by_logarithm)

    def holds(self, value: Choice) -> bool:
        """Whether a value may be suggested."""
        if self.choices:
            return value in self.choices
        return isinstance(value, int | float) and self.low <= value <= self.high

    @property
    def ends(self) -> tuple[Choice, ...]:
        """Values between which, or among which, all others lie."""
        if self.choices:
            return self.choices
        return (int(self.low), int(self.high)) if self.is_whole else (self.low, self.high)


def override(key: str, value: Choice) -> str:
    """A setting as `--set` takes it."""
    return f"{key}={json.dumps(value)}"


def read_space(over: str, recipe: Path, overrides: Sequence[str]) -> list[Knob]:
    """The knobs that `--over` names, each of which the recipe takes at both of its ends.

    Args:
        over: names with commas between them, each as it is, or with a range `=low:high` or choices `=one|other`.
        recipe: its file.
        overrides: settings that are replaced.

    Raises:
        UserError: a name is no setting of the student's, or the recipe refuses one of its values.
    """
    knobs = [_knob(part.strip()) for part in over.split(",") if part.strip()]
    if not knobs:
        raise UserError("--over names no setting; as in --over temperature,alpha,layers=2:4")
    for knob in knobs:
        for value in knob.ends:
            try:
                load_recipe(recipe, [*overrides, override(knob.key, value)])
            except UserError as error:
                raise UserError(f"--over {knob.key}: {error}") from error
    return knobs


def value_in(recipe: Recipe, key: str) -> Choice:
    """A setting's value in a recipe; none where it has none."""
    found: Any = recipe
    for name in key.split("."):
        found = found.get(name) if isinstance(found, dict) else getattr(found, name, None)
    return found if isinstance(found, str | int | float | bool) else None


def _knob(told: str) -> Knob:
    name, _, values = told.partition("=")
    key, kind = _found(name)
    usual = key.rpartition(".")[2]
    if ":" in values:
        return _ranged(key, kind, values)
    if values:
        return Knob(key, choices=tuple(yaml.safe_load(value) for value in values.split("|")))
    if usual in USUAL:
        low, high = USUAL[usual]
        return Knob(key, low, high, kind is int)
    choices = USUAL_CHOICES.get(usual) or _choices(kind)
    if not choices:
        raise UserError(f"--over {name}: say where it may lie, as in {name}=0.1:1 or {name}=1|2")
    return Knob(key, choices=tuple(choices))


def _ranged(key: str, kind: Any, values: str) -> Knob:
    try:
        low, high = map(float, values.split(":"))
    except ValueError as error:
        raise UserError(f"--over {key}={values}: a range is two numbers, as in 0.1:1") from error
    if not (math.isfinite(low) and low < high < math.inf):
        raise UserError(f"--over {key}={values}: the first number must be the smaller one")
    return Knob(key, low, high, kind is int)


def _found(name: str) -> tuple[str, Any]:
    """The whole key of a setting, and its type."""
    first, _, rest = name.partition(".")
    if first in SECTIONS and rest:
        field = SECTIONS[first].model_fields.get(rest.partition(".")[0])
        return name, _plain(field.annotation) if field else None
    for section, kind in SECTIONS.items():
        if name in kind.model_fields:
            return f"{section}.{name}", _plain(kind.model_fields[name].annotation)
    raise UserError(f"--over {name}: no setting of the sections distill and student, which alone a search changes")


def _plain(annotation: Any) -> Any:
    """The type of a setting, without the none that it may be instead."""
    if isinstance(annotation, types.UnionType):
        kinds = [kind for kind in typing.get_args(annotation) if kind is not types.NoneType]
        return _plain(kinds[0]) if len(kinds) == 1 else None
    return typing.get_args(annotation)[0] if typing.get_origin(annotation) is typing.Annotated else annotation


def _choices(kind: Any) -> list[Choice]:
    if kind is bool:
        return [False, True]
    return list(typing.get_args(kind)) if typing.get_origin(kind) is Literal else []

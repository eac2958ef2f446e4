"""The space of a search: which settings change, and how far."""

import json
import math
import types
import typing
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import optuna
import yaml

from potstill.errors import UserError
from potstill.hub import check_layers, layers_of
from potstill.recipe import Distill, Recipe, Student, load_recipe
from potstill.sections import Section

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
LAYERS = "student.layers"
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
        UserError: a name is no setting of the student's, stands twice or has no effect in this recipe, or the recipe or
            the encoder refuses one of its values.
    """
    own = load_recipe(recipe, overrides)
    knobs = [_knob(part.strip(), own) for part in over.split(",") if part.strip()]
    if not knobs:
        raise UserError("--over names no setting; as in --over temperature,alpha,layers=2:4")
    keys = [knob.key for knob in knobs]
    twice = [key for key in keys if keys.count(key) > 1]
    if twice:
        raise UserError(f"--over {twice[0]}: named twice")
    return [_taken(knob, recipe, overrides) for knob in knobs]


def value_in(recipe: Recipe, key: str) -> Choice:
    """A setting's value in a recipe; none where it has none, and its words where it is no single value."""
    found: Any = recipe
    for name in key.split("."):
        found = found.get(name) if isinstance(found, dict) else getattr(found, name, None)
    return found if found is None or isinstance(found, str | int | float | bool) else repr(found)


def _taken(knob: Knob, recipe: Path, overrides: Sequence[str]) -> Knob:
    """The knob with its choices as the recipe reads them, once the recipe has taken all its ends."""
    try:
        loaded = [load_recipe(recipe, [*overrides, override(knob.key, value)]) for value in knob.ends]
        if knob.key == LAYERS:
            for one in loaded:
                check_layers(one.teacher.encoder, one.student.layers)
    except UserError as error:
        raise UserError(f"--over {knob.key}: {error}") from error
    return replace(knob, choices=tuple(value_in(one, knob.key) for one in loaded)) if knob.choices else knob


def _knob(told: str, own: Recipe) -> Knob:
    name, _, values = told.partition("=")
    key, kind = _found(name)
    if key == LAYERS and (isinstance(own.student.keep, list) or not own.student.has_teachers_layers):
        raise UserError(f"--over {name}: the recipe's student says otherwise which layers it has; nothing would change")
    usual = key.rpartition(".")[2]
    if ":" in values and "|" not in values:
        return _ranged(key, kind, values)
    if values:
        return Knob(key, choices=tuple(_choice(key, value) for value in values.split("|")))
    if usual in USUAL:
        low, high = USUAL[usual]
        if key == LAYERS:
            high = min(high, layers_of(own.teacher.encoder) or high)
        return Knob(key, low, high, kind is int)
    choices = USUAL_CHOICES.get(usual) or _choices(kind)
    if not choices:
        raise UserError(f"--over {name}: say where it may lie, as in {name}=0.1:1 or {name}=1|2")
    return Knob(key, choices=tuple(choices))


def _choice(key: str, told: str) -> Choice:
    try:
        value = yaml.safe_load(told)
    except yaml.YAMLError as error:
        raise UserError(f"--over {key}: {told!r} is not a YAML value") from error
    if value is not None and not isinstance(value, str | int | float | bool):
        raise UserError(f"--over {key}: {told!r} is no single number, word or switch")
    return value


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
    first, *rest = name.split(".")
    if first in SECTIONS and rest:
        return name, _leaf(SECTIONS[first], rest)
    for section, kind in SECTIONS.items():
        if name in kind.model_fields:
            return f"{section}.{name}", _leaf(kind, [name])
    raise UserError(f"--over {name}: no setting of the sections distill and student, which alone a search changes")


def _leaf(kind: Any, path: Sequence[str]) -> Any:
    """The type of a setting some levels down; none where there is no such setting, which reading a recipe will tell."""
    for name in path:
        if not (isinstance(kind, type) and issubclass(kind, Section) and name in kind.model_fields):
            return None
        kind = _plain(kind.model_fields[name].annotation)
    return kind


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

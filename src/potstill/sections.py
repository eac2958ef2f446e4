"""Settings in YAML: read whole, checked by their types, and told with line and nearest name where they are wrong."""

import difflib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import UnionType
from typing import Any, TypeVar, get_args, get_origin

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from potstill.errors import UserError


class Section(BaseModel):
    """A part of some settings: unknown keys are refused, values don't change after reading."""

    # Defaults are read as values are, so that a setting looks the same whether it was given or not.
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, validate_default=True)


S = TypeVar("S", bound=Section)


def load(kind: type[S], path: Path, overrides: Sequence[str] = ()) -> S:
    """Read and check a file of settings.

    Args:
        kind: what it holds.
        path: the YAML file.
        overrides: `section.key=value` strings that replace values of the file; the value is read as YAML.

    Raises:
        UserError: the file can't be read, is no YAML mapping, or a setting is unknown or out of bounds;
            the message names the line (or the override) and the nearest valid name.
    """
    values, places = read(kind, path, overrides)
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        raise UserError(_explain(error, places, str(path), kind)) from error


def read(kind: type[S], path: Path, overrides: Sequence[str] = ()) -> tuple[dict[str, Any], dict[str, str]]:
    """The values of a file of settings, and where each dotted key stands; unchecked.

    Raises:
        UserError: the file can't be read, or is no YAML mapping.
    """
    what = kind.__name__.lower()
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(f"{path}: can't read the {what}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: the {what} is not UTF-8 (byte {error.start})") from error
    try:
        tree = yaml.compose(text, Loader=yaml.SafeLoader)
        values = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}:{mark.line + 1}" if mark else str(path)
        raise UserError(f"{where}: not valid YAML: {getattr(error, 'problem', None) or error}") from error
    if not isinstance(values, dict):
        names = ", ".join([*kind.model_fields][:4])
        raise UserError(f"{path}: a {what} is a mapping of sections ({names}, …)")
    places = {key: f"{path}:{line}" for key, line in _lines(tree, path).items()}
    for override in overrides:
        key = _apply(values, override)
        places[key] = f"--set {key}"
    return values, places


def checked(kind: type[S], name: str, values: Mapping[str, Any]) -> S:
    """A section from plain values, as a pipeline's form gives them.

    Raises:
        UserError: a setting is unknown or out of bounds.
    """
    try:
        return kind.model_validate(dict(values))
    except ValidationError as error:
        raise UserError(_explain(error, {}, name, kind)) from error


def _lines(node: yaml.Node | None, path: Path, prefix: str = "") -> dict[str, int]:
    """Line of each dotted key in the file, from 1. Of two equal ones YAML's reader takes the last without a word.

    Raises:
        UserError: a key stands twice.
    """
    lines: dict[str, int] = {}
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            name = f"{prefix}{key.value}"
            line = key.start_mark.line + 1
            if name in lines:
                raise UserError(f"{path}:{line}: {name} stands there twice")
            lines[name] = line
            lines |= _lines(value, path, f"{name}.")
    return lines


def _apply(values: dict[str, Any], override: str) -> str:
    """Set one `section.key=value` in place and return its dotted key."""
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise UserError(f"--set {override}: write it as section.key=value, as in --set distill.temperature=3")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UserError(f"--set {key}: {text!r} is not a YAML value") from error
    *sections, last = key.split(".")
    for section in sections:
        values = values.setdefault(section, {})
        if not isinstance(values, dict):
            raise UserError(f"--set {key}: {section} is a value, not a section")
    values[last] = value
    return key


def _explain(error: ValidationError, places: dict[str, str], origin: str, kind: type[BaseModel]) -> str:
    """One line for the first thing that is wrong."""
    problem = error.errors()[0]
    # Branches of a union put their type's name into the location; a setting's keys are never written like that.
    location = [str(part) for part in problem["loc"] if not re.search(r"[\[(]|^(int|float|str)$", str(part))]
    key = ".".join(location)
    where = next(
        (places[k] for k in (".".join(location[:n]) for n in range(len(location), 0, -1)) if k in places), origin
    )
    if problem["type"] == "extra_forbidden":
        nearest = difflib.get_close_matches(key, _known_keys(kind, location), n=1, cutoff=0.5)
        hint = f"; did you mean {nearest[0]}?" if nearest else ""
        return f"{where}: {key}: no such setting{hint}"
    if problem["type"] == "missing":
        return f"{where}: {key}: missing; {_description(kind, location)}"
    message = problem["msg"].removeprefix("Value error, ")
    found = "" if isinstance(problem["input"], dict) else f" (found {problem['input']!r})"
    return f"{where}: {key or kind.__name__.lower()}: {message[0].lower()}{message[1:]}{found}"


def _known_keys(section: type[BaseModel], location: Sequence[str], prefix: str = "") -> list[str]:
    """Every dotted key that there may be; where a mapping takes any name, under the one that was given."""
    keys = []
    for name, field in section.model_fields.items():
        key = f"{prefix}{field.alias or name}"
        keys.append(key)
        if (inner := _section_in(field.annotation)) is not None:
            keys += _known_keys(inner, location[1:], f"{key}.")
        elif (named := _section_of_each(field.annotation)) is not None and location[:1] == [name] and location[1:]:
            keys += _known_keys(named, location[2:], f"{key}.{location[1]}.")
    return keys


def _section_of_each(annotation: Any) -> type[BaseModel] | None:
    """The section that each entry of a mapping is."""
    return _section_in(get_args(annotation)[1]) if get_origin(annotation) is dict else None


def _section_in(annotation: Any) -> type[BaseModel] | None:
    """The section that a setting is, or may be."""
    kinds = get_args(annotation) if isinstance(annotation, UnionType) else (annotation,)
    return next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)), None)


def _description(kind: type[BaseModel], location: list[str]) -> str:
    """The one line of why of a setting, or a plain word for a missing section."""
    section: type[BaseModel] | None = kind
    told, names = f"a {kind.__name__.lower()} needs it", iter(location)
    for name in names:
        fields = {field.alias or key: field for key, field in section.model_fields.items()} if section else {}
        if name not in fields:
            break
        told = f"expected: {fields[name].description}" if fields[name].description else told
        section = _section_in(fields[name].annotation)
        if (named := _section_of_each(fields[name].annotation)) is not None:
            section, _ = named, next(names, None)
    return told

"""The model registry: versions with their lineage, the aliases champion and challenger, and every move of them."""

import contextlib
import datetime
import difflib
import getpass
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version as installed
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, DataType, Schema
from mlflow.types.schema import Map, Object, Property

from potstill import edge, outcomes
from potstill import inputs as inputs_module
from potstill.errors import UserError
from potstill.inputs import Features
from potstill.tracking import client

CHAMPION, CHALLENGER, NONE = "champion", "challenger", "none"
HISTORY = "potstill.history"
# The width of MLflow's database column. Its own check allows more, which PostgreSQL then refuses.
HISTORY_LENGTH = 5000
WHY_LENGTH = 500
ROLLBACK = "rollback: "
# What a version needs where it serves; nothing more is installed there.
SERVING_LIBRARIES = ("mlflow-skinny", "numpy", "onnxruntime", "pandas", "tokenizers")


@dataclass(frozen=True)
class Registered:
    """A version and the alias that it has, if any."""

    version: str | None
    alias: str | None


@dataclass(frozen=True)
class Version:
    """A line of `potstill models`."""

    model: str
    version: str
    aliases: tuple[str, ...]
    quality: str
    created: datetime.datetime
    dataset_digest: str
    pipeline_run: str


@dataclass(frozen=True)
class Move:
    """One move of the champion alias."""

    before: str | None
    to: str
    who: str
    when: str
    why: str


def register_edge(
    model: str,
    folder: Path,
    *,
    run_id: str,
    tags: Mapping[str, str],
    alias: str | None,
    judged_against: str,
    why: str,
) -> Registered:
    """Register an edge model as a new version with its lineage as tags, and give it an alias.

    The very same model, known by the tag `edge_digest`, is registered once: its version is returned and nothing moves.

    Args:
        model: name in the registry.
        folder: `edge/small`.
        run_id: the MLflow run that the version belongs to.
        tags: lineage; must hold `edge_digest`.
        alias: champion, challenger, or none for a model that was refused; then nothing is registered.
        judged_against: version that the champion had when the model was judged, or `none`.
        why: reason of the move, for the history.

    Raises:
        UserError: the champion changed since the model was judged.
    """
    if alias is None:
        return Registered(None, None)
    found = client()
    known = _by_digest(found, model, tags["edge_digest"])
    if known is not None:
        own = [name for name in (CHAMPION, CHALLENGER) if name in _aliases(found, known)]
        return Registered(_number(known), own[0] if own else None)
    if alias == CHAMPION:
        _still(found, model, None if judged_against == NONE else judged_against)
    number = _log_model(found, model, folder, run_id)
    for key, value in {**tags, "judged_against": judged_against}.items():
        found.set_model_version_tag(model, number, key, value)
    if alias == CHAMPION:
        _move(found, model, number, why, expected=None if judged_against == NONE else judged_against)
    else:
        found.set_registered_model_alias(model, CHALLENGER, number)
    return Registered(number, alias)


def champion_to_beat(model: str, edge_digest: str) -> str:
    """Version that a new model has to beat, or `none`.

    A model that is registered already is judged as it was then, never against itself or against its successors: an
    unchanged rerun asks the same question and can reuse the answer.
    """
    found = client()
    known = _by_digest(found, model, edge_digest)
    if known is not None:
        rival = str(known.tags.get("judged_against", NONE))
        return rival if any(_number(entry) == rival for entry in _versions(found, model)) else NONE
    champion = _champion(found, model)
    return champion or NONE


@contextlib.contextmanager
def fetched(reference: str) -> Iterator[Path]:
    """The edge folder of NAME (its champion), NAME@ALIAS or NAME/VERSION, for as long as the block lasts.

    Raises:
        UserError: no such model, alias or version.
    """
    found = client()
    with tempfile.TemporaryDirectory(prefix="potstill-") as scratch:
        yield _download(found, _resolve(found, reference), Path(scratch))


def named(reference: str) -> tuple[str, str]:
    """Model and version that NAME (its champion), NAME@ALIAS or NAME/VERSION means now.

    Raises:
        UserError: no such model, alias or version.
    """
    entry = _resolve(client(), reference)
    return entry.name, _number(entry)


def download_edge(model: str, version: str, to: Path) -> Path:
    """Bring a version's files to the folder `to`, and return the edge model's folder in it.

    Raises:
        UserError: no such model or version, or its files are gone.
    """
    found = client()
    return _download(found, _version(found, model, version), to)


def versions(model: str | None = None) -> list[Version]:
    """All versions of a model, or of every model, newest first.

    Raises:
        UserError: no such model.
    """
    found = client()
    names = [_checked(found, model)] if model else sorted(m.name for m in found.search_registered_models())
    return [_line(found, entry) for name in names for entry in _versions(found, name)]


def promote(model: str, version: str | None, reason: str) -> Move:
    """Make a version the champion; none: the challenger.

    Raises:
        UserError: no such model or version, no challenger, it is the champion already, or the alias has moved
            since it was looked at.
    """
    found = client()
    _checked(found, model)
    wanted = version or _alias(found, model, CHALLENGER)
    if wanted is None:
        raise UserError(f"{model} has no challenger; name a version: {_numbers(found, model)}")
    _version(found, model, wanted)
    champion = _champion(found, model)
    if champion == wanted:
        raise UserError(f"{model}: version {wanted} is the champion already")
    return _move(found, model, wanted, reason, expected=champion)


def rollback(model: str, reason: str) -> Move:
    """Make the champion before the present one the champion again. A second rollback goes one further back.

    Raises:
        UserError: no such model, or no earlier champion.
    """
    found = client()
    _checked(found, model)
    champion = _champion(found, model)
    there = {_number(entry) for entry in _versions(found, model)}
    past = _reign(history(model))
    # Somebody may have moved or removed the alias, or deleted a version, in MLflow's own pages.
    if past and past[-1] == champion:
        past.pop()
    earlier = [version for version in past if version in there and version != champion]
    if not earlier:
        raise UserError(f"{model}: there is no earlier champion to go back to")
    return _move(found, model, earlier[-1], f"{ROLLBACK}{reason}", expected=champion)


def history(model: str) -> list[Move]:
    """Every move of the champion alias, oldest first."""
    text = client().get_registered_model(model).tags.get(HISTORY, "[]")
    return [Move(**move) for move in json.loads(text)]


def _reign(moves: list[Move]) -> list[str]:
    """The champions that a rollback can go back through, the present one last.

    A rollback takes the last one off again, so that the next rollback goes further back instead of to and fro.
    """
    past: list[str] = []
    for move in moves:
        if move.why.startswith(ROLLBACK) and move.to in past[:-1]:
            del past[len(past) - past[::-1].index(move.to) :]
        else:
            past.append(move.to)
    return past


def _move(found: MlflowClient, model: str, version: str, why: str, expected: str | None) -> Move:
    """Move the champion alias if it still is where it was seen, and record the move."""
    _still(found, model, expected)
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    move = Move(expected, version, _user(), now, why[:WHY_LENGTH])
    moves = [asdict(entry) for entry in [*history(model), move]]
    while len(json.dumps(moves)) > HISTORY_LENGTH and len(moves) > 1:
        moves.pop(0)
    found.set_registered_model_alias(model, CHAMPION, version)
    found.set_registered_model_tag(model, HISTORY, json.dumps(moves))
    if _alias(found, model, CHALLENGER) == version:
        found.delete_registered_model_alias(model, CHALLENGER)
    return move


def _user() -> str:
    """Who is at work; a container's user may have no name."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"


def _still(found: MlflowClient, model: str, expected: str | None) -> None:
    """Refuse to move an alias that somebody else has moved since it was looked at."""
    seen = _champion(found, model)
    if seen != expected:
        raise UserError(
            f"{model}: the champion is version {seen or NONE} by now, not {expected or NONE}; "
            "look at `potstill models` and decide again"
        )


def _log_model(found: MlflowClient, model: str, folder: Path, run_id: str) -> str:
    """Log the edge model as a generic MLflow model that needs neither Potstill nor torch; return its new version."""
    card = json.loads((folder / edge.CARD).read_text(encoding="utf-8"))
    texts: list[str] = card["text"]
    features = Features.from_spec(card["features"])
    inputs = [ColSpec(DataType.string, name, required=len(texts) == 1) for name in texts]
    inputs += [ColSpec(DataType.double, name, required=False) for name in features.numeric]
    inputs += [ColSpec(DataType.string, name, required=False) for name in features.names[len(features.numeric) :]]
    signature = ModelSignature(Schema(inputs), Schema(_answer_columns(outcomes.outcome_of(card["outcome"]))))
    mlflow.set_tracking_uri(found.tracking_uri)
    with mlflow.start_run(run_id=run_id, log_system_metrics=False):
        logged = mlflow.pyfunc.log_model(
            name="edge",
            python_model=edge.__file__,
            code_paths=[inputs_module.__file__, outcomes.__file__],
            artifacts={"edge": str(folder)},
            signature=signature,
            input_example=pd.DataFrame({name: ["a text to answer"] for name in texts}),
            pip_requirements=[f"{name}=={installed(name)}" for name in SERVING_LIBRARIES],
            registered_model_name=model,
        )
    return str(logged.registered_model_version)


def _answer_columns(outcome: outcomes.Outcome) -> list[ColSpec]:
    """Columns of the answers; of several tasks one a task, which holds an object."""
    if isinstance(outcome, outcomes.Together):
        return [ColSpec(Object([Property(*field) for field in _answer_types(o)]), task) for task, o in outcome.tasks]
    return [ColSpec(kind, name) for name, kind in _answer_types(outcome)]


def _answer_types(outcome: outcomes.Single) -> list[tuple[str, DataType | Map]]:
    types: dict[str, DataType | Map] = {"label": DataType.string, "reply": DataType.string, "answer": DataType.string}
    types |= dict.fromkeys(("probabilities", "answers"), Map(DataType.double))
    return [(name, types.get(name, DataType.double)) for name in outcome.fields]


def _download(found: MlflowClient, version: ModelVersion, to: Path) -> Path:
    uri = f"models:/{version.name}/{version.version}"
    mlflow.set_tracking_uri(found.tracking_uri)
    try:
        local = Path(mlflow.artifacts.download_artifacts(artifact_uri=uri, dst_path=str(to)))
    except (MlflowException, OSError) as error:
        raise UserError(f"{version.name}: the files of version {version.version} are gone: {error}") from error
    folder = edge_in(local)
    if folder is None:
        raise UserError(f"{version.name}: version {version.version} holds no edge model")
    return folder


def edge_in(place: Path) -> Path | None:
    """The edge model's folder among a version's files; the smaller model of a cascade lies within it."""
    cards = sorted(place.rglob(edge.CARD), key=lambda card: len(card.parts))
    return cards[0].parent if cards else None


def _resolve(found: MlflowClient, reference: str) -> ModelVersion:
    """NAME, NAME@ALIAS or NAME/VERSION as a version."""
    if "/" in reference:
        name, _, number = reference.partition("/")
        return _version(found, name, number)
    name, _, alias = reference.partition("@")
    _checked(found, name)
    wanted = alias or CHAMPION
    holder = _alias(found, name, wanted)
    if holder is None:
        raise UserError(f"{name} has no {wanted}; name a version: {_numbers(found, name)}")
    return _version(found, name, holder)


def _checked(found: MlflowClient, model: str) -> str:
    """The name of a model that is there."""
    try:
        found.get_registered_model(model)
    except MlflowException as error:
        names = [entry.name for entry in found.search_registered_models()]
        near = difflib.get_close_matches(model, names, n=1)
        hint = f"did you mean {near[0]}?" if near else f"registered: {', '.join(names) or 'none yet'}"
        raise UserError(f"{model}: no such registered model; {hint}") from error
    return model


def _version(found: MlflowClient, model: str, version: str) -> ModelVersion:
    _checked(found, model)
    for entry in _versions(found, model):
        if _number(entry) == version:
            return entry
    raise UserError(f"{model}: no version {version}; there is {_numbers(found, model)}")


def _versions(found: MlflowClient, model: str) -> list[ModelVersion]:
    """All versions, newest first."""
    entries: list[ModelVersion] = []
    token = None
    while True:
        page = found.search_model_versions(f"name='{model}'", page_token=token)
        entries += page
        token = page.token
        if not token:
            return sorted(entries, key=lambda entry: -int(entry.version))


def _number(version: ModelVersion) -> str:
    """A version's number as text: MLflow gives an int from a database, a str from a server."""
    return str(version.version)


def _by_digest(found: MlflowClient, model: str, edge_digest: str) -> ModelVersion | None:
    """The version that holds this very edge model."""
    matches = [entry for entry in _versions(found, model) if entry.tags.get("edge_digest") == edge_digest]
    return matches[-1] if matches else None


def _aliases(found: MlflowClient, version: ModelVersion) -> list[str]:
    aliases: dict[str, Any] = found.get_registered_model(version.name).aliases
    return sorted(alias for alias, number in aliases.items() if str(number) == _number(version))


def _alias(found: MlflowClient, model: str, alias: str) -> str | None:
    try:
        number = found.get_registered_model(model).aliases.get(alias)
    except MlflowException:
        return None
    return None if number is None else str(number)


def _champion(found: MlflowClient, model: str) -> str | None:
    return _alias(found, model, CHAMPION)


def _numbers(found: MlflowClient, model: str) -> str:
    return ", ".join(_number(entry) for entry in reversed(_versions(found, model))) or "no version"


def _line(found: MlflowClient, entry: ModelVersion) -> Version:
    return Version(
        model=entry.name,
        version=_number(entry),
        aliases=tuple(_aliases(found, entry)),
        quality=" ".join(entry.tags[name] for name in ("metric", "quality") if name in entry.tags),
        created=datetime.datetime.fromtimestamp(entry.creation_timestamp / 1000),
        dataset_digest=entry.tags.get("dataset_digest", ""),
        pipeline_run=entry.tags.get("kfp.run_id", ""),
    )

"""The model registry: versions with their lineage, found by name, alias or number."""

import contextlib
import datetime
import difflib
import json
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import version as installed
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature
from mlflow.store.entities import PagedList
from mlflow.types import ColSpec, DataType, Schema
from mlflow.types.schema import Map, Object, Property

from potstill import edge, outcomes
from potstill import inputs as inputs_module
from potstill.errors import UserError
from potstill.inputs import Features
from potstill.moves import (
    CHALLENGER,
    CHAMPION,
    NONE,
    REGISTRATION,
    LostRaceError,
    Standing,
    is_claim,
    look,
    move,
    noticed,
    withdraw,
)
from potstill.tracking import PIPELINE_RUN, client

# Tags: what a version was judged against, what else changes when it is judged anew, and the recipe's policy.
AGAINST, JUDGEMENT, POLICY = "judged_against", ("evaluation_digest", "metric", "quality"), "promote"
# A tag that is overwritten, not taken away: who may EDIT a model may do no more.
PROGRESS, BEGUN, ENDED = "registration", "begun", "ended"
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

    The very same model, known by the tag `edge_digest`, is registered once: its version is returned and nothing moves,
    unless an earlier attempt ended before it gave the alias. If it was judged anew, against another champion, its tags
    say so, and no approval of it counts any more.

    Args:
        model: name in the registry.
        folder: `edge/small`.
        run_id: the MLflow run that the version belongs to.
        tags: lineage; must hold `edge_digest`.
        alias: champion, challenger, or none for a model that was refused; then nothing is registered.
        judged_against: version that the champion had when the model was judged, or `none`.
        why: reason of the move, for the history.

    Raises:
        UserError: the champion changed since the model was judged. Then no new version stays.
    """
    if alias is None:
        return Registered(None, None)
    found = client()
    known = _by_digest(found, model, tags["edge_digest"])
    if known is not None:
        seen = look(found, model)
        _judged_anew(found, known, seen, tags, judged_against)
        if not _unfinished(known, seen):
            return _as_registered(seen, known)
    seen = noticed(found, model)
    if alias == CHAMPION:
        _still(seen, judged_against)
    number = number_of(known) if known else _log_model(found, model, folder, run_id)
    for key, value in {PROGRESS: BEGUN, **tags, AGAINST: judged_against}.items():
        found.set_model_version_tag(model, number, key, value)
    _give(found, seen, number, alias, why)
    found.set_model_version_tag(model, number, PROGRESS, ENDED)
    return Registered(number, alias)


def registered(model: str, edge_digest: str) -> Registered | None:
    """The version that holds this very edge model, if there is one."""
    found = client()
    known = _by_digest(found, model, edge_digest)
    return None if known is None else _as_registered(look(found, model), known)


def champion_to_beat(model: str, edge_digest: str) -> str:
    """Version that a new model has to beat, or `none`.

    A model that is or was champion is judged as it was then, never against itself or against its successors: an
    unchanged rerun asks the same question and can reuse the answer.
    """
    found = client()
    known, seen = _by_digest(found, model, edge_digest), look(found, model)
    if known is not None and _was_champion(known, seen):
        rival = str(known.tags.get(AGAINST, NONE))
        return rival if any(number_of(entry) == rival for entry in entries(found, model)) else NONE
    return seen.champion or NONE


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
    return entry.name, number_of(entry)


def download_edge(model: str, version: str, to: Path) -> Path:
    """Bring a version's files to the folder `to`, and return the edge model's folder in it.

    Raises:
        UserError: no such model or version, or its files are gone.
    """
    found = client()
    return _download(found, entry_of(found, model, version), to)


def versions(model: str | None = None) -> list[Version]:
    """All versions of a model, or of every model, newest first.

    Raises:
        UserError: no such model.
    """
    found = client()
    names = [checked(found, model)] if model else sorted(_names(found))
    return [_line(look(found, name), entry) for name in names for entry in entries(found, name)]


def _judged_anew(
    found: MlflowClient, known: ModelVersion, seen: Standing, tags: Mapping[str, str], judged_against: str
) -> None:
    """Give a version that is there already its newest judgement, if it was judged against another champion."""
    if known.tags.get(AGAINST) == judged_against:
        return
    judgement = {AGAINST: judged_against} | {name: tags[name] for name in JUDGEMENT if name in tags}
    for key, value in judgement.items():
        found.set_model_version_tag(known.name, number_of(known), key, value)
    withdraw(found, known.name, number_of(known), seen.aliases)


def _unfinished(known: ModelVersion, seen: Standing) -> bool:
    """Whether a version still waits for its alias; one that is or was champion waits for nothing."""
    return known.tags.get(PROGRESS) == BEGUN and not _was_champion(known, seen)


def _was_champion(known: ModelVersion, seen: Standing) -> bool:
    """Whether a version is or was champion."""
    return number_of(known) in {seen.champion, *(made.to for made in seen.moves)}


def _give(found: MlflowClient, seen: Standing, number: str, alias: str, why: str) -> None:
    """Give a version its alias; if somebody else has moved the champion, take the version away."""
    if alias == CHALLENGER:
        found.set_registered_model_alias(seen.model, CHALLENGER, number)
        return
    try:
        move(found, seen, number, REGISTRATION, why)
    except LostRaceError:
        # The next run of the recipe judges it against whichever champion there is then.
        found.delete_model_version(seen.model, number)
        raise


def _as_registered(seen: Standing, version: ModelVersion) -> Registered:
    own = [alias for alias in (CHAMPION, CHALLENGER) if seen.aliases.get(alias) == number_of(version)]
    return Registered(number_of(version), own[0] if own else None)


def _still(seen: Standing, judged_against: str) -> None:
    """Refuse a model that was judged against another champion than there is."""
    if (seen.champion or NONE) != judged_against:
        raise UserError(
            f"{seen.model}: the champion is version {seen.champion or NONE} by now, not {judged_against}, which this "
            "model was judged against; run the recipe again to judge it anew"
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
        return entry_of(found, name, number)
    name, _, alias = reference.partition("@")
    checked(found, name)
    wanted = alias or CHAMPION
    holder = look(found, name).aliases.get(wanted)
    if holder is None:
        raise UserError(f"{name} has no {wanted}; name a version: {numbers(found, name)}")
    return entry_of(found, name, holder)


def checked(found: MlflowClient, model: str) -> str:
    """The name of a model that is there.

    Raises:
        UserError: no such model.
    """
    try:
        found.get_registered_model(model)
    except MlflowException as error:
        names = _names(found)
        near = difflib.get_close_matches(model, names, n=1)
        hint = f"did you mean {near[0]}?" if near else f"registered: {', '.join(names) or 'none yet'}"
        raise UserError(f"{model}: no such registered model; {hint}") from error
    return model


def _names(found: MlflowClient) -> list[str]:
    return [entry.name for entry in _paged(found.search_registered_models) if not is_claim(entry.name)]


def entry_of(found: MlflowClient, model: str, version: str) -> ModelVersion:
    """A version by its number.

    Raises:
        UserError: no such model or version.
    """
    checked(found, model)
    for entry in entries(found, model):
        if number_of(entry) == version:
            return entry
    raise UserError(f"{model}: no version {version}; there is {numbers(found, model)}")


def entries(found: MlflowClient, model: str) -> list[ModelVersion]:
    """All versions, newest first."""
    return sorted(_paged(found.search_model_versions, f"name='{model}'"), key=lambda entry: -int(entry.version))


def _paged(search: Callable[..., PagedList[Any]], *query: str) -> Iterator[Any]:
    """All that a search of MLflow's client finds, page by page."""
    token = None
    while True:
        page = search(*query, page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def number_of(version: ModelVersion) -> str:
    """A version's number as text: MLflow gives an int from a database, a str from a server."""
    return str(version.version)


def _by_digest(found: MlflowClient, model: str, edge_digest: str) -> ModelVersion | None:
    """The version that holds this very edge model."""
    matches = [entry for entry in entries(found, model) if entry.tags.get("edge_digest") == edge_digest]
    return matches[-1] if matches else None


def numbers(found: MlflowClient, model: str) -> str:
    """The versions that a model has, in words."""
    return ", ".join(number_of(entry) for entry in reversed(entries(found, model))) or "no version"


def _line(seen: Standing, entry: ModelVersion) -> Version:
    return Version(
        model=entry.name,
        version=number_of(entry),
        aliases=tuple(sorted(alias for alias, number in seen.aliases.items() if number == number_of(entry))),
        quality=" ".join(entry.tags[name] for name in ("metric", "quality") if name in entry.tags),
        created=datetime.datetime.fromtimestamp(entry.creation_timestamp / 1000),
        dataset_digest=entry.tags.get("dataset_digest", ""),
        pipeline_run=entry.tags.get(PIPELINE_RUN, ""),
    )

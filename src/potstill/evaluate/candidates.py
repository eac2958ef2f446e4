"""The models to be judged, each opened anew as a service would have it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from potstill.compress.pack import pack
from potstill.compress.settle import settle, tempered
from potstill.data.dataset import Rows, Schema
from potstill.edge import CATALOGUE, PROFILE, EdgeModel, Row
from potstill.errors import UserError
from potstill.evaluate.baseline import Baseline, Likeness
from potstill.learn.committee import mixed
from potstill.learn.model import load_model
from potstill.learn.signals import read_signals
from potstill.learn.teachers import load_teachers, member_folders, read_weights
from potstill.outcomes import Outcome, Probabilities, Retrieval, parts_of, probabilities_of, side_by_side
from potstill.store import folder_bytes


@dataclass(frozen=True)
class Inputs:
    """Folders to judge."""

    dataset: Path
    signals: Path
    teacher: Path
    control: Path
    student: Path
    edge: Path
    champion: Path | None


@dataclass(frozen=True)
class Candidate:
    """A model as the report shows it: how it answers, how long that takes, how large it is.

    A baseline chosen from several plain models also has what each of them answers.
    """

    probabilities: Probabilities
    ask: Callable[[Sequence[Row]], Probabilities]
    size_bytes: int
    views: Mapping[str, Probabilities] = field(default_factory=dict)

    def answer(self, row: Row) -> Probabilities:
        """One answer to one row, as a service asks for it."""
        return self.ask([row])


def open_all(inputs: Inputs, schema: Schema, splits: dict[str, Rows], scratch: Path) -> dict[str, Candidate]:
    """Every model, opened anew. The teacher's answers come from its signals; its time, from the same graph format."""
    rows = splits["test"]
    records = rows.records(schema.text[0])
    control = pack(*load_model(inputs.control), scratch / "control", schema)
    settle(control, splits["validation"])
    found = {
        "baseline": baseline_of(schema, splits, records),
        "control": from_edge(control, records, rows),
        "teacher": _teacher(inputs, schema, splits, scratch),
        "student": from_edge(inputs.edge / "float", records, rows),
        "edge": from_edge(inputs.edge / "small", records, rows),
    }
    if inputs.champion:
        found["champion"] = _rival(inputs.champion, records, rows, schema.outcome)
    return found


def from_edge(folder: Path, records: Sequence[Row], rows: Rows) -> Candidate:
    """A packed model; one that retrieves is judged by finding the rows' answers among each other.

    Args:
        folder: of the model.
        records: the rows as a service gets them.
        rows: the same rows.
    """
    model = _opened(folder, rows)
    # What is timed searches the catalogue that it ships.
    served = EdgeModel(folder, threads=1) if (folder / CATALOGUE).is_file() else model
    return Candidate(model.probabilities(records), served.probabilities, folder_bytes(folder, but=PROFILE))


def _opened(folder: Path, rows: Rows) -> EdgeModel:
    """An edge model; one that retrieves finds the test rows' answers among each other, whatever it shipped."""
    model = EdgeModel(folder, threads=1)
    if rows.answer is not None:
        model.learn_catalogue(rows.catalogue)
    return model


def baseline_of(schema: Schema, splits: dict[str, Rows], records: Sequence[Row]) -> Candidate:
    """A plain model for each task."""
    if isinstance(schema.outcome, Retrieval):
        likeness = Likeness(splits["train"], schema)
        return Candidate(likeness.probabilities(records), likeness.probabilities, likeness.size_bytes())
    models = [
        Baseline(splits["train"].of(part), splits["validation"].of(part), schema.of(part))
        for part in parts_of(schema.outcome)
    ]

    def probabilities(asked: Sequence[Row]) -> Probabilities:
        return np.concatenate([model.probabilities(asked) for model in models], axis=1)

    size_bytes = sum(model.size_bytes() for model in models)
    views = models[0].each(records) if len(models) == 1 else {}
    return Candidate(probabilities(records), probabilities, size_bytes, views)


def _teacher(inputs: Inputs, schema: Schema, splits: dict[str, Rows], scratch: Path) -> Candidate:
    """The teacher, or all teachers together."""
    rows, validation = splits["test"], splits["validation"]
    members = [
        [
            pack(*teacher, scratch / f"teacher-{i}-{j}", schema)
            for j, teacher in enumerate(load_teachers(member, schema.outcome))
        ]
        for i, member in enumerate(member_folders(inputs.teacher))
    ]
    models = [[_opened(folder, rows) for folder in folders] for folders in members]
    weights = read_weights(inputs.teacher)
    outcome = tempered(schema.outcome, said(inputs.signals, validation), validation.truth)

    def ask(asked: Sequence[Row]) -> Probabilities:
        if isinstance(outcome, Retrieval):
            return models[0][0].probabilities(asked)
        each = [np.concatenate([model.logits(asked) for model in member], axis=1) for member in models]
        return side_by_side(outcome, mixed(schema.outcome, each, weights))

    probabilities = probabilities_of(outcome, said(inputs.signals, rows), rows.value)
    return Candidate(probabilities, ask, sum(folder_bytes(folder) for folders in members for folder in folders))


def said(signals: Path, rows: Rows) -> npt.NDArray[np.float32]:
    """The teacher's logits `[rows, outcomes]`."""
    return read_signals(signals, rows.row).astype(np.float32)


def taught_probabilities(signals: Path, outcome: Outcome, validation: Rows, rows: Rows) -> Probabilities:
    """What the teacher says of rows, with its temperatures from the validation rows."""
    own = tempered(outcome, said(signals, validation), validation.truth)
    return probabilities_of(own, said(signals, rows), rows.value)


def _rival(folder: Path, records: Sequence[Row], rows: Rows, outcome: Outcome) -> Candidate:
    """The champion with its probabilities over our outcomes."""
    try:
        candidate = from_edge(folder, records, rows)
        theirs = EdgeModel(folder).outcome
        adopted = outcome.adopt(theirs, candidate.probabilities)
    except TypeError as error:
        raise UserError(f"the champion is of another kind: {error}; give the new model a name of its own") from error
    return Candidate(adopted, lambda asked: outcome.adopt(theirs, candidate.ask(asked)), candidate.size_bytes)

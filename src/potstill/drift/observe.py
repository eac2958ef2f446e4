"""Observe: what is looked at in rows, as columns: the inputs, how the text is worded, and what the model answers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from potstill.drift.histogram import Values, commonest
from potstill.drift.pieces import Frequencies, unknown_shares
from potstill.edge import EdgeModel
from potstill.inputs import is_missing, name_of, number
from potstill.outcomes import Classification, Floats, Part, Probabilities, Rate, Retrieval, Value, parts_of
from potstill.scoring import PREFIX

Row = Mapping[str, Any]
# A category that training had not, or too rarely to know it.
UNSEEN = "not in training"
GIVEN = "given"
# Probabilities below it are alike.
LEAST = 1e-6
BATCH_ROWS = 256


@dataclass(frozen=True)
class Scale:
    """Where a model's vectors of the training data lie, and how far they scatter, each `[width]`."""

    centre: Floats
    spread: Floats

    @classmethod
    def learn(cls, vectors: Floats) -> "Scale":
        """Mean and standard deviation of vectors `[rows, width]`, to four digits."""
        centre, spread = (np.array([float(f"{n:.4g}") for n in found]) for found in (vectors.mean(0), vectors.std(0)))
        return cls(centre, np.where(spread > 0, spread, 1.0))

    @classmethod
    def from_spec(cls, spec: Mapping[str, Any]) -> "Scale":
        """Read both from JSON."""
        return cls(np.array(spec["centre"]), np.array(spec["spread"]))

    def distance(self, vectors: Floats) -> Floats:
        """How far vectors `[rows, width]` lie from the centre, in standard deviations, root mean square `[rows]`."""
        return np.asarray(np.sqrt((((vectors - self.centre) / self.spread) ** 2).mean(axis=1)))


@dataclass(frozen=True)
class Asked:
    """What a model says of rows.

    Attributes:
        answers: as `EdgeModel.answer` gives them.
        vectors: the last that it makes of each row before `[rows, width]`: of a retrieval its vector of the text; of
            others the logarithms of the probabilities, which are the logits but for a constant a row and task.
        probabilities: `[rows, outcomes]`; none of a retrieval.
    """

    answers: list[dict[str, Any]]
    vectors: Floats
    probabilities: Probabilities | None


def ask(model: EdgeModel, rows: Sequence[Row]) -> Asked:
    """Let a model answer rows."""
    if isinstance(model.outcome, Retrieval):
        # A figure for each answer of the catalogue: those of all rows at once may not fit into memory.
        starts = range(0, len(rows), BATCH_ROWS)
        answers = [answer for start in starts for answer in model.answer(rows[start : start + BATCH_ROWS])]
        return Asked(answers, model.logits(rows).astype(np.float64), None)
    found = model.probabilities(rows)
    return Asked(model.outcome.answers(found), np.log(np.maximum(found, LEAST)), found)


def text_columns(
    read: Sequence[Sequence[int]], texts: Sequence[str], unknown: int | None, known: Frequencies
) -> dict[str, Values]:
    """Length in characters, share of pieces that the vocabulary lacks, and how unusual the pieces are."""
    found: dict[str, Values] = {"text: length": np.array([float(len(text)) for text in texts])}
    if unknown is not None:
        found["text: unknown share"] = unknown_shares(read, unknown)
    return found | {"text: surprise": known.surprise(read)}


def input_columns(model: EdgeModel, rows: Sequence[Row]) -> dict[str, Values]:
    """The columns besides text. Of a date only whether it is there: that it moves on is no drift."""
    features = model.features
    clean = [{name: _told(row.get(name), features.missing) for name in features.names} for row in rows]
    found: dict[str, Values] = {}
    for name in features.numeric:
        found[f"input: {name}"] = np.array([number(row[name], name) for row in clean])
    for name in features.dates:
        found[f"input: {name}"] = [GIVEN if name_of(row[name]) else None for row in clean]
    for category in features.categorical:
        names = [name_of(row[category.name]) for row in clean]
        found[f"input: {category.name}"] = [(n if n in category.index else UNSEEN) if n else None for n in names]
    return found


def _told(value: Any, missing: Sequence[str]) -> Any:
    return None if is_missing(value, missing) else value


def names_of_columns(model: EdgeModel, trained: Sequence[Row]) -> dict[str, Sequence[str]]:
    """The names that have a bin each, of columns of names: classes, and the commonest categories of training rows."""
    found: dict[str, Sequence[str]] = {f"input: {name}": (GIVEN,) for name in model.features.dates}
    columns = input_columns(model, trained)
    for category in model.features.categorical:
        name = f"input: {category.name}"
        found[name] = [*(value for value in commonest(columns[name]) if value != UNSEEN), UNSEEN]
    for part in parts_of(model.outcome):
        if isinstance(part.outcome, Classification):
            found[f"answer: {part.named('label')}"] = part.outcome.names
            found[f"answer: {part.named('in_scope')}"] = ("false", "true")
    return found


def answer_columns(model: EdgeModel, answers: Sequence[Mapping[str, Any]]) -> dict[str, Values]:
    """What the model answers: a class and how sure it is of it, a rate, a forecast and the width of its band.

    Args:
        model: whose answers they are.
        answers: as `carried` or `EdgeModel.answer` give them; a row may have none.
    """
    found: dict[str, Values] = {}
    for part in parts_of(model.outcome):
        own = [answer.get(part.task, {}) if part.task else answer for answer in answers]
        for name in _fields(part):
            told = [answer.get(name) for answer in own]
            is_name = name in ("label", "in_scope")
            named = f"answer: {part.named(name)}"
            found[named] = [name_of(v) or None for v in told] if is_name else np.array([number(v, name) for v in told])
        if isinstance(part.outcome, Value):
            low, high = (found.pop(f"answer: {part.named(end)}") for end in ("low", "high"))
            found[f"answer: {part.named('band')}"] = np.asarray(high) - np.asarray(low)
    return found


def _fields(part: Part) -> tuple[str, ...]:
    """The fields of an answer that are looked at."""
    match part.outcome:
        case Classification(threshold=None):
            return ("label", "confidence")
        case Classification():
            return ("label", "confidence", "in_scope")
        case Rate():
            return ("rate",)
        case Value():
            return ("median", "low", "high")
        case Retrieval():
            return ("confidence",)


def carried(model: EdgeModel, rows: Sequence[Row]) -> list[dict[str, Any]] | None:
    """The answers that rows bring along in `predicted_…`, as `potstill predict` writes them; none: some are missing."""
    parts = parts_of(model.outcome)
    wanted = {(part.task, name): f"{PREFIX}{part.named(name)}" for part in parts for name in _fields(part)}
    if not rows or not all(any(column in row for row in rows) for column in wanted.values()):
        return None
    found = []
    for row in rows:
        answer: dict[str, Any] = {part.task: {} for part in parts if part.task}
        for (task, name), column in wanted.items():
            (answer[task] if task else answer)[name] = row.get(column)
        found.append(answer)
    return found

"""Who scored which row: the teachers of a run, and a proof that none judges a row that it was taught.

A teacher is one model for all tasks, or one for each, side by side. Others may stand beside it, and then they speak
together. Where teachers are cross-fitted, there are also some for each fold of the training rows, taught by all other
folds.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from potstill.data.dataset import Rows
from potstill.errors import UserError
from potstill.learn.committee import mixed
from potstill.learn.model import HEAD, TaskModel, best_device, encode, load_model, predict
from potstill.outcomes import Floats, Outcome, parts_of

Teacher = tuple[TaskModel, Any]
# Beside a model: the digests of the rows that it learnt from.
TAUGHT = "taught.parquet"
# Inside a teacher's folder: those of the folds by number, and how the rows were divided.
FOLDS, DIVISION = "_folds", "division.json"
# And the others that speak with it, by number, and how much each of all counts. No task's name begins with a line.
OTHERS, WEIGHTS = "_others", "weights.json"


def write_taught(folder: Path, rows: Sequence[str]) -> None:
    """Record the digests of the rows that the model in a folder learnt from."""
    pq.write_table(pa.table({"row": pa.array(rows, pa.string())}), folder / TAUGHT, compression="zstd")


def teacher_folders(teacher: Path, outcome: Outcome) -> list[Path]:
    """Where each model is: the folder itself, or one a task inside it, in the order of the outcome's tasks."""
    return [teacher] if (teacher / HEAD).is_file() else [teacher / part.task for part in parts_of(outcome)]


def load_teachers(teacher: Path, outcome: Outcome) -> list[Teacher]:
    """The models, in evaluation mode, with their tokenizers."""
    return [load_model(folder) for folder in teacher_folders(teacher, outcome)]


def member_folders(teacher: Path) -> list[Path]:
    """The folder of each that speaks: the teacher itself, and the others in it."""
    others = sorted((teacher / OTHERS).glob("*"), key=lambda folder: int(folder.name))
    return [teacher, *others]


def write_weights(teacher: Path, weights: Floats) -> None:
    """Record how much each teacher counts `[teachers, tasks]`."""
    (teacher / WEIGHTS).write_text(json.dumps(weights.tolist()), encoding="utf-8")


def read_weights(teacher: Path) -> Floats:
    """How much each teacher counts `[teachers, tasks]`; one alone needs no record."""
    path = teacher / WEIGHTS
    return np.array(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else np.ones((1, 1))


@dataclass(frozen=True)
class Scores:
    """What teachers say of rows.

    Attributes:
        by: who said it `[rows]`: 0, the teacher of all training rows, or from 1 on that of a fold.
        logits: of all tasks side by side `[rows, outcomes]`.
        vectors: pooled, of each model `[rows, models, width]`.
    """

    by: npt.NDArray[np.int16]
    logits: npt.NDArray[np.float32]
    vectors: npt.NDArray[np.float32]


@dataclass(frozen=True)
class Scorer:
    """A teacher, or several that speak together, and the digests of the rows that any of them was taught.

    Attributes:
        folder: where they are.
        members: the models of each, with their tokenizers.
        weights: how much each counts `[members, tasks]`.
        outcome: what they predict.
        taught: digests.
    """

    folder: Path
    members: list[list[Teacher]]
    weights: Floats
    outcome: Outcome
    taught: pa.Array

    @classmethod
    def load(cls, folder: Path, outcome: Outcome) -> "Scorer":
        """The teacher in a folder, on the best device."""
        members = [_at_work(member, outcome) for member in member_folders(folder)]
        places = [place for member in member_folders(folder) for place in teacher_folders(member, outcome)]
        # Large: digests of 34 million rows are more than a plain array of strings can hold.
        taught = [pq.read_table(place / TAUGHT)["row"].cast(pa.large_string()) for place in places]
        chunks = [chunk for rows in taught for chunk in rows.chunks]
        return cls(folder, members, read_weights(folder), outcome, pa.chunked_array(chunks, pa.large_string()).unique())

    def refuse_taught(self, rows: Rows, split: str) -> None:
        """Prove that none of these rows taught this teacher.

        Raises:
            UserError: one did: what the teacher says of it is recalled, not foreseen.
        """
        known = pc.is_in(pa.array(rows.row, pa.large_string()), value_set=self.taught).to_numpy(zero_copy_only=False)
        if known.any():
            raise UserError(
                f"{self.folder}: this teacher was taught {known.sum():,} of the {split} rows that it would score, "
                f"such as {rows.row[int(known.argmax())][:12]}…; teach one on this dataset"
            )

    def score(self, rows: Rows) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Logits of all tasks side by side `[rows, outcomes]`, and the first one's vectors `[rows, models, width]`."""
        each = [_asked(models, rows) for models in self.members]
        return mixed(self.outcome, [logits for logits, _ in each], self.weights), each[0][1]


def logits_of(teacher: Path, outcome: Outcome, rows: Rows) -> npt.NDArray[np.float32]:
    """What the teacher in a folder says of rows `[rows, outcomes]`, without the others in it."""
    return _asked(_at_work(teacher, outcome), rows)[0]


def _at_work(teacher: Path, outcome: Outcome) -> list[Teacher]:
    """The models in a folder on the best device."""
    return [(model.to(best_device()), tokenizer) for model, tokenizer in load_teachers(teacher, outcome)]


def _asked(models: Sequence[Teacher], rows: Rows) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Logits of all tasks side by side `[rows, outcomes]`, and pooled vectors `[rows, models, width]`."""
    each = [predict(model, encode(tokenizer, rows, model.head), tokenizer.pad_token_id) for model, tokenizer in models]
    logits, vectors = zip(*((said.numpy(), vector.numpy()) for said, vector in each), strict=True)
    return np.concatenate(logits, axis=1), np.stack(vectors, axis=1)


@dataclass(frozen=True)
class Panel:
    """The teacher of all training rows and, if it was cross-fitted, those of the folds."""

    whole: Scorer
    folds: list[Scorer]
    seed: int

    @classmethod
    def load(cls, teacher: Path, outcome: Outcome) -> "Panel":
        """All of them, on the best device."""
        whole, division = Scorer.load(teacher, outcome), teacher / FOLDS / DIVISION
        if not division.is_file():
            return cls(whole, [], 0)
        told = json.loads(division.read_text(encoding="utf-8"))
        folders = [teacher / FOLDS / str(fold) for fold in range(told["folds"])]
        return cls(whole, [Scorer.load(folder, outcome) for folder in folders], told["seed"])

    def score(self, rows: Rows, training: bool, split: str) -> Scores:
        """What is said of rows: of training rows, where there are folds, by the one whose fold it is.

        Raises:
            UserError: the one who is to say it was taught a row that it must not know.
        """
        scorers = [self.whole, *self.folds]
        by = np.zeros(len(rows), dtype=np.int64)
        if training and self.folds:
            by = rows.fold(len(self.folds), self.seed) + 1
        own = [np.flatnonzero(by == number) for number in range(len(scorers))]
        logits, vectors = [], []
        for number, places in enumerate(own):
            if len(places):
                chosen = rows.at(places.tolist())
                if number or not training:
                    scorers[number].refuse_taught(chosen, split)
                said, pooled = scorers[number].score(chosen)
                logits.append(said)
                vectors.append(pooled)
        back = np.argsort(np.concatenate(own))
        return Scores(by.astype(np.int16), np.concatenate(logits)[back], np.concatenate(vectors)[back])

"""What compression makes, and what is told of each of its steps."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from potstill.edge import SURE_FROM
from potstill.evaluate.candidates import Candidate
from potstill.learn.model import TaskModel
from potstill.outcomes import Outcome
from potstill.recipe import Cascade


@dataclass(frozen=True)
class Origin:
    """Where a student comes from; it goes onto the card."""

    recipe: str
    dataset_digest: str
    teacher_digest: str
    student_digest: str


@dataclass(frozen=True)
class First:
    """The smaller student of a cascade.

    Attributes:
        student: what distill wrote.
        digest: of it.
        settings: of the recipe.
    """

    student: Path
    digest: str
    settings: Cascade


@dataclass(frozen=True)
class Step:
    """What a step of compression cost and gained, on the validation rows.

    Attributes:
        name: of the step.
        kept: whether it went into the files: nothing spoke against it, and no other way to quantise came before it.
        left_out: why it was left out; empty where it could stay.
        figure: the deciding metric after it.
        lost: share that went with it of the figure before, or of its gain over the plain forecast where 0 is nothing
            special; below 0 where it got better, NaN where it can't be told.
        flips: share of rows whose answer it changed.
        p50_ms: median time of an answer at batch 1 on one thread.
        mean_ms: mean time.
        size_bytes: of the folder.
        more: what else there is to tell.
    """

    name: str
    kept: bool
    left_out: str
    figure: float
    lost: float
    flips: float
    p50_ms: float
    mean_ms: float
    size_bytes: int
    more: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Made:
    """A packed model, how it answers the validation rows, and what it was packed from.

    Attributes:
        name: of the step that made it.
        model: in PyTorch, as it was exported.
        tokenizer: the model's.
        folder: where it is packed.
        outcome: with this very model's temperatures.
        card: what it is.
        answers: to the validation rows.
        more: what else there is to tell.
    """

    name: str
    model: TaskModel
    tokenizer: Any
    folder: Path
    outcome: Outcome
    card: dict[str, Any]
    answers: Candidate
    more: dict[str, float] = field(default_factory=dict)

    @property
    def bytes(self) -> int:
        """Of all files."""
        return self.answers.size_bytes

    @property
    def is_float(self) -> bool:
        """Whether it is one model and its weights are no integers."""
        return self.card["precision"] == "float32" and SURE_FROM not in self.card

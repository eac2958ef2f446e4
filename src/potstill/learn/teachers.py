"""The teachers of a run: one for all tasks, or one for each, side by side."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from potstill.data.dataset import Rows
from potstill.learn.model import HEAD, TaskModel, best_device, encode, load_model, predict_logits
from potstill.outcomes import Outcome, parts_of

Teacher = tuple[TaskModel, Any]


def teacher_folders(teacher: Path, outcome: Outcome) -> list[Path]:
    """Where each teacher is: the folder itself, or one a task inside it, in the order of the outcome's tasks."""
    return [teacher] if (teacher / HEAD).is_file() else [teacher / part.task for part in parts_of(outcome)]


def load_teachers(teacher: Path, outcome: Outcome) -> list[Teacher]:
    """The models, in evaluation mode, with their tokenizers."""
    return [load_model(folder) for folder in teacher_folders(teacher, outcome)]


def teachers_logits(teachers: Sequence[Teacher], rows: Rows) -> npt.NDArray[np.float32]:
    """Logits `[rows, outcomes]` of all tasks, in the order of the teachers, worked out on the best device."""
    device = best_device()
    each = [
        predict_logits(model.to(device), encode(tokenizer, rows, model.head), tokenizer.pad_token_id).numpy()
        for model, tokenizer in teachers
    ]
    return np.concatenate(each, axis=1)

"""One tiny run of the line, made once: each step's output is the next one's input."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from potstill.data.dataset import read_schema
from potstill.recipe import Compress, Data, Distill, Signals, Split, Student, Task, Teacher
from potstill.steps.compress import compress
from potstill.steps.control import control
from potstill.steps.distill import distill
from potstill.steps.extract import extract
from potstill.steps.ingest import ingest
from potstill.steps.made import Origin
from potstill.steps.teach import teach
from potstill.store import folder_digest

QUICK = {"learning_rate": 1e-2, "batch_size": 16, "epochs": 6}


@dataclass(frozen=True)
class Line:
    """Where each step wrote."""

    root: Path
    settings: Teacher

    def __getattr__(self, name: str) -> Path:
        return self.root / name


@pytest.fixture(scope="session")
def line(tmp_path_factory: pytest.TempPathFactory, encoder: Path, reviews_file: Path) -> Line:
    """A dataset, teacher, signals, student, control and edge model of the tiny shop."""
    data = Data(source=str(reviews_file), split=Split(by="product"))
    return run_line(tmp_path_factory.mktemp("line"), encoder, data, {"task": Task(label="sentiment")})


def run_line(root: Path, encoder: Path, data: Data, tasks: dict[str, Task], **knobs: Mapping[str, Any]) -> Line:
    """All steps from ingest to compress; `teacher`, `signals` and `distill` may replace the quick settings."""
    settings = Teacher.model_validate({"encoder": str(encoder), "max_tokens": 16, **QUICK, **knobs.get("teacher", {})})
    made = Line(root, settings)
    ingest(data, tasks, made.dataset)
    digest = read_schema(made.dataset).digest
    folds = knobs.get("signals", {}).get("cross_fit", 0)
    teach(made.dataset, settings, made.teacher, cross_fit=folds)
    kept = Signals.model_validate({"part_rows": 50, **knobs.get("signals", {})})
    extract(made.dataset, made.teacher, made.signals, kept, digest, "t")
    form, learning = Student(layers=2), Distill.model_validate({**QUICK, **knobs.get("distill", {})})
    distill(made.dataset, made.teacher, made.signals, form, learning, made.student)
    control(made.dataset, settings, form, learning, made.control)
    origin = Origin("tiny", digest, "t", folder_digest(made.student))
    compress(made.dataset, made.student, Compress(), origin, made.edge)
    return made

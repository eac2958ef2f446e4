"""The line without a pipeline: what many students of one teacher share is made once and found again, and they too.

Each folder is named by a digest of what decides it; the dataset, which may change under the same settings, by its own.
"""

import hashlib
import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from potstill.code import code_version
from potstill.data.dataset import Schema, read_schema
from potstill.errors import UserError
from potstill.learn.signals import read_manifest
from potstill.recipe import Distill, Recipe, Student
from potstill.steps.adapt import adapt
from potstill.steps.distill import distill
from potstill.steps.extract import extract
from potstill.steps.ingest import ingest
from potstill.steps.teach import teach
from potstill.store import Folder, folder_digest


@dataclass(frozen=True)
class Workshop:
    """What the steps up to distillation write.

    Attributes:
        recipe: its sections up to `signals` are used.
        root: where the folders are made; tables of signals and checkpoints lie in its `signals` and `checkpoints`, as
            those of pipelines that run under it.
        code: version of the code; what another version made is made anew.
    """

    recipe: Recipe
    root: Path
    code: str = field(default_factory=code_version)

    @cached_property
    def dataset(self) -> Path:
        """What ingest wrote. The rows are read anew each time, for they may have changed."""
        made = self.root / "made"
        made.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".dataset-", dir=made) as scratch:
            rows = Path(scratch, "rows")
            ingest(self.recipe.data, self.recipe.tasks, rows)
            return self.once("dataset", [read_schema(rows).digest], rows.rename)

    @property
    def schema(self) -> Schema:
        """Of the dataset."""
        return read_schema(self.dataset)

    @cached_property
    def teacher(self) -> Path:
        """What teach wrote; of an adapted encoder, if the recipe asks for one."""
        settings, folds, dataset = self.recipe.teacher, self.recipe.signals.cross_fit, self.dataset
        kept, start = Folder(self.root / "checkpoints"), settings
        if (knobs := self.recipe.adapt) is not None:
            decided_by = [dataset.name, settings.encoder, settings.max_tokens, settings.vocabulary, knobs]
            made = self.once("adapted", decided_by, lambda to: adapt(dataset, settings, knobs, to, checkpoints=kept))
            start = settings.model_copy(update={"encoder": str(made)})
        return self.once(
            "teacher",
            [dataset.name, start, folds],
            lambda to: teach(dataset, start, to, cross_fit=folds, checkpoints=kept),
        )

    @cached_property
    def signals(self) -> Path:
        """What extract wrote."""
        dataset, teacher, settings = self.dataset, self.teacher, self.recipe.signals
        digests = self.schema.digest, folder_digest(teacher)

        def make(to: Path) -> None:
            extract(dataset, teacher, to, settings, *digests, Folder(self.root / "signals"))

        made = self.once("signals", [teacher.name, settings], make)
        try:
            read_manifest(made)
        except UserError:
            # The table that it stands for is gone, or another by now.
            make(made)
        return made

    def student(self, form: Student, knobs: Distill | None = None) -> Path:
        """What distill wrote of this form, taught as the recipe says or by other knobs."""
        settings, folders = knobs or self.recipe.distill, (self.dataset, self.teacher, self.signals)
        return self.once(
            "student",
            [self.signals.name, form, settings],
            lambda to: distill(*folders, form, settings, to, checkpoints=Folder(self.root / "checkpoints")),
        )

    def once(self, kind: str, decided_by: list[Any], make: Callable[[Path], Any]) -> Path:
        """The folder that `make` writes, unless it is there already."""
        name = hashlib.sha256(json.dumps([self.code, *decided_by], default=_plain).encode()).hexdigest()[:16]
        folder = self.root / "made" / f"{kind}-{name}"
        if not folder.exists():
            make(folder)
        return folder


def refuse_open_form(recipe: Recipe) -> None:
    """Refuse a recipe whose student has no form yet, where one is needed.

    Raises:
        UserError: it has a plan.
    """
    if recipe.plan is not None:
        raise UserError(
            "plan: the student's form is not given; give it, or take the recipe that `potstill plan` leaves"
        )


def _plain(section: BaseModel) -> Any:
    # With its defaults: under another one what was made is something else.
    return section.model_dump(mode="json", by_alias=True)

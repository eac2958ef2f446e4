"""The ladder: from the teacher in PyTorch to the file that is shipped, and what each step gained and cost.

FastFormers (Kim & Hassan 2020) shows its gains in this form.
"""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from potstill.compress.pack import pack
from potstill.compress.settle import settle
from potstill.data.dataset import Rows, read_rows
from potstill.errors import UserError
from potstill.evaluate.candidates import from_edge, taught_probabilities
from potstill.evaluate.judge import Judge
from potstill.evaluate.latency import measure
from potstill.evaluate.names import step_name
from potstill.learn.model import encode, load_model, predict_logits
from potstill.outcomes import Probabilities
from potstill.plan.forms import words_of
from potstill.plan.limits import one_thread
from potstill.recipe import Compress, Recipe, Student
from potstill.steps.made import First, Made, Origin
from potstill.steps.press import Press
from potstill.store import folder_digest
from potstill.workshop import Workshop


@dataclass(frozen=True)
class Rung:
    """A model on the way down, on the test rows.

    Attributes:
        name: what was done since the rung before.
        figure: the deciding metric.
        p50_ms: median time of an answer to one row on one thread, tokenization included.
        mean_ms: mean time; of a cascade it counts what the median leaves out.
        size_bytes: of all files that are needed.
    """

    name: str
    figure: float
    p50_ms: float
    mean_ms: float
    size_bytes: int


@dataclass(frozen=True)
class Ladder:
    """Climbs down from a recipe's teacher to its edge model.

    Attributes:
        workshop: makes what is not there yet.
    """

    workshop: Workshop

    @cached_property
    def timed(self) -> Rows:
        """Those whose answers are timed, evenly spread."""
        return self.judge.rows.spread(self.workshop.recipe.evaluate.latency_rows)

    @cached_property
    def judge(self) -> Judge:
        """Holds models against the test rows."""
        return Judge(self.workshop.dataset, "test")

    def climb(self) -> Iterator[Rung]:
        """Rung by rung.

        Raises:
            UserError: the recipe has several teachers, so that there is no one to start from.
        """
        shop, form, settings = self.workshop, self.workshop.recipe.student, self.workshop.recipe.compress
        refuse_several_teachers(shop.recipe)
        with tempfile.TemporaryDirectory(prefix="potstill-") as scratch:
            yield self.teacher_in_torch()
            folder = pack(*load_model(shop.teacher), Path(scratch, "teacher"), shop.schema)
            settle(folder, read_rows(shop.dataset, "validation", shop.schema))
            yield self._packed("as ONNX", folder)
            if form.prune is not None:
                unpruned = form.model_copy(update={"prune": None})
                plain = settings.model_copy(update={"vocabulary": "whole", "sparsity": 0, "quantize": []})
                yield from self._student(words_of(unpruned), unpruned, plain, Path(scratch, "unpruned"))
            name = "pruned" if form.prune else words_of(form)
            yield from self._student(name, form, settings, Path(scratch, "student"), self.first())

    def first(self) -> First | None:
        """The smaller student of a cascade, if the recipe has one."""
        shop, settings = self.workshop, self.workshop.recipe.cascade
        if settings is None:
            return None
        student = shop.student(settings.first, settings.knobs(shop.recipe.distill))
        return First(student, folder_digest(student), settings)

    def teacher_in_torch(self) -> Rung:
        """Where the ladder begins."""
        model, tokenizer = load_model(self.workshop.teacher)
        validation = read_rows(self.workshop.dataset, "validation", self.workshop.schema)
        probabilities = taught_probabilities(self.workshop.signals, self.judge.outcome, validation, self.judge.rows)

        def answer(row: int) -> None:
            inputs = replace(encode(tokenizer, self.timed.at([row]), model.head), answers=None)
            predict_logits(model, inputs, tokenizer.pad_token_id)

        with one_thread():
            time = measure(answer, range(len(self.timed)))
        needed = [*self.workshop.teacher.glob("*.safetensors"), self.workshop.teacher / "tokenizer.json"]
        size_bytes = sum(file.stat().st_size for file in needed)
        return Rung("teacher in PyTorch", self._figure(probabilities), time.p50_ms, time.mean_ms, size_bytes)

    def _student(
        self, name: str, form: Student, settings: Compress, folder: Path, first: First | None = None
    ) -> Iterator[Rung]:
        """The rungs of a student, from its export on."""
        folder.mkdir()
        for made in pressed(self.workshop, form, settings, folder, first):
            yield self._packed(name if made.name == "export" else step_name(made.name), made.folder)

    def _packed(self, name: str, folder: Path) -> Rung:
        judge = self.judge
        model = from_edge(folder, judge.records(judge.rows), judge.rows)
        time = measure(model.answer, judge.records(self.timed))
        return Rung(name, self._figure(model.probabilities), time.p50_ms, time.mean_ms, model.size_bytes)

    def _figure(self, probabilities: Probabilities) -> float:
        return self.judge.figures(probabilities)[self.judge.first]


def pressed(
    workshop: Workshop, form: Student, settings: Compress, scratch: Path, first: First | None = None
) -> list[Made]:
    """A student of this form after each step of compression that stayed."""
    student = workshop.student(form)
    digests = workshop.schema.digest, folder_digest(workshop.teacher), folder_digest(student)
    return Press(workshop.dataset, settings, Origin(workshop.recipe.name, *digests), scratch, first).run(student)


def refuse_several_teachers(recipe: Recipe) -> None:
    """Refuse a recipe that has no one teacher to cut students from and to hold them against.

    Raises:
        UserError: it has several.
    """
    if several := recipe.teacher.several:
        raise UserError(f"teacher.{several}: ladder and plan start from one teacher; leave it out")

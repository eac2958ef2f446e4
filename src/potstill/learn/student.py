"""How a model learns from rows: from labels alone, or from labels and the teacher's table."""

import copy
import functools
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from potstill.data.dataset import UNLABELLED, Rows, Schema, read_rows
from potstill.learn.model import Head, TaskModel, encode, save_model
from potstill.learn.processes import is_first
from potstill.learn.teachers import write_taught
from potstill.learn.trainer import Epoch, Examples, Loss, Views, train
from potstill.metrics import better, meanings_of, primary
from potstill.outcomes import Outcome
from potstill.recipe import Training
from potstill.store import writing

HISTORY = "history.json"
OnEpoch = Callable[[Mapping[str, float]], None]


def silently(_: Mapping[str, float]) -> None:
    """Tell nobody of an epoch."""


@dataclass(frozen=True)
class Place:
    """Where a training's model goes, and where it tells of its epochs.

    Attributes:
        folder: of the model, which is written whole or not at all.
        on_epoch: called after each epoch with its figures.
        checkpoints: folder for the state after each epoch, so that a killed training goes on; none: nowhere.
    """

    folder: Path
    on_epoch: OnEpoch = silently
    checkpoints: Path | None = None

    def inside(self, name: str) -> "Place":
        """The place of another model, within this one's folder."""
        return replace(self, folder=self.folder / name, checkpoints=self.checkpoints and self.checkpoints / name)

    def telling(self, on_epoch: OnEpoch) -> "Place":
        """The same, but the epochs are told otherwise."""
        return replace(self, on_epoch=on_epoch)


def head_of(schema: Schema, pooling: str, max_tokens: int) -> Head:
    """The head that a task's model needs."""
    return Head(schema.task, schema.outcome, pooling, max_tokens, schema.features)


def labelled_rows(dataset: Path, schema: Schema) -> tuple[Rows, Rows]:
    """The rows to learn from, and those that judge each epoch."""
    return read_rows(dataset, "train", schema), read_rows(dataset, "validation", schema).judged()


def pooled_rows(dataset: Path, schema: Schema, rows: Rows) -> Rows:
    """The rows to learn from with those that have no label, if the dataset holds any."""
    return rows.with_pool(read_rows(dataset, UNLABELLED, schema)) if schema.unlabelled else rows


def texts_of(dataset: Path, schema: Schema) -> list[str]:
    """The texts that a model meets while it learns, answers and unlabelled ones among them."""
    rows = pooled_rows(dataset, schema, read_rows(dataset, "train", schema))
    return [*rows.text, *rows.catalogue]


@dataclass(frozen=True)
class Further:
    """A training that goes on from the model that the one before gave.

    Attributes:
        name: of its checkpoints, and in what is printed.
        settings: the recipe's knobs.
        make: changes the model, if it must, and builds the loss.
        from_labels: whether rows without a label are left out.
        must_improve: whether the model stays as it was where validation doesn't improve.
    """

    name: str
    settings: Training
    make: Callable[[TaskModel, Examples], tuple[TaskModel, Loss]]
    from_labels: bool = False
    must_improve: bool = False


def learn(
    rows: tuple[Rows, Rows],
    head: Head,
    make: Callable[[], tuple[TaskModel, Loss]],
    tokenizer: Any,
    settings: Training,
    place: Place,
    views: Callable[[Rows], Views] = lambda _: {},
    further: Sequence[Further] = (),
) -> dict[str, float]:
    """Train a model and write it, with its `history.json` and the digests of its rows.

    Args:
        rows: those to learn from, and those that judge.
        head: the model's head.
        make: builds the untrained model, and its loss: one value an example.
        tokenizer: its tokenizer.
        settings: the recipe's knobs.
        place: where the model goes.
        views: what else the loss takes of given rows, such as the teacher's logits.
        further: trainings that follow, in this order.

    Returns:
        Validation figures of the epoch that was kept.
    """

    def examples(part: Rows, views: Callable[[Rows], Views]) -> Examples:
        return Examples(encode(tokenizer, part, head), part.truth, views(part))

    taught, judged = (examples(part, views) for part in rows)
    school = functools.partial(train, validation=judged, pad_token_id=tokenizer.pad_token_id)
    model, epochs = school(make, taught, settings=settings, on_epoch=place.on_epoch, checkpoints=place.checkpoints)
    kept = epochs
    for training in further:
        learnt = examples(rows[0].labelled(), lambda _: {}) if training.from_labels else taught
        tuned, more = _goes_on(school, training, model, learnt, len(epochs), place)
        if training.must_improve and not _improves(training.name, kept, more, head.outcome):
            continue
        model, kept, epochs = tuned, more, [*epochs, *more]
    if is_first():
        with writing(place.folder) as draft:
            save_model(model, tokenizer, draft)
            write_taught(draft, rows[0].row)
            (draft / HISTORY).write_text(json.dumps([epoch.flat() for epoch in epochs], indent=1), encoding="utf-8")
    best = _best(kept, head.outcome)
    return {"best_epoch": best.epoch, **{f"validation_{name}": value for name, value in best.validation.items()}}


def _goes_on(
    school: Callable[..., tuple[TaskModel, list[Epoch]]],
    training: Further,
    model: TaskModel,
    examples: Examples,
    before: int,
    place: Place,
) -> tuple[TaskModel, list[Epoch]]:
    """A copy of the model after a training more, with its epochs, numbered after those before."""
    tuned, more = school(
        lambda: training.make(copy.deepcopy(model), examples),
        examples,
        settings=training.settings,
        on_epoch=lambda told: place.on_epoch({**told, "epoch": before + told["epoch"]}),
        checkpoints=place.checkpoints and place.checkpoints / training.name,
    )
    return tuned, [replace(epoch, epoch=before + epoch.epoch) for epoch in more]


def _improves(name: str, before: list[Epoch], after: list[Epoch], outcome: Outcome) -> bool:
    was, is_now = (_best(epochs, outcome).validation[primary(outcome)] for epochs in (before, after))
    improves = better(outcome, is_now) > better(outcome, was)
    meaning = meanings_of(outcome)[primary(outcome)]
    told = f"{meaning.form.format(was)} before, {meaning.form.format(is_now)} after"
    print(f"{name}: {meaning.title} {told}; {'kept' if improves else 'not kept'}")
    return improves


def _best(epochs: list[Epoch], outcome: Outcome) -> Epoch:
    return max(epochs, key=lambda epoch: better(outcome, epoch.validation[primary(outcome)]))

"""How a model learns from rows: from labels alone, or from labels and the teacher's table."""

import copy
import functools
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from potstill.data.dataset import UNLABELLED, Rows, Schema, read_rows
from potstill.learn.model import Head, TaskModel, encode, save_model
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


def learn(
    rows: tuple[Rows, Rows],
    head: Head,
    make: Callable[[], tuple[TaskModel, Loss]],
    tokenizer: Any,
    settings: Training,
    place: Place,
    views: Callable[[Rows], Views] = lambda _: {},
    afterwards: tuple[Training, Loss] | None = None,
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
        afterwards: knobs and loss of a short training on the rows with labels, kept only if validation improves.

    Returns:
        Validation figures of the epoch that was kept.
    """

    def examples(part: Rows, views: Callable[[Rows], Views]) -> Examples:
        return Examples(encode(tokenizer, part, head), part.truth, views(part))

    taught, judged = (examples(part, views) for part in rows)
    school = functools.partial(
        train, validation=judged, pad_token_id=tokenizer.pad_token_id, checkpoints=place.checkpoints
    )
    model, epochs = school(make, taught, settings=settings, on_epoch=place.on_epoch)
    if afterwards is not None:
        labelled = examples(rows[0].labelled(), lambda _: {})
        kept = place.checkpoints and place.checkpoints / "fine_tune"
        tune = functools.partial(school, examples=labelled, checkpoints=kept)
        model, epochs = _tuned(tune, model, epochs, *afterwards, place.on_epoch)
    with writing(place.folder) as draft:
        save_model(model, tokenizer, draft)
        write_taught(draft, rows[0].row)
        (draft / HISTORY).write_text(json.dumps([epoch.flat() for epoch in epochs], indent=1), encoding="utf-8")
    best = _best(epochs, head.outcome)
    return {"best_epoch": best.epoch, **{f"validation_{name}": value for name, value in best.validation.items()}}


def _tuned(
    school: Callable[..., tuple[TaskModel, list[Epoch]]],
    model: TaskModel,
    epochs: list[Epoch],
    settings: Training,
    loss: Loss,
    on_epoch: OnEpoch,
) -> tuple[TaskModel, list[Epoch]]:
    """The model after a short training more, with all epochs; as it was, if validation does not improve."""
    tuned, more = school(
        lambda: (copy.deepcopy(model), loss),
        settings=settings,
        on_epoch=lambda told: on_epoch({**told, "epoch": len(epochs) + told["epoch"]}),
    )
    outcome = model.head.outcome
    before, after = (_best(found, outcome).validation[primary(outcome)] for found in (epochs, more))
    improves = better(outcome, after) > better(outcome, before)
    meaning = meanings_of(outcome)[primary(outcome)]
    told = f"{meaning.form.format(before)} before, {meaning.form.format(after)} after"
    print(f"fine-tuned on labels alone: {meaning.title} {told}; {'kept' if improves else 'not kept'}")
    if not improves:
        return model, epochs
    return tuned, [*epochs, *(replace(epoch, epoch=len(epochs) + epoch.epoch) for epoch in more)]


def _best(epochs: list[Epoch], outcome: Outcome) -> Epoch:
    return max(epochs, key=lambda epoch: better(outcome, epoch.validation[primary(outcome)]))

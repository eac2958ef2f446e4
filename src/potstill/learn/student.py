"""How a model learns from rows: from labels alone, or from labels and the teacher's table."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from potstill.data.dataset import UNLABELLED, Rows, Schema, read_rows
from potstill.learn.model import Head, TaskModel, encode, save_model
from potstill.learn.teachers import write_taught
from potstill.learn.trainer import Examples, Loss, Views, train
from potstill.metrics import better, primary
from potstill.recipe import Training
from potstill.store import writing

HISTORY = "history.json"
OnEpoch = Callable[[Mapping[str, float]], None]


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
    folder: Path,
    on_epoch: OnEpoch,
    views: Callable[[Rows], Views] = lambda _: {},
) -> dict[str, float]:
    """Train a model and write it, with its `history.json` and the digests of its rows, to `folder`.

    Args:
        rows: those to learn from, and those that judge.
        head: the model's head.
        make: builds the untrained model, and its loss: one value an example.
        tokenizer: its tokenizer.
        settings: the recipe's knobs.
        folder: where the model goes, whole or not at all.
        on_epoch: called after each epoch.
        views: what else the loss takes of given rows, such as the teacher's logits.

    Returns:
        Validation figures of the epoch that was kept.
    """
    train_rows, validation = (Examples(encode(tokenizer, part, head), part.truth, views(part)) for part in rows)
    model, epochs = train(
        make, train_rows, validation, settings, pad_token_id=tokenizer.pad_token_id, on_epoch=on_epoch
    )
    with writing(folder) as draft:
        save_model(model, tokenizer, draft)
        write_taught(draft, rows[0].row)
        (draft / HISTORY).write_text(json.dumps([epoch.flat() for epoch in epochs], indent=1), encoding="utf-8")
    best = max(epochs, key=lambda epoch: better(head.outcome, epoch.validation[primary(head.outcome)]))
    return {"best_epoch": best.epoch, **{f"validation_{name}": value for name, value in best.validation.items()}}

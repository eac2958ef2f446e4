"""How a student learns: from labels alone, or from labels and the teacher's table."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from potstill.data.dataset import Rows, Schema, read_rows, read_schema
from potstill.learn import terms
from potstill.learn.model import Head, TaskModel, encode, save_model
from potstill.learn.trainer import Examples, Loss, train
from potstill.metrics import better, primary
from potstill.recipe import Training
from potstill.store import writing

HISTORY = "history.json"
OnEpoch = Callable[[Mapping[str, float]], None]


def examples(tokenizer: Any, rows: Rows, head: Head, teacher: npt.NDArray[np.float32] | None = None) -> Examples:
    """Rows as inputs, values and, for a student, the teacher's logits `[rows, outcomes]`."""
    return Examples(encode(tokenizer, rows, head), rows.value, teacher)


def head_of(schema: Schema, pooling: str, max_tokens: int) -> Head:
    """The head that a task's model needs."""
    return Head(schema.task, schema.outcome, pooling, max_tokens, schema.features)


def learn(
    dataset: Path,
    head: Head,
    make_model: Callable[[], TaskModel],
    tokenizer: Any,
    settings: Training,
    folder: Path,
    on_epoch: OnEpoch,
    signals: Callable[[Rows], npt.NDArray[np.float32]] | None = None,
    loss: Loss | None = None,
) -> dict[str, float]:
    """Train a model on a dataset's training rows and write it, with its `history.json`, to `folder`.

    Args:
        dataset: what ingest wrote.
        head: the model's head.
        make_model: builds the untrained model.
        tokenizer: its tokenizer.
        settings: the recipe's knobs.
        folder: where the model goes, whole or not at all.
        on_epoch: called after each epoch.
        signals: the teacher's logits `[rows, outcomes]` of given rows; none: labels alone.
        loss: one value an example; none: cross-entropy with the labels.

    Returns:
        Validation figures of the epoch that was kept.
    """
    schema = read_schema(dataset)
    splits = [read_rows(dataset, split, schema) for split in ("train", "validation")]
    train_rows, validation = (examples(tokenizer, rows, head, signals(rows) if signals else None) for rows in splits)
    model, epochs = train(
        make_model,
        loss or hard_loss,
        train_rows,
        validation,
        settings,
        pad_token_id=tokenizer.pad_token_id,
        on_epoch=on_epoch,
    )
    with writing(folder) as draft:
        save_model(model, tokenizer, draft)
        (draft / HISTORY).write_text(json.dumps([epoch.flat() for epoch in epochs], indent=1), encoding="utf-8")
    best = max(epochs, key=lambda epoch: better(head.outcome, epoch.validation[primary(head.outcome)]))
    return {"best_epoch": best.epoch, **{f"validation_{name}": value for name, value in best.validation.items()}}


def hard_loss(logits: Tensor, batch: Mapping[str, Tensor]) -> Tensor:
    """Cross-entropy with the labels' targets, one value an example `[batch]`."""
    return terms.cross_entropy(logits, batch["targets"])


def soft_loss(temperature: float, alpha: float) -> Loss:
    """The distillation loss with its two knobs bound."""

    def loss(logits: Tensor, batch: Mapping[str, Tensor]) -> Tensor:
        return terms.distillation(logits, batch["teacher"], batch["targets"], temperature, alpha)

    return loss

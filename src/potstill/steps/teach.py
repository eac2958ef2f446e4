"""Teach: fine-tune a Hugging Face encoder on the dataset."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn

from potstill.compress.trim import trim
from potstill.data.dataset import Rows, Schema, read_schema
from potstill.learn.model import Head, TaskModel, load_encoder
from potstill.learn.objective import class_weights, hard_loss
from potstill.learn.student import OnEpoch, head_of, labelled_rows, learn, pooled_rows
from potstill.learn.teachers import DIVISION, FOLDS
from potstill.learn.trainer import Loss
from potstill.outcomes import Outcome, Part, parts_of
from potstill.recipe import Teacher, Training
from potstill.store import writing


def teach(
    dataset: Path, settings: Teacher, teacher: Path, on_epoch: OnEpoch = lambda _: None, cross_fit: int = 0
) -> dict[str, float]:
    """Fine-tune `settings.encoder` and write the teacher's folder.

    Of several teachers there is a folder a task inside it; where they are cross-fitted, also one a fold, in `folds`.

    Args:
        dataset: what ingest wrote.
        settings: the recipe's knobs.
        teacher: the folder to write.
        on_epoch: called after each epoch of the teacher of all training rows.
        cross_fit: how many folds; 0: none.

    Returns:
        Validation figures of the epoch that was kept, of each teacher by its task.

    Raises:
        UserError: the encoder can't be loaded, or its vocabulary not trimmed.
    """
    schema = read_schema(dataset)
    rows, validation = labelled_rows(dataset, schema)
    with writing(teacher) as draft:
        found = _teach_all(dataset, schema, (rows, validation), settings, draft, on_epoch)
        for fold in range(cross_fit):
            print(f"fold {fold + 1} of {cross_fit}")
            others = rows.outside(fold, cross_fit, settings.seed)
            _teach_all(dataset, schema, (others, validation), settings, draft / FOLDS / str(fold), lambda _: None)
        if cross_fit:
            division = json.dumps({"folds": cross_fit, "seed": settings.seed})
            (draft / FOLDS / DIVISION).write_text(division, encoding="utf-8")
    return found


def _teach_all(
    dataset: Path, schema: Schema, rows: tuple[Rows, Rows], settings: Teacher, folder: Path, on_epoch: OnEpoch
) -> dict[str, float]:
    """One teacher for all tasks, or one for each."""
    if not settings.per_task:
        return _teach(dataset, schema, rows, settings, folder, on_epoch)
    found: dict[str, float] = {}
    for part in parts_of(schema.outcome):
        print(f"a teacher for {part.task}")

        def told(epoch: Mapping[str, float], part: Part = part) -> None:
            on_epoch({"epoch": epoch["epoch"], **_named(part, epoch)})

        own = (rows[0].of(part), rows[1].of(part))
        found |= _named(part, _teach(dataset, schema.of(part), own, settings, folder / part.task, told))
    return found


def _teach(
    dataset: Path, schema: Schema, rows: tuple[Rows, Rows], settings: Teacher, folder: Path, on_epoch: OnEpoch
) -> dict[str, float]:
    encoder, tokenizer, head = untaught(dataset, settings)
    head = replace(head, task=schema.task, outcome=schema.outcome)
    loss = loss_of_labels(settings, schema.outcome, rows[0])
    return learn(rows, head, lambda: (TaskModel(encoder, head), loss), tokenizer, settings, folder, on_epoch)


def _named(part: Part, figures: Mapping[str, float]) -> dict[str, float]:
    return {part.named(name): value for name, value in figures.items()}


def loss_of_labels(settings: Training, outcome: Outcome, rows: Rows) -> Loss:
    """What the labels say, with the weights of classes that the recipe asks for."""
    balanced = settings.class_weights == "balanced"
    return hard_loss(settings, outcome, class_weights(outcome, rows.truth) if balanced else None)


def untaught(dataset: Path, settings: Teacher) -> tuple[nn.Module, Any, Head]:
    """The public encoder, its tokenizer, and the head that the task needs; trimmed if the recipe says so."""
    encoder, tokenizer = load_encoder(settings.encoder)
    schema = read_schema(dataset)
    if settings.vocabulary == "trim":
        before = len(tokenizer)
        rows = pooled_rows(dataset, schema, labelled_rows(dataset, schema)[0])
        encoder, tokenizer = trim(encoder, tokenizer, [*rows.text, *rows.catalogue])
        print(f"vocabulary trimmed from {before:,} to {len(tokenizer):,} pieces")
    return encoder, tokenizer, head_of(schema, settings.pooling, settings.max_tokens)

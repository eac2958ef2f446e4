"""Teach: fine-tune a Hugging Face encoder on the dataset."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn

from potstill.compress.trim import trim
from potstill.data.dataset import read_rows, read_schema
from potstill.learn.model import Head, TaskModel, load_encoder
from potstill.learn.student import OnEpoch, head_of, learn
from potstill.outcomes import Part, parts_of
from potstill.recipe import Teacher
from potstill.store import writing


def teach(dataset: Path, settings: Teacher, teacher: Path, on_epoch: OnEpoch = lambda _: None) -> dict[str, float]:
    """Fine-tune `settings.encoder` and write the teacher's folder; of several teachers, a folder a task inside it.

    Returns:
        Validation figures of the epoch that was kept, of each teacher by its task.

    Raises:
        UserError: the encoder can't be loaded, or its vocabulary not trimmed.
    """
    if not settings.per_task:
        encoder, tokenizer, head = untaught(dataset, settings)
        return learn(dataset, head, lambda: TaskModel(encoder, head), tokenizer, settings, teacher, on_epoch)
    found: dict[str, float] = {}
    with writing(teacher) as draft:
        for part in parts_of(read_schema(dataset).outcome):
            print(f"a teacher for {part.task}")
            found |= _named(part, _teach_one(dataset, settings, draft / part.task, part, on_epoch))
    return found


def _teach_one(dataset: Path, settings: Teacher, folder: Path, part: Part, on_epoch: OnEpoch) -> dict[str, float]:
    encoder, tokenizer, head = untaught(dataset, settings)
    head = replace(head, task=part.task, outcome=part.outcome)

    def told(epoch: Mapping[str, float]) -> None:
        on_epoch({"epoch": epoch["epoch"], **_named(part, epoch)})

    return learn(dataset, head, lambda: TaskModel(encoder, head), tokenizer, settings, folder, told, part=part)


def _named(part: Part, figures: Mapping[str, float]) -> dict[str, float]:
    return {part.named(name): value for name, value in figures.items()}


def untaught(dataset: Path, settings: Teacher) -> tuple[nn.Module, Any, Head]:
    """The public encoder, its tokenizer, and the head that the task needs; trimmed if the recipe says so."""
    encoder, tokenizer = load_encoder(settings.encoder)
    schema = read_schema(dataset)
    if settings.vocabulary == "trim":
        before = len(tokenizer)
        rows = read_rows(dataset, "train", schema)
        encoder, tokenizer = trim(encoder, tokenizer, [*rows.text, *rows.catalogue])
        print(f"vocabulary trimmed from {before:,} to {len(tokenizer):,} pieces")
    return encoder, tokenizer, head_of(schema, settings.pooling, settings.max_tokens)

"""Teach: fine-tune a Hugging Face encoder on the dataset."""

from pathlib import Path
from typing import Any

from torch import nn

from potstill.compress.trim import trim
from potstill.data.dataset import read_rows, read_schema
from potstill.learn.model import Head, TaskModel, load_encoder
from potstill.learn.student import OnEpoch, head_of, learn
from potstill.recipe import Teacher


def teach(dataset: Path, settings: Teacher, teacher: Path, on_epoch: OnEpoch = lambda _: None) -> dict[str, float]:
    """Fine-tune `settings.encoder` and write the teacher's folder.

    Returns:
        Validation figures of the epoch that was kept.

    Raises:
        UserError: the encoder can't be loaded, or its vocabulary not trimmed.
    """
    encoder, tokenizer, head = untaught(dataset, settings)
    return learn(dataset, head, lambda: TaskModel(encoder, head), tokenizer, settings, teacher, on_epoch)


def untaught(dataset: Path, settings: Teacher) -> tuple[nn.Module, Any, Head]:
    """The public encoder, its tokenizer, and the head that the task needs; trimmed if the recipe says so."""
    encoder, tokenizer = load_encoder(settings.encoder)
    schema = read_schema(dataset)
    if settings.vocabulary == "trim":
        before = len(tokenizer)
        encoder, tokenizer = trim(encoder, tokenizer, read_rows(dataset, "train", schema).text)
        print(f"vocabulary trimmed from {before:,} to {len(tokenizer):,} pieces")
    return encoder, tokenizer, head_of(schema, settings.pooling, settings.max_tokens)

"""Pack: a model as a folder that the edge can open: graph, tokenizer and card."""

from pathlib import Path
from typing import Any

from potstill.compress.card import write_card
from potstill.compress.export import export_onnx
from potstill.data.dataset import Schema
from potstill.edge import TOKENIZER
from potstill.learn.model import TaskModel

MODEL = "model.onnx"


def pack(model: TaskModel, tokenizer: Any, folder: Path, schema: Schema) -> Path:
    """Export a model as float32 into a new folder and return the folder.

    Args:
        model: in PyTorch.
        tokenizer: its tokenizer.
        folder: to make.
        schema: says what the texts' columns are, for the card.
    """
    folder.mkdir()
    export_onnx(model, folder / MODEL)
    write_words(model, tokenizer, folder, schema, {"precision": "float32"})
    return folder


def write_words(model: TaskModel, tokenizer: Any, folder: Path, schema: Schema, more: dict[str, Any]) -> None:
    """Write the tokenizer and the card: what a service must know to use the graph."""
    tokenizer.backend_tokenizer.save(str(folder / TOKENIZER))
    card = {
        "task": model.head.task,
        "outcome": model.head.outcome.spec(),
        "text": list(schema.text),
        "pair": schema.pair,
        "features": model.head.features.spec(),
        "max_tokens": model.head.max_tokens,
        "pad_token_id": tokenizer.pad_token_id,
        "pad_token": tokenizer.pad_token,
        **more,
    }
    write_card(folder, card)

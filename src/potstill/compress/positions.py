"""Positions: a graph carries a vector for each place that a text's tokens may take, and no more."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

from potstill.learn.model import TaskModel

TABLE = "position_embeddings"


@contextmanager
def needed_positions(model: TaskModel) -> Iterator[None]:
    """While the block runs, the encoder's table of positions ends where the longest text does.

    Encoders without such a table stay as they are.
    """
    parent: Any = getattr(model.encoder, "embeddings", None)
    table = getattr(parent, TABLE, None)
    if not isinstance(table, nn.Embedding):
        yield
        return
    # RoBERTa and its kin count from the place after the one of padding.
    start = 0 if table.padding_idx is None else table.padding_idx + 1
    needed = table.weight[: start + model.head.max_tokens].detach().clone()
    setattr(parent, TABLE, nn.Embedding(len(needed), table.embedding_dim, _weight=needed))
    try:
        yield
    finally:
        setattr(parent, TABLE, table)

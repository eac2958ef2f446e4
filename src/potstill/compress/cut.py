"""Cut: the student is the teacher with fewer layers."""

import copy
from typing import Any

from torch import nn

from potstill.errors import UserError
from potstill.learn.anatomy import layer_stack, spread


def kept(encoder: nn.Module, layers: int | list[int]) -> list[int]:
    """Which layers are kept, from 0: as many, evenly spread, or these.

    Raises:
        UserError: the encoder hasn't that many layers, or its layers aren't found.
    """
    _, stack = layer_stack(encoder)
    chosen = spread(layers, len(stack)) if isinstance(layers, int) else layers
    if len(chosen) > len(stack) or max(chosen) >= len(stack):
        raise UserError(f"student.layers: {layers}: the encoder has {len(stack)} layers, numbered from 0")
    return chosen


def cut(encoder: nn.Module, layers: int | list[int]) -> nn.Module:
    """A copy of the encoder that keeps some of its layers.

    Args:
        encoder: a transformers encoder.
        layers: how many, evenly spread, or which ones, from 0.

    Raises:
        UserError: see `kept`.
    """
    chosen = kept(encoder, layers)
    path, _ = layer_stack(encoder)
    student = copy.deepcopy(encoder)
    stack = nn.ModuleList([student.get_submodule(path)[i] for i in chosen])  # type: ignore[index]
    parent, _, name = path.rpartition(".")
    setattr(student.get_submodule(parent), name, stack)
    config: Any = student.config
    config.num_hidden_layers = len(stack)
    if getattr(config, "layer_types", None):
        config.layer_types = [config.layer_types[i] for i in chosen]
    return student

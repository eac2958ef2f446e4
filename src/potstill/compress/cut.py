"""Cut: the student is the teacher with fewer layers."""

import copy
from typing import Any

from torch import nn

from potstill.errors import UserError

# Where the common architectures keep their stack of layers.
LAYER_PATHS = ("encoder.layer", "encoder.layers", "transformer.layer", "layers", "encoder.encoder.layer")


def spread(kept: int, layers: int) -> list[int]:
    """Indices of `kept` of `layers` layers, evenly spread, the first and the last among them.

    One layer alone is the first. (Jiao et al. 2020 and Sun et al. 2019 compare such choices.)
    """
    if kept == 1:
        return [0]
    return [round(i * (layers - 1) / (kept - 1)) for i in range(kept)]


def cut(encoder: nn.Module, layers: int | list[int]) -> nn.Module:
    """A copy of the encoder that keeps some of its layers.

    Args:
        encoder: a transformers encoder.
        layers: how many, evenly spread, or which ones, from 0.

    Raises:
        UserError: the encoder hasn't that many layers, or its layers aren't found.
    """
    path, stack = _stack(encoder)
    chosen = spread(layers, len(stack)) if isinstance(layers, int) else layers
    if len(chosen) > len(stack) or max(chosen) >= len(stack):
        raise UserError(f"student.layers: {layers}: the encoder has {len(stack)} layers, numbered from 0")
    student = copy.deepcopy(encoder)
    kept = nn.ModuleList([student.get_submodule(path)[i] for i in chosen])  # type: ignore[index]
    parent, _, name = path.rpartition(".")
    setattr(student.get_submodule(parent), name, kept)
    config: Any = student.config
    config.num_hidden_layers = len(kept)
    if getattr(config, "layer_types", None):
        config.layer_types = [config.layer_types[i] for i in chosen]
    return student


def _stack(encoder: nn.Module) -> tuple[str, nn.ModuleList]:
    modules = dict(encoder.named_modules())
    for path in LAYER_PATHS:
        stack = modules.get(path)
        if isinstance(stack, nn.ModuleList):
            return path, stack
    raise UserError(f"student.layers: can't cut a {type(encoder).__name__}: its list of layers was not found")

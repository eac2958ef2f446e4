"""A pruned encoder: smaller in memory, and on disk a whole one that has zeros where something was taken out.

So plain transformers can load it and gets the same answers; here the zeros are dropped again. Whatever is zero adds
nothing: a head's values are 0, and activations of 0 are 0.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from potstill.errors import UserError
from potstill.learn.anatomy import BERT_LIKE, layer_stack

# In an encoder's config: that some of its heads and units are zeros, to be dropped.
PRUNED = "pruned"


@dataclass(frozen=True)
class PrunableLayer:
    """The parts of a BERT-like layer that can be made smaller: heads and feed-forward units.

    Attributes:
        name: of the layer in its encoder.
    """

    name: str
    layer: Any

    @property
    def head_width(self) -> int:
        """Places of a head among the columns of what attention gives."""
        return int(self.layer.attention.self.attention_head_size)

    @property
    def heads(self) -> int:
        """How many there are."""
        return int(self.mixing.in_features) // self.head_width

    @property
    def units(self) -> int:
        """How many there are."""
        return int(self.contracting.in_features)

    @property
    def mixing(self) -> nn.Linear:
        """Takes what all heads give `[batch, tokens, heads · head width]`."""
        return self.layer.attention.output.dense  # type: ignore[no-any-return]

    @property
    def contracting(self) -> nn.Linear:
        """Takes what all units give `[batch, tokens, units]`."""
        return self.layer.output.dense  # type: ignore[no-any-return]

    def keep(self, heads: Sequence[int], units: Sequence[int]) -> None:
        """Take out all others, in place."""
        attend = self.layer.attention.self
        columns = (torch.tensor(heads)[:, None] * self.head_width + torch.arange(self.head_width)).flatten()
        for linear in (attend.query, attend.key, attend.value):
            _keep_rows(linear, columns)
        _keep_columns(self.mixing, columns)
        _keep_rows(self.layer.intermediate.dense, torch.tensor(units))
        _keep_columns(self.contracting, torch.tensor(units))
        attend.num_attention_heads, attend.all_head_size = len(heads), len(columns)


def prunable(encoder: nn.Module) -> list[PrunableLayer]:
    """The layers of an encoder.

    Raises:
        UserError: it is not BERT-like.
    """
    config: Any = encoder.config
    if config.model_type not in BERT_LIKE:
        raise UserError(f"student.prune: can't prune a {type(encoder).__name__}; it can be {', '.join(BERT_LIKE)}")
    path, stack = layer_stack(encoder)
    return [PrunableLayer(f"{path}.{number}", layer) for number, layer in enumerate(stack)]


def state_on_disk(encoder: Any) -> dict[str, Tensor] | None:
    """The weights with zeros in place of what was taken out; none where nothing was."""
    if not getattr(encoder.config, PRUNED, False):
        return None
    state: dict[str, Tensor] = encoder.state_dict()
    for layer in prunable(encoder):
        missing_columns = (encoder.config.num_attention_heads - layer.heads) * layer.head_width
        missing_units = encoder.config.intermediate_size - layer.units
        for name, axis, missing in _shrinking(layer.name, missing_columns, missing_units):
            weight = state[name]
            state[name] = pad(weight, (0, missing) if axis == weight.dim() - 1 else (0, 0, 0, missing)).contiguous()
    return state


def drop_zeros(encoder: Any) -> None:
    """Take out the heads and units that are zeros, in place, if the config says that there are some."""
    if not getattr(encoder.config, PRUNED, False):
        return
    for layer in prunable(encoder):
        heads = layer.mixing.weight.reshape(-1, layer.heads, layer.head_width).any(dim=2).any(dim=0)
        units = layer.contracting.weight.any(dim=0)
        layer.keep(heads.nonzero().flatten().tolist(), units.nonzero().flatten().tolist())


def _shrinking(layer: str, columns: int, units: int) -> Iterator[tuple[str, int, int]]:
    """Name of each weight that pruning shortens, along which axis, and by how much."""
    for projection in ("query", "key", "value"):
        yield f"{layer}.attention.self.{projection}.weight", 0, columns
        yield f"{layer}.attention.self.{projection}.bias", 0, columns
    yield f"{layer}.attention.output.dense.weight", 1, columns
    yield f"{layer}.intermediate.dense.weight", 0, units
    yield f"{layer}.intermediate.dense.bias", 0, units
    yield f"{layer}.output.dense.weight", 1, units


def _keep_rows(linear: nn.Linear, places: Tensor) -> None:
    linear.weight = nn.Parameter(linear.weight.detach()[places].clone())
    linear.bias = nn.Parameter(linear.bias.detach()[places].clone())
    linear.out_features = len(places)


def _keep_columns(linear: nn.Linear, places: Tensor) -> None:
    linear.weight = nn.Parameter(linear.weight.detach()[:, places].clone())
    linear.in_features = len(places)

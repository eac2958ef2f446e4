"""Narrow: a student of fewer layers and smaller width that starts from the teacher's weights, not from nothing."""

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModel

from potstill.compress.cut import cut
from potstill.errors import UserError
from potstill.learn.anatomy import BERT_LIKE
from potstill.learn.model import encode_texts, pad_batch
from potstill.learn.pruned import PRUNED

SAMPLE = 256
PROJECTED, BACK = (".query.", ".key.", ".value."), ".attention.output.dense."


def narrow(
    encoder: nn.Module, tokenizer: Any, texts: Sequence[str], layers: int | list[int], width: int, heads: int
) -> nn.Module:
    """A narrower copy of some layers: the dimensions, heads and inner units that matter most are kept.

    What matters is what is large on the task's own texts (weight subcloning: Samragh et al. 2023). The first
    dimensions of each head are kept, and the inner width shrinks as the width does.

    Args:
        encoder: a BERT-like encoder.
        tokenizer: its tokenizer.
        texts: of the task, of which some are looked at.
        layers: how many, evenly spread, or which ones, from 0.
        width: of the hidden states.
        heads: of the attention.

    Raises:
        UserError: the encoder isn't BERT-like, or not wider than that.
    """
    short = cut(encoder, layers)
    config: Any = short.config
    if config.model_type not in BERT_LIKE:
        raise UserError(f"student.narrow: made of BERT-like encoders alone, not of {config.model_type}; use encoder")
    if getattr(config, PRUNED, False):
        raise UserError("student.narrow: the encoder was pruned already: it can't be made narrower")
    if width == getattr(config, "embedding_size", None) != config.hidden_size:
        raise UserError(f"student.narrow: {width} wide is what the embeddings are: their projection would be lost")
    if width > config.hidden_size or heads > config.num_attention_heads:
        raise UserError(
            f"student.narrow: {width} wide with {heads} heads: the encoder has {config.hidden_size} with "
            f"{config.num_attention_heads}"
        )
    if width // heads > config.hidden_size // config.num_attention_heads:
        raise UserError(
            f"student.narrow: {width // heads} dimensions a head: the encoder's have "
            f"{config.hidden_size // config.num_attention_heads}; give it more heads"
        )
    small: Any = copy.deepcopy(config)
    small.hidden_size, small.num_attention_heads = width, heads
    small.intermediate_size = round(config.intermediate_size * width / config.hidden_size)
    if getattr(config, "embedding_size", None) == config.hidden_size:
        small.embedding_size = width
    options = {} if config.model_type == "electra" else {"add_pooling_layer": False}
    student: nn.Module = AutoModel.from_config(small, **options)
    kept = _Kept(short, tokenizer, texts, small)
    weights = {name: kept.part(name, weight) for name, weight in short.state_dict().items()}
    student.load_state_dict({name: weights[name] for name in student.state_dict()})
    return student


class _Kept:
    """Which hidden dimensions, inner units and places in attention are kept."""

    def __init__(self, encoder: nn.Module, tokenizer: Any, texts: Sequence[str], small: Any) -> None:
        config: Any = encoder.config
        ids = encode_texts(tokenizer, texts[:SAMPLE], 32).ids
        with torch.inference_mode():
            batch = pad_batch(ids, tokenizer.pad_token_id)
            states = encoder.eval()(**batch, output_hidden_states=True).hidden_states
        size = torch.stack([(state.abs() * batch["attention_mask"][..., None]).mean(dim=(0, 1)) for state in states])
        self._hidden = _largest(size.mean(dim=0), small.hidden_size)
        self._inner = small.intermediate_size
        self._old, self._new = config, small
        self._weights = encoder.state_dict()

    def part(self, name: str, weight: Tensor) -> Tensor:
        """What of a weight stays."""
        layer = name.partition("layer.")[2].partition(".")[0]
        if any(part in name for part in PROJECTED):
            found = weight[self._heads(layer)]
            return found[:, self._hidden] if found.dim() == 2 else found
        if BACK in name and weight.dim() == 2:
            found = weight[self._hidden]
            return found[:, self._heads(layer)]
        if ".intermediate." in name:
            found = weight[self._units(layer)]
            return found[:, self._hidden] if found.dim() == 2 else found
        if layer and name.endswith(".output.dense.weight") and BACK not in name:
            found = weight[self._hidden]
            return found[:, self._units(layer)]
        if name == "embeddings_project.weight":
            return weight[self._hidden]
        return weight[..., self._hidden] if weight.shape[-1:] == (self._old.hidden_size,) else weight

    def _units(self, layer: str) -> Tensor:
        return _largest(self._weights[f"encoder.layer.{layer}.intermediate.dense.weight"].norm(dim=1), self._inner)

    def _heads(self, layer: str) -> Tensor:
        """Places of the kept heads' kept dimensions among all heads' dimensions."""
        heads, size = self._old.num_attention_heads, self._old.hidden_size // self._old.num_attention_heads
        values = self._weights[f"encoder.layer.{layer}.attention.self.value.weight"]
        chosen = _largest(values.reshape(heads, -1).norm(dim=1), self._new.num_attention_heads)
        within = torch.arange(self._new.hidden_size // self._new.num_attention_heads)
        places: Tensor = (chosen[:, None] * size + within).flatten()
        return places


def _largest(values: Tensor, count: int) -> Tensor:
    """Places of the largest, in order."""
    return values.topk(count).indices.sort().values

"""Embed: a static encoder out of a transformer, a vector for each piece of its vocabulary."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from potstill.errors import UserError
from potstill.learn.model import Pooling, best_device
from potstill.learn.static import StaticConfig, StaticEncoder
from potstill.recipe import Static

BATCH = 512
# A piece with this share of the text counts half (Arora et al. 2017 use 1e-4 to 1e-3).
COMMON = 1e-3


def embed(encoder: nn.Module, tokenizer: Any, texts: Sequence[str], form: Static, pooling: str) -> StaticEncoder:
    """What the encoder says of each piece by itself, its main directions alone, and common pieces damped.

    Directions come from a principal component analysis over the vocabulary; a piece of share p of the text is weighed
    by a / (a + p) (Arora et al. 2017). What texts have in common, and special tokens, start from nothing.

    Args:
        encoder: a transformers encoder.
        tokenizer: its tokenizer.
        texts: tell how common each piece is.
        form: width of the vectors, and units of the layer above them.
        pooling: how the encoder's token vectors become one.

    Raises:
        UserError: the encoder is not as wide as that.
    """
    vectors = _alone(encoder, tokenizer, pooling)
    if (width := form.width) > min(vectors.shape):
        raise UserError(f"student.static.width: {width}: the teacher's vectors have {min(vectors.shape)} directions")
    centred = vectors - vectors.mean(dim=0)
    directions = torch.linalg.svd(centred, full_matrices=False).Vh[:width]
    found = centred @ (directions * _signs(directions)).T
    found = found / found.norm(dim=1).mean() * _rarity(tokenizer, texts)[:, None]
    found[tokenizer.all_special_ids] = 0.0
    static = StaticEncoder(StaticConfig(len(found), width, form.hidden))
    static.vectors.weight.data.copy_(found * math.sqrt(width))
    return static


@torch.inference_mode()
def _alone(encoder: nn.Module, tokenizer: Any, pooling: str) -> Tensor:
    """The pooled vector of each piece, between the tokens that begin and end a text `[pieces, width]`."""
    device = best_device()
    model, pool = encoder.to(device).eval(), Pooling(pooling)
    pieces = torch.arange(len(tokenizer))
    frame = [tokenizer.cls_token_id, tokenizer.sep_token_id]
    start, end = (pieces.new_full((len(pieces), 1), token) for token in frame)
    ids = torch.cat([start, pieces[:, None], end], dim=1)
    each = []
    for first in range(0, len(ids), BATCH):
        batch = ids[first : first + BATCH]
        mask = torch.ones_like(batch).to(device)
        each.append(pool(model(input_ids=batch.to(device), attention_mask=mask).last_hidden_state, mask).float().cpu())
    return torch.cat(each)


def _rarity(tokenizer: Any, texts: Sequence[str]) -> Tensor:
    """How much each piece counts `[pieces]`, from 0 to 1."""
    counts = torch.zeros(len(tokenizer))
    for start in range(0, len(texts), BATCH):
        for ids in tokenizer(list(texts[start : start + BATCH]), add_special_tokens=False)["input_ids"]:
            counts += torch.bincount(torch.tensor(ids, dtype=torch.long), minlength=len(counts))
    return COMMON / (COMMON + counts / counts.sum().clamp(min=1))


def _signs(directions: Tensor) -> Tensor:
    """Signs `[directions, 1]` that make the largest part of each positive: a decomposition leaves them open."""
    largest = directions.abs().argmax(dim=1, keepdim=True)
    return directions.gather(1, largest).sign()

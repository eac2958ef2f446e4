"""Trim: a vocabulary of the pieces that the task's own text uses.

Most of a small encoder is its vocabulary. What is left keeps its vectors, so on text made of kept pieces the encoder
answers as before; any other word falls apart into smaller pieces, down to single characters, which are all kept.
"""

import json
from collections.abc import Sequence
from typing import Any

import torch
from tokenizers import Tokenizer
from torch import nn
from transformers import PreTrainedTokenizerFast

from potstill.errors import UserError
from potstill.inputs import split_pair

BATCH_TEXTS = 1000
SPECIAL = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")


def trim(
    encoder: nn.Module, tokenizer: Any, texts: Sequence[str], knob: str = "teacher.vocabulary"
) -> tuple[nn.Module, Any]:
    """The encoder, changed in place, and a new tokenizer, with only the pieces that are needed.

    Args:
        encoder: a transformers encoder.
        tokenizer: its fast tokenizer, of the Unigram or the WordPiece kind.
        texts: of the task, from which the pieces are taken; special tokens and single characters are always kept.
        knob: of the recipe, for an error to name.

    Raises:
        UserError: a tokenizer of another kind.
    """
    spec = json.loads(tokenizer.backend_tokenizer.to_str())
    pieces = _pieces(spec, knob)
    kept = _kept(spec, pieces, _used(tokenizer, texts))
    place = {old: new for new, old in enumerate(kept)}
    _renumber(spec, pieces, place)
    special = {name: getattr(tokenizer, name) for name in SPECIAL if getattr(tokenizer, name, None)}
    small = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(spec)),
        model_max_length=tokenizer.model_max_length,
        **special,
    )
    _shrink(encoder, kept, small.pad_token_id)
    return encoder, small


def changed_tokens(before: Any, after: Any, texts: Sequence[str]) -> float:
    """Share of texts' tokens that a trimmed tokenizer no longer gives at their place."""
    changed = total = 0
    for start in range(0, len(texts), BATCH_TEXTS):
        batch = [split_pair(text) for text in texts[start : start + BATCH_TEXTS]]
        for was, is_now in zip(*(tokenizer(batch).encodings for tokenizer in (before, after)), strict=True):
            there = set(zip(is_now.tokens, is_now.offsets, is_now.type_ids, strict=True))
            total += len(was.tokens)
            changed += sum(token not in there for token in zip(was.tokens, was.offsets, was.type_ids, strict=True))
    return changed / max(total, 1)


def _pieces(spec: dict[str, Any], knob: str) -> list[str]:
    """The pieces by their number."""
    kind, vocab = spec["model"]["type"], spec["model"].get("vocab")
    if kind == "Unigram":
        return [piece for piece, _ in vocab]
    if kind == "WordPiece":
        return sorted(vocab, key=vocab.__getitem__)
    raise UserError(f"{knob}: can't trim a tokenizer of the kind {kind}; only Unigram and WordPiece")


def _used(tokenizer: Any, texts: Sequence[str]) -> set[int]:
    batches = (list(texts[start : start + BATCH_TEXTS]) for start in range(0, len(texts), BATCH_TEXTS))
    return {piece for batch in batches for ids in tokenizer(batch)["input_ids"] for piece in ids}


def _kept(spec: dict[str, Any], pieces: Sequence[str], used: set[int]) -> list[int]:
    """Numbers of the pieces that stay, in their order."""
    model = spec["model"]
    prefix = model.get("continuing_subword_prefix") or ""
    letters = {i for i, piece in enumerate(pieces) if len(piece.removeprefix(prefix)) == 1}
    unknown = {model["unk_id"]} if "unk_id" in model else {model["vocab"][model["unk_token"]]}
    added = {token["id"] for token in spec["added_tokens"]}
    return sorted(used | letters | unknown | added)


def _renumber(spec: dict[str, Any], pieces: Sequence[str], place: dict[int, int]) -> None:
    """Leave only the kept pieces in a tokenizer's description, under their new numbers, in place."""
    model = spec["model"]
    if model["type"] == "Unigram":
        model["vocab"] = [model["vocab"][old] for old in place if old < len(pieces)]
        model["unk_id"] = place[model["unk_id"]]
    else:
        model["vocab"] = {pieces[old]: new for old, new in place.items() if old < len(pieces)}
    for token in spec["added_tokens"]:
        token["id"] = place[token["id"]]
    _renumber_template(spec.get("post_processor"), place)


def _renumber_template(processor: dict[str, Any] | None, place: dict[int, int]) -> None:
    """Likewise where special tokens are put around a text."""
    if processor is None:
        return
    for part in processor.get("processors", []):
        _renumber_template(part, place)
    for token in processor.get("special_tokens", {}).values():
        token["ids"] = [place[old] for old in token["ids"]]
    for name in ("sep", "cls"):
        if name in processor:
            text, old = processor[name]
            processor[name] = [text, place[old]]


def _shrink(encoder: Any, kept: Sequence[int], pad_token_id: int) -> None:
    """Keep the vectors of these pieces, in place."""
    old = encoder.get_input_embeddings()
    small = nn.Embedding(len(kept), old.embedding_dim, padding_idx=None if old.padding_idx is None else pad_token_id)
    with torch.no_grad():
        small.weight.copy_(old.weight[torch.tensor(kept)])
    encoder.set_input_embeddings(small)
    encoder.config.vocab_size = len(kept)
    encoder.config.pad_token_id = pad_token_id

"""Pieces: how far a text's words are from those of the training data, as the model's own tokenizer reads them."""

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from potstill.edge import TOKENIZER
from potstill.inputs import split_pair
from potstill.outcomes import Floats

MOST_RISEN = 10
# The commonest, each with its own share; all others share the rest evenly.
MOST_PIECES = 1000
BATCH_TEXTS = 1000


class Reader:
    """An edge model's tokenizer without its limit of tokens and without special tokens.

    Args:
        edge: the model's folder.

    Attributes:
        size: how many different pieces there are.
        unknown: number of the piece that stands for what has none; none: everything has one.
    """

    def __init__(self, edge: Path) -> None:
        text = (edge / TOKENIZER).read_text(encoding="utf-8")
        self._tokenizer = Tokenizer.from_str(text)
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        model = json.loads(text)["model"]
        self.size: int = self._tokenizer.get_vocab_size()
        self.unknown: int | None = model.get("unk_id")
        if self.unknown is None and model.get("unk_token") is not None:
            self.unknown = self._tokenizer.token_to_id(model["unk_token"])

    def read(self, texts: Sequence[str]) -> list[list[int]]:
        """The pieces of each text, as numbers."""
        found: list[list[int]] = []
        for start in range(0, len(texts), BATCH_TEXTS):
            batch = [split_pair(text) for text in texts[start : start + BATCH_TEXTS]]
            found += [each.ids for each in self._tokenizer.encode_batch(batch, add_special_tokens=False)]
        return found

    def name(self, piece: int) -> str:
        """A piece as text."""
        return str(self._tokenizer.id_to_token(piece))


@dataclass(frozen=True)
class Frequencies:
    """How often the training texts' pieces occur.

    Attributes:
        counts: of the commonest pieces, by number.
        total: of all pieces.
        size: how many different pieces there are.
    """

    counts: Mapping[int, int]
    total: int
    size: int

    @classmethod
    def learn(cls, read: Sequence[Sequence[int]], size: int) -> "Frequencies":
        """From texts that were read."""
        counts = Counter(piece for pieces in read for piece in pieces)
        common = sorted(counts, key=lambda piece: (-counts[piece], piece))[:MOST_PIECES]
        return cls({piece: counts[piece] for piece in sorted(common)}, counts.total(), size)

    def share(self, piece: int) -> float:
        """Of a piece among all; each counts once more than it occurred, so that none is impossible."""
        return (self.counts.get(piece, self._rest) + 1) / (self.total + self.size)

    @cached_property
    def _rest(self) -> float:
        """How often a piece that is not among the commonest occurs, on the average."""
        others = self.size - len(self.counts)
        return (self.total - sum(self.counts.values())) / others if others else 0.0

    def surprise(self, read: Sequence[Sequence[int]]) -> Floats:
        """Cross-entropy of each text's pieces under these frequencies, nats a piece `[rows]`; NaN of an empty one.

        The unigram case of what tells texts of a domain from others (Moore & Lewis 2010).
        """
        nats = {piece: -math.log(self.share(piece)) for piece in {piece for pieces in read for piece in pieces}}
        return np.array([sum(nats[p] for p in pieces) / len(pieces) if pieces else math.nan for pieces in read])

    def spec(self) -> dict[str, Any]:
        """As JSON; `from_spec` reads it."""
        return {
            "ids": list(self.counts),
            "counts": list(self.counts.values()),
            "total": self.total,
            "size": self.size,
        }

    @classmethod
    def from_spec(cls, spec: Mapping[str, Any]) -> "Frequencies":
        """Read what `spec` wrote."""
        return cls(dict(zip(spec["ids"], spec["counts"], strict=True)), spec["total"], spec["size"])


def unknown_shares(read: Sequence[Sequence[int]], unknown: int | None) -> Floats:
    """Share of each text's pieces that stand for what the vocabulary lacks `[rows]`; NaN of an empty text."""
    return np.array([sum(p == unknown for p in pieces) / len(pieces) if pieces else math.nan for pieces in read])


@dataclass(frozen=True)
class Risen:
    """A piece that other texts have more often.

    Attributes:
        piece: as text.
        reference: its share of the training texts' pieces.
        window: of the others'.
    """

    piece: str
    reference: float
    window: float


def risen(reader: Reader, known: Frequencies, read: Sequence[Sequence[int]]) -> list[Risen]:
    """The pieces whose share has risen by most in texts that were read, most first."""
    now = Frequencies.learn(read, reader.size)
    gains = {piece: now.share(piece) - known.share(piece) for piece in now.counts}
    most = sorted((p for p in gains if gains[p] > 0), key=lambda piece: (-gains[piece], piece))[:MOST_RISEN]
    return [Risen(reader.name(piece), known.share(piece), now.share(piece)) for piece in most]

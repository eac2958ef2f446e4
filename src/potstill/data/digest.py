"""Content as digests: what makes two rows the same, what names a row, and what names a dataset.

All are SHA-256 and depend on content only: not on paths, shards, compression or the machine.
"""

import hashlib
import json
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

KEY_BYTES = 16


def text_key(text: str) -> bytes:
    """16 bytes that two texts share when they differ at most in white space and in Unicode composition (NFC)."""
    canonical = " ".join(unicodedata.normalize("NFC", text).split())
    return hashlib.sha256(canonical.encode()).digest()[:KEY_BYTES]


def row_digest(text: str, label: str) -> str:
    """Name of a row, by the very text and label that the dataset stores: 64 hexadecimal digits.

    The text's length comes first, so that no other pair of text and label gives the same bytes.
    """
    content = text.encode()
    return hashlib.sha256(b"%d:" % len(content) + content + label.encode()).hexdigest()


def shuffle_order(seed: int, contents: Iterable[bytes]) -> npt.NDArray[np.uint64]:
    """A number `[n]` for each of n contents, as if drawn at random, but fixed by seed and content alone."""
    start = hashlib.sha256(b"%d:" % seed)

    def number(content: bytes) -> int:
        digest = start.copy()
        digest.update(content)
        return int.from_bytes(digest.digest()[:8])

    return np.fromiter(map(number, contents), dtype=np.uint64)


class DatasetDigest:
    """Grows with the rows as they are written; covers the rows of each split in order, and what their labels mean."""

    def __init__(self, splits: Sequence[str]) -> None:
        self._splits = {split: hashlib.sha256() for split in splits}

    def add(self, split: str, rows: Sequence[str]) -> None:
        """Take in the digests of the next rows of a split."""
        self._splits[split].update("".join(rows).encode())

    def hexdigest(self, outcome: Mapping[str, Any]) -> str:
        """The dataset's digest: 64 hexadecimal digits."""
        parts = [[split, digest.hexdigest()] for split, digest in self._splits.items()]
        return hashlib.sha256(json.dumps([parts, dict(outcome)]).encode()).hexdigest()

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


def input_key(text: str, features: Sequence[str] = ()) -> bytes:
    """16 bytes that rows share when features are equal, and texts but for white space and Unicode composition (NFC)."""
    canonical = " ".join(unicodedata.normalize("NFC", text).split())
    return hashlib.sha256("\0".join([canonical, *features]).encode()).digest()[:KEY_BYTES]


def row_digest(text: str, label: str, features: Sequence[str] = ()) -> str:
    """Name of a row, by its very text, features and label: 64 hexadecimal digits.

    The length of each but the last comes first, so that no other row gives the same bytes.
    """
    digest = hashlib.sha256()
    for content in map(str.encode, (text, *features)):
        digest.update(b"%d:" % len(content) + content)
    digest.update(label.encode())
    return digest.hexdigest()


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

"""What a prediction means: every prediction is a distribution over outcomes.

An outcome family encodes labels as indices, names the outcomes in their fixed order and decodes probabilities.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Classification:
    """K unordered classes. Their order is an artifact (`schema.json`): it never changes between steps."""

    names: tuple[str, ...]

    @classmethod
    def from_labels(cls, labels: Iterable[str]) -> "Classification":
        """Classes in alphabetical order, so that the order depends on nothing but the labels."""
        return cls(tuple(sorted(set(labels))))

    def __len__(self) -> int:
        return len(self.names)

    def encode(self, labels: Sequence[str]) -> npt.NDArray[np.int64]:
        """Indices `[rows]` of the labels. Raises KeyError on an unknown one."""
        index = {name: i for i, name in enumerate(self.names)}
        return np.array([index[label] for label in labels], dtype=np.int64)

    def decode(self, probabilities: npt.NDArray[np.floating]) -> list[str]:
        """The likeliest outcome of each row of `probabilities [rows, outcomes]`."""
        return [self.names[i] for i in probabilities.argmax(axis=1)]

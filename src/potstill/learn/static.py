"""A static encoder: a vector for each piece of the vocabulary, looked up; what stands around a piece changes nothing.

A text's pooled vector is the mean of its pieces' (Model2Vec: Tulkens & van Dongen 2024).
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

from safetensors.torch import load_file, save_file
from torch import Tensor, nn

MODEL_TYPE = "potstill-static"
CONFIG, WEIGHTS = "config.json", "model.safetensors"


@dataclass
class StaticConfig:
    """The form of a static encoder, named as transformers names it.

    The layer of `intermediate_size` units, 0 where there is none, stands between the pooled vector and the head.
    """

    vocab_size: int
    hidden_size: int
    intermediate_size: int = 0
    hidden_dropout_prob: float = 0.0
    num_hidden_layers: int = 0
    model_type: str = MODEL_TYPE


class States(NamedTuple):
    """What an encoder gives: a vector a token `[batch, tokens, width]`."""

    last_hidden_state: Tensor


class StaticEncoder(nn.Module):
    """Token ids `[batch, tokens]` → vectors `[batch, tokens, width]`, by looking up."""

    def __init__(self, config: StaticConfig) -> None:
        super().__init__()
        self.config = config
        self.vectors = nn.Embedding(config.vocab_size, config.hidden_size)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> States:
        """The vectors; padding is left to the pooling."""
        return States(self.vectors(input_ids))

    def get_input_embeddings(self) -> nn.Embedding:
        """The vectors."""
        return self.vectors

    def set_input_embeddings(self, vectors: nn.Embedding) -> None:
        """Other vectors in their place."""
        self.vectors = vectors

    def save_pretrained(self, folder: Path) -> None:
        """Write form and vectors into a folder."""
        save_file({name: weight.contiguous() for name, weight in self.state_dict().items()}, folder / WEIGHTS)
        (folder / CONFIG).write_text(json.dumps(asdict(self.config), indent=1), encoding="utf-8")

    @classmethod
    def from_pretrained(cls, folder: Path) -> "StaticEncoder":
        """Read what `save_pretrained` wrote."""
        encoder = cls(StaticConfig(**json.loads((folder / CONFIG).read_text(encoding="utf-8"))))
        encoder.load_state_dict(load_file(folder / WEIGHTS))
        return encoder


def is_static(folder: Path) -> bool:
    """Whether a folder holds a static encoder."""
    path = folder / CONFIG
    return path.is_file() and json.loads(path.read_text(encoding="utf-8")).get("model_type") == MODEL_TYPE

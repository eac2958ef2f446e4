"""Index: a catalogue's answers as vectors, beside the model that made them."""

import json
from collections.abc import Sequence
from pathlib import Path

from potstill.edge import CATALOGUE, VECTOR_TYPE, VECTORS, EdgeModel


def index(folder: Path, answers: Sequence[str]) -> None:
    """Write the catalogue's texts, and their vectors by this very edge model `[answers, width]` as bare float16.

    Finding the best is then one matrix product: for some ten thousand answers it takes less time than the model.
    """
    EdgeModel(folder).logits(answers).astype(VECTOR_TYPE).tofile(folder / VECTORS)
    (folder / CATALOGUE).write_text(json.dumps(list(answers), ensure_ascii=False), encoding="utf-8")

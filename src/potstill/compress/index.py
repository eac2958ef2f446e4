"""Index: a catalogue's answers as vectors, beside the model that made them."""

import json
from collections.abc import Sequence
from pathlib import Path

from potstill.data.dataset import Schema, read_rows
from potstill.data.split import SPLITS
from potstill.edge import CATALOGUE, VECTOR_TYPE, VECTORS, EdgeModel


def catalogue_of(dataset: Path, schema: Schema) -> list[str]:
    """All answers of the dataset: what a shop has answered once, it may answer again."""
    return sorted({answer for split in SPLITS for answer in read_rows(dataset, split, schema).catalogue})


def index(folder: Path, answers: Sequence[str]) -> None:
    """Write the catalogue's texts, and their vectors by this very edge model `[answers, width]` as bare float16.

    Finding the best is then one matrix product: for some ten thousand answers it takes less time than the model.
    """
    EdgeModel(folder).logits(answers).astype(VECTOR_TYPE).tofile(folder / VECTORS)
    (folder / CATALOGUE).write_text(json.dumps(list(answers), ensure_ascii=False), encoding="utf-8")

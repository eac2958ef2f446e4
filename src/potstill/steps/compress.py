"""Compress: the student as small files that a shop's CPU path can load."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from potstill.compress.export import Parity, check_parity, export_onnx
from potstill.compress.quantize import quantize_int8
from potstill.data.dataset import read_rows, read_schema
from potstill.learn.model import TaskModel, encode_texts, load_model
from potstill.machine import instruction_set
from potstill.recipe import Compress
from potstill.store import writing

MODEL, TOKENIZER, CARD = "model.onnx", "tokenizer.json", "card.json"


@dataclass(frozen=True)
class Origin:
    """Where a student comes from; it goes onto the card."""

    recipe: str
    dataset_digest: str
    teacher_digest: str
    student_digest: str


def compress(dataset: Path, student: Path, settings: Compress, origin: Origin, edge: Path) -> dict[str, float]:
    """Export the student to ONNX, prove it equal to PyTorch on validation rows, and quantise it.

    Writes `float/` and `int8/`, each with the model, the tokenizer and a card.

    Returns:
        Parity figures and the sizes in bytes.

    Raises:
        ParityError: the graph does not answer like the student; nothing is written.
    """
    schema = read_schema(dataset)
    model, tokenizer = load_model(student)
    rows = read_rows(dataset, "validation", schema)
    ids = encode_texts(tokenizer, rows.text[: settings.parity_rows], model.head.max_tokens)
    with writing(edge) as draft:
        plain, small = draft / "float", draft / "int8"
        plain.mkdir()
        small.mkdir()
        export_onnx(model, plain / MODEL)
        parity = check_parity(model, plain / MODEL, ids, tokenizer.pad_token_id, settings.parity_atol)
        quantize_int8(plain / MODEL, small / MODEL)
        for folder, precision in ((plain, "float32"), (small, "int8")):
            tokenizer.backend_tokenizer.save(str(folder / TOKENIZER))
            card = _card(model, tokenizer, origin, precision, parity, schema.text)
            (folder / CARD).write_text(json.dumps(card, indent=1, ensure_ascii=False), encoding="utf-8")
    sizes = {
        f"{folder}_bytes": sum(f.stat().st_size for f in (edge / folder).iterdir()) for folder in ("float", "int8")
    }
    print(
        f"ONNX equals PyTorch on {parity.rows} rows (largest difference {parity.max_difference:.1e}); "
        f"{sizes['float_bytes'] / 1e6:.1f} MB as float, {sizes['int8_bytes'] / 1e6:.1f} MB as int8"
    )
    return {"parity_max_difference": parity.max_difference, "parity_argmax_agreement": parity.argmax_agreement, **sizes}


def _card(
    model: TaskModel, tokenizer: Any, origin: Origin, precision: str, parity: Parity, text: str
) -> dict[str, Any]:
    """What a service must know to use the file, and what it was made from."""
    return {
        "name": origin.recipe,
        "task": model.head.task,
        "kind": "classification",
        "outcomes": list(model.head.outcomes),
        "text": text,
        "max_tokens": model.head.max_tokens,
        "pad_token_id": tokenizer.pad_token_id,
        "pad_token": tokenizer.pad_token,
        "precision": precision,
        "instruction_set": instruction_set(),
        "parity_rows": parity.rows,
        "parity_max_difference": parity.max_difference,
        "dataset_digest": origin.dataset_digest,
        "teacher_digest": origin.teacher_digest,
        "student_digest": origin.student_digest,
    }

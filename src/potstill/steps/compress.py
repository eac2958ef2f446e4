"""Compress: the student as small files that a shop's CPU path can load."""

from dataclasses import asdict, dataclass, replace
from pathlib import Path

from potstill.compress.export import check_parity
from potstill.compress.index import index
from potstill.compress.pack import MODEL, pack, write_words
from potstill.compress.quantize import quantize_int8
from potstill.compress.settle import TEMPERED, settle
from potstill.data.dataset import Schema, read_rows, read_schema
from potstill.data.split import SPLITS
from potstill.learn.model import encode, load_model
from potstill.machine import instruction_set
from potstill.outcomes import Retrieval, parts_of
from potstill.recipe import Compress
from potstill.store import writing


@dataclass(frozen=True)
class Origin:
    """Where a student comes from; it goes onto the card."""

    recipe: str
    dataset_digest: str
    teacher_digest: str
    student_digest: str


def compress(dataset: Path, student: Path, settings: Compress, origin: Origin, edge: Path) -> dict[str, float]:
    """Export the student to ONNX, prove it equal to PyTorch on validation rows, and quantise it.

    Writes `float/` and `int8/`, each with the model, the tokenizer and a card; a retrieval also with all answers of
    the dataset and their vectors.

    Returns:
        Temperatures of the int8 student, parity figures and the sizes in bytes.

    Raises:
        ParityError: the graph does not answer like the student; nothing is written.
    """
    schema = read_schema(dataset)
    model, tokenizer = load_model(student)
    validation = read_rows(dataset, "validation", schema)
    rows = validation.first(settings.parity_rows)
    inputs = replace(encode(tokenizer, rows, model.head), answers=None)
    with writing(edge) as draft:
        plain, small = pack(model, tokenizer, draft / "float", schema), draft / "int8"
        parity = check_parity(model, plain / MODEL, inputs, tokenizer.pad_token_id, settings.parity_atol)
        small.mkdir()
        quantize_int8(plain / MODEL, small / MODEL)
        for folder, precision in ((plain, "float32"), (small, "int8")):
            facts = {**asdict(origin), **asdict(parity), "precision": precision, "instruction_set": instruction_set()}
            write_words(model, tokenizer, folder, schema, facts)
            settled = settle(folder, validation)
            if isinstance(schema.outcome, Retrieval):
                index(folder, _catalogue(dataset, schema))
    sizes = {name: sum(f.stat().st_size for f in (edge / name).iterdir()) for name in ("float", "int8")}
    print(
        f"ONNX equals PyTorch on {parity.parity_rows} rows (largest difference {parity.parity_max_difference:.1e}); "
        f"{sizes['float'] / 1e6:.1f} MB as float, {sizes['int8'] / 1e6:.1f} MB as int8"
    )
    found = [part for part in parts_of(settled) if isinstance(part.outcome, TEMPERED)]
    temperatures = {part.named("temperature"): part.outcome.temperature for part in found}
    return {
        **temperatures,
        "parity_max_difference": parity.parity_max_difference,
        "parity_argmax_agreement": parity.parity_argmax_agreement,
        "float_bytes": sizes["float"],
        "int8_bytes": sizes["int8"],
    }


def _catalogue(dataset: Path, schema: Schema) -> list[str]:
    """All answers of the dataset: what a shop has answered once, it may answer again."""
    return sorted({answer for split in SPLITS for answer in read_rows(dataset, split, schema).catalogue})

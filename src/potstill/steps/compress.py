"""Compress: the student as small files that a shop's CPU path can load."""

import math
import shutil
import tempfile
from dataclasses import asdict
from pathlib import Path

from potstill.compress.settle import TEMPERED
from potstill.drift.profile import learn_from_dataset, write_profile
from potstill.outcomes import parts_of
from potstill.recipe import Compress
from potstill.steps.made import First, Origin
from potstill.steps.press import Press
from potstill.store import to_json, writing

# In the folder of all files: what each step cost and gained.
STEPS = "steps.json"
FLOAT, SMALL = "float", "small"


def compress(
    dataset: Path, student: Path, settings: Compress, origin: Origin, edge: Path, first: First | None = None
) -> dict[str, float]:
    """Export the student to ONNX, proven equal to PyTorch on validation rows, and make it smaller step by step.

    A step that costs more of the validation figure than the recipe allows is left out; where no quantisation may stay,
    the smaller file is the float one. Behind a smaller student, given as `first`, it becomes a cascade. Writes `float/`
    and `small/`, each with the model, the tokenizer and a card (a retrieval also with all answers of the dataset and
    their vectors, a cascade with the smaller model), and `steps.json`: what each step cost and gained. `small/` has
    a profile of the data besides, for drift to be measured against.

    Returns:
        Temperatures of the edge model, parity figures, the sizes in bytes, and what each step lost.

    Raises:
        ParityError: the graph does not answer like the student; nothing is written.
        UserError: the tokenizer is of a kind that can't be trimmed.
    """
    with writing(edge) as draft, tempfile.TemporaryDirectory(prefix="potstill-") as scratch:
        press = Press(dataset, settings, origin, Path(scratch), first)
        made = press.run(student)
        plain, small = [one for one in made if one.is_float][-1], made[-1]
        shutil.copytree(plain.folder, draft / FLOAT)
        shutil.copytree(small.folder, draft / SMALL)
        write_profile(draft / SMALL, learn_from_dataset(draft / SMALL, dataset))
        (draft / STEPS).write_text(to_json([asdict(step) for step in press.steps]), encoding="utf-8")
    tempered = [part for part in parts_of(small.outcome) if isinstance(part.outcome, TEMPERED)]
    return {
        **{part.named("temperature"): part.outcome.temperature for part in tempered},
        **{name: small.card[name] for name in ("parity_max_difference", "parity_argmax_agreement")},
        "float_bytes": plain.bytes,
        "small_bytes": small.bytes,
        **{f"{step.name}_lost": step.lost for step in press.steps if math.isfinite(step.lost)},
        **{f"{step.name}_{name}": value for step in press.steps for name, value in step.more.items()},
    }

"""Export: a model as one ONNX graph, proven equal to PyTorch on real rows."""

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from torch import Tensor

from potstill.compress.first_token import first_token_alone
from potstill.compress.positions import needed_positions
from potstill.errors import UserError
from potstill.learn.model import Inputs, TaskModel, predict_logits
from potstill.learn.static import StaticEncoder

WORDS = ("input_ids", "attention_mask")


@dataclass(frozen=True)
class Parity:
    """How far the ONNX graph is from PyTorch on the same rows."""

    parity_rows: int
    parity_max_difference: float
    parity_argmax_agreement: float


class ParityError(UserError):
    """The exported graph does not answer like the model; how far it may be off is a setting."""


def export_onnx(model: TaskModel, path: Path) -> None:
    """Write the graph: `input_ids`, `attention_mask` `[batch, tokens]` int64 → `logits` `[batch, outcomes]` float32.

    A model with features also takes `numeric` `[batch, numbers]` float32, NaN where missing, and `categorical`
    `[batch, columns]` int64. Where the first token stands for the text, the last layer computes it alone.
    """
    model.eval()
    # The fused attention's graph depends on the mask; the plain one is the same for every batch.
    if not isinstance(model.encoder, StaticEncoder):
        model.encoder.set_attn_implementation("eager")  # type: ignore[operator]
    rows: list[dict[str, object]] = [{}, {}]
    example = Inputs([[1, 2, 3, 4, 5], [1, 2, 3]], model.head.features.arrays(rows) if model.head.features else {})
    named = example.batch([0, 1], pad_token_id=0)
    batch, tokens = torch.export.Dim("batch", min=1), torch.export.Dim("tokens", min=2)
    with _quiet(), first_token_alone(model), needed_positions(model):
        torch.onnx.export(
            model,
            tuple(named.values()),
            path,
            input_names=list(named),
            output_names=["logits"],
            dynamic_shapes={name: {0: batch, 1: tokens} if name in WORDS else {0: batch} for name in named},
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    _strip(path)


def _strip(path: Path) -> None:
    """Take out what the exporter noted on each node, such as which line of which file it came from.

    No runtime reads it, it is a tenth of a small file, and it tells of the machine that exported.
    """
    model = onnx.load(path)
    for part in (model.graph, *model.graph.node, *model.graph.value_info, *model.graph.input, *model.graph.output):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
    onnx.save(model, path)


def check_parity(model: TaskModel, path: Path, inputs: Inputs, pad_token_id: int, atol: float) -> Parity:
    """Compare the graph with PyTorch on real rows, as one padded batch and one by one.

    Raises:
        ParityError: a logit differs by more than `atol`, is not a number, or an answer changes.
    """
    expected = predict_logits(model, inputs, pad_token_id)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    rows = range(len(inputs))
    together = run(session, inputs.batch(rows, pad_token_id))
    alone = np.concatenate([run(session, inputs.batch([row], pad_token_id)) for row in rows])
    difference = max(float(np.abs(found - expected.numpy()).max()) for found in (together, alone))
    agreement = min(float((found.argmax(1) == expected.numpy().argmax(1)).mean()) for found in (together, alone))
    parity = Parity(len(inputs), difference, agreement)
    if not difference <= atol or agreement < 1:
        raise ParityError(
            f"{path.name}: on {len(inputs)} real rows ONNX differs from PyTorch by up to {difference:.2g} "
            f"(compress.parity_atol: {atol:g}) and gives the same answer on {agreement:.1%} (required: 100 %)"
        )
    return parity


def run(session: onnxruntime.InferenceSession, batch: dict[str, Tensor]) -> np.ndarray:
    """Logits `[batch, outcomes]` of one padded batch."""
    logits: np.ndarray = session.run(["logits"], {name: values.numpy() for name, values in batch.items()})[0]
    return logits


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Hide the exporter's chatter; errors still come as exceptions."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)

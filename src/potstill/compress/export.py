"""Export: a model as one ONNX graph, proven equal to PyTorch on real rows."""

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from torch import Tensor

from potstill.learn.model import TaskModel, pad_batch, predict_logits

INPUTS = ("input_ids", "attention_mask")


@dataclass(frozen=True)
class Parity:
    """How far the ONNX graph is from PyTorch on the same rows."""

    parity_rows: int
    parity_max_difference: float
    parity_argmax_agreement: float


class ParityError(Exception):
    """The exported graph does not answer like the model."""


def export_onnx(model: TaskModel, path: Path) -> None:
    """Write the graph: `input_ids`, `attention_mask` `[batch, tokens]` int64 → `logits` `[batch, outcomes]` float32."""
    model.eval()
    # The fused attention's graph depends on the mask; the plain one is the same for every batch.
    model.encoder.set_attn_implementation("eager")  # type: ignore[operator]
    example = pad_batch([[1, 2, 3, 4, 5], [1, 2, 3]], pad_token_id=0)
    batch, tokens = torch.export.Dim("batch", min=1), torch.export.Dim("tokens", min=2)
    with _quiet():
        torch.onnx.export(
            model,
            tuple(example[name] for name in INPUTS),
            path,
            input_names=list(INPUTS),
            output_names=["logits"],
            dynamic_shapes={name: {0: batch, 1: tokens} for name in INPUTS},
            dynamo=True,
            external_data=False,
            verbose=False,
        )


def check_parity(model: TaskModel, path: Path, ids: Sequence[Sequence[int]], pad_token_id: int, atol: float) -> Parity:
    """Compare the graph with PyTorch on real rows, as one padded batch and one by one.

    Raises:
        ParityError: a logit differs by more than `atol`, is not a number, or an answer changes.
    """
    expected = predict_logits(model, ids, pad_token_id)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    together = run(session, pad_batch(ids, pad_token_id))
    alone = np.concatenate([run(session, pad_batch([row], pad_token_id)) for row in ids])
    difference = max(float(np.abs(found - expected.numpy()).max()) for found in (together, alone))
    agreement = min(float((found.argmax(1) == expected.numpy().argmax(1)).mean()) for found in (together, alone))
    parity = Parity(len(ids), difference, agreement)
    if not difference <= atol or agreement < 1:
        raise ParityError(
            f"{path.name}: on {len(ids)} real rows ONNX differs from PyTorch by up to {difference:.2g} "
            f"(allowed: {atol:g}) and gives the same answer on {agreement:.1%} (required: 100 %)"
        )
    return parity


def run(session: onnxruntime.InferenceSession, batch: dict[str, Tensor]) -> np.ndarray:
    """Logits `[batch, outcomes]` of one padded batch."""
    logits: np.ndarray = session.run(["logits"], {name: batch[name].numpy() for name in INPUTS})[0]
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

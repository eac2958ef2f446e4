"""Quantize: weights as 8-bit integers, in the ways that ONNX Runtime offers."""

import contextlib
import logging
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy.typing as npt
import onnx
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_dynamic, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from potstill.recipe import Quantization

Batch = Mapping[str, npt.NDArray[Any]]
# What a graph of ours multiplies by weights, and where it looks vectors up.
MULTIPLIED, LOOKED_UP = ["MatMul", "Gemm"], ["Gather"]
# Range is reduced to 7 bits, because AVX2 without VNNI may overflow its 16-bit sums on 8 (ONNX Runtime's guide).
INT8: dict[str, Any] = {"weight_type": QuantType.QInt8, "reduce_range": True}


def quantize(way: Quantization, source: Path, target: Path, calibration: Callable[[], Sequence[Batch]]) -> None:
    """Write a quantised graph.

    Dynamic: weights are integers with one scale a channel, or one a matrix; activations are scaled as they come.
    Static: activations have scales of their own, from rows that were seen before. Embeddings: only they are integers,
    and all is computed in float.

    Args:
        way: which.
        source: the float graph.
        target: the file to write.
        calibration: makes the graph's inputs for some rows; static ways alone ask for them.
    """

    def dynamic(prepared: Path, **options: Any) -> None:
        quantize_dynamic(prepared, target, **INT8 | options)

    def static(prepared: Path, per_channel: bool) -> None:
        quantize_static(
            prepared,
            target,
            _Rows(calibration()),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=[*MULTIPLIED, *LOOKED_UP],
            per_channel=per_channel,
            activation_type=QuantType.QUInt8,
            **INT8,
        )

    ways: dict[Quantization, Callable[[Path], None]] = {
        "dynamic": lambda prepared: dynamic(prepared, per_channel=True),
        "dynamic_per_tensor": lambda prepared: dynamic(prepared, per_channel=False),
        "static": lambda prepared: static(prepared, per_channel=True),
        "static_per_tensor": lambda prepared: static(prepared, per_channel=False),
        "embeddings": lambda prepared: dynamic(prepared, op_types_to_quantize=LOOKED_UP),
    }
    with _quiet(), tempfile.TemporaryDirectory(prefix="potstill-") as scratch:
        prepared = Path(scratch) / "prepared.onnx"
        quant_pre_process(source, prepared, skip_symbolic_shape=True)
        _forget_shapes(prepared)
        ways[way](prepared)


class _Rows(CalibrationDataReader):
    """Calibration rows, one after another."""

    def __init__(self, batches: Sequence[Batch]) -> None:
        self._left = iter(batches)

    def get_next(self) -> dict[str, npt.NDArray[Any]] | None:
        """The next row's inputs; none after the last."""
        batch = next(self._left, None)
        return None if batch is None else dict(batch)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The quantiser tells of each tensor; nobody asked."""
    logger = logging.getLogger()
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _forget_shapes(path: Path) -> None:
    """Drop noted shapes: some exporters note those of weights too, and the quantiser trips where it transposes one."""
    graph = onnx.load(path)
    del graph.graph.value_info[:]
    onnx.save(graph, path)

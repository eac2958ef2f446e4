"""Quantize: weights as 8-bit integers."""

import logging
import tempfile
from pathlib import Path

import onnx
from onnxruntime.quantization import QuantType, quantize_dynamic
from onnxruntime.quantization.shape_inference import quant_pre_process


def quantize_int8(source: Path, target: Path) -> None:
    """Dynamic int8: weights are stored as integers, one scale a channel; activations are scaled as they come.

    Range is reduced to 7 bits, because AVX2 without VNNI may overflow its 16-bit sums on 8
    (ONNX Runtime's quantization guide).
    """
    logger = logging.getLogger()
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with tempfile.TemporaryDirectory(prefix="potstill-") as scratch:
            prepared = Path(scratch) / "prepared.onnx"
            quant_pre_process(source, prepared, skip_symbolic_shape=True)
            _forget_shapes(prepared)
            quantize_dynamic(prepared, target, weight_type=QuantType.QInt8, per_channel=True, reduce_range=True)
    finally:
        logger.setLevel(level)


def _forget_shapes(path: Path) -> None:
    """Drop noted shapes: some exporters note those of weights too, and the quantiser trips where it transposes one."""
    graph = onnx.load(path)
    del graph.graph.value_info[:]
    onnx.save(graph, path)

"""What this machine can do at most: multiply, move, and be asked. One core, as a session of the edge model has."""

import contextlib
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import TensorProto, helper

# Large enough to keep the units busy, small enough to stay in the second-level cache by parts.
SIDE = 768
COPIED_BYTES = 64 * 2**20
TRIES = 15
ASKED = 500


@dataclass(frozen=True)
class Limits:
    """A core's limits.

    Attributes:
        gflops: 10^9 float32 operations a second in a product of large matrices, the best of several.
        gbytes_s: 10^9 bytes a second read and written by copying, the best of several.
        overhead_ms: median time of asking ONNX Runtime for a graph that does nothing.
    """

    gflops: float
    gbytes_s: float
    overhead_ms: float

    def least_ms(self, operations: float, weight_bytes: float) -> float:
        """Time that so many float32 operations on weights of so many bytes take at least (Williams et al. 2009)."""
        return max(operations / self.gflops, weight_bytes / self.gbytes_s) / 1e6

    def words(self) -> str:
        """What they are, in a line."""
        return (
            f"{self.gflops:.0f} GFLOP/s in float32, {self.gbytes_s:.0f} GB/s, "
            f"{self.overhead_ms * 1e3:.0f} µs to ask ONNX Runtime"
        )


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """While the block runs, PyTorch has one thread, as a session of the edge model has."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def measure_limits() -> Limits:
    """Measure for about a second."""
    left, right = torch.rand(SIDE, SIDE), torch.rand(SIDE, SIDE)
    source = np.ones(COPIED_BYTES, dtype=np.uint8)
    target = np.empty_like(source)
    with one_thread():
        product_s = min(_seconds(lambda: left @ right) for _ in range(TRIES))
    copy_s = min(_seconds(lambda: np.copyto(target, source)) for _ in range(TRIES))
    session = _nothing()
    asked = {"x": np.zeros((1, 1), dtype=np.float32)}
    asking_s = statistics.median(_seconds(lambda: session.run(None, asked)) for _ in range(ASKED))
    return Limits(2 * SIDE**3 / product_s / 1e9, 2 * COPIED_BYTES / copy_s / 1e9, asking_s * 1e3)


def _seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def _nothing() -> onnxruntime.InferenceSession:
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 1]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "nothing", ends[:1], ends[1:])
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(made)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(made.SerializeToString(), options, providers=["CPUExecutionProvider"])

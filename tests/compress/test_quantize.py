from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from potstill.compress.export import export_onnx, run
from potstill.compress.quantize import quantize
from potstill.learn.model import Head, TaskModel, load_encoder, pad_batch
from potstill.outcomes import Classification
from potstill.recipe import Quantization

IDS = [[2, 7, 9, 11, 3], [2, 8, 3], [2, 12, 14, 3], [2, 20, 21, 22, 23, 3]]
DYNAMIC, SCALED = {"MatMulInteger", "DynamicQuantizeLinear"}, {"QuantizeLinear", "DequantizeLinear"}


@pytest.fixture(scope="module")
def plain(encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A float graph."""
    torch.manual_seed(0)
    model = TaskModel(load_encoder(str(encoder))[0], Head("mood", Classification(("a", "b", "c")), "mean", 64))
    path = tmp_path_factory.mktemp("float") / "model.onnx"
    export_onnx(model, path)
    return path


def made(way: Quantization, plain: Path, folder: Path) -> Path:
    rows = [{name: part.numpy() for name, part in pad_batch([ids], 0).items()} for ids in IDS]
    quantize(way, plain, folder / f"{way}.onnx", lambda: rows)
    return folder / f"{way}.onnx"


@pytest.mark.parametrize(
    ("way", "operators", "largest_scale"),
    [
        ("dynamic", DYNAMIC, 32),
        ("dynamic_per_tensor", DYNAMIC, 1),
        ("static", SCALED, 32),
        ("static_per_tensor", SCALED, 1),
        ("embeddings", {"DequantizeLinear"}, 1),
    ],
)
def test_each_way_stays_near_float(
    plain: Path, tmp_path: Path, way: Quantization, operators: set[str], largest_scale: int
):
    small = made(way, plain, tmp_path)
    graph = onnx.load(small).graph
    kinds = {node.op_type for node in graph.node}
    assert operators <= kinds
    assert ("MatMulInteger" in kinds) == way.startswith("dynamic")
    scales = [int(np.prod(part.dims)) for part in graph.initializer if part.name.endswith("_scale")]
    assert max(scales) == largest_scale
    # The weights alone: of so small a graph the operators take most.
    sizes = [sum(len(part.raw_data) for part in onnx.load(path).graph.initializer) for path in (small, plain)]
    assert sizes[0] < sizes[1]
    found, expected = (
        np.concatenate([run(onnxruntime.InferenceSession(path), pad_batch([ids], 0)) for ids in IDS])
        for path in (small, plain)
    )
    assert 0 < np.abs(found - expected).max() < 0.2 * np.abs(expected).max()


def test_embeddings_alone_leave_the_layers_in_float(plain: Path, tmp_path: Path):
    def shapes(path: Path, *kinds: int) -> set[tuple[int, ...]]:
        return {tuple(part.dims) for part in onnx.load(path).graph.initializer if part.data_type in kinds}

    small = made("embeddings", plain, tmp_path)
    integers = shapes(small, onnx.TensorProto.INT8, onnx.TensorProto.UINT8)
    layers, vectors = {(16, 16), (16, 32), (32, 16)}, {(60, 16), (64, 16)}
    assert layers <= shapes(small, onnx.TensorProto.FLOAT)
    assert not layers & integers
    assert vectors <= integers


def test_static_scales_come_from_the_calibration_rows(plain: Path, tmp_path: Path):
    (tmp_path / "few").mkdir()
    few = [{name: part.numpy() for name, part in pad_batch([IDS[1]], 0).items()}]
    quantize("static", plain, tmp_path / "few" / "static.onnx", lambda: few)
    all_rows = made("static", plain, tmp_path)
    assert (tmp_path / "few" / "static.onnx").read_bytes() != all_rows.read_bytes()

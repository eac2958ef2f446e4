from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from potstill.compress.cut import cut
from potstill.compress.export import ParityError, check_parity, export_onnx, run
from potstill.compress.quantize import quantize_int8
from potstill.learn.model import Head, TaskModel, load_encoder, pad_batch, predict_logits

IDS = [[2, 9, 10, 3], [2, 5, 3], [2, 12, 13, 14, 15, 16, 17, 18, 3]]


@pytest.fixture(scope="module")
def model(encoder: Path) -> TaskModel:
    torch.manual_seed(1)
    made = TaskModel(cut(load_encoder(str(encoder))[0], 2), Head("t", ("a", "b", "c"), "mean", 16)).eval()
    with torch.no_grad():
        made.classifier.weight.mul_(50)
        made.classifier.bias.copy_(torch.tensor([0.1, -0.2, 0.3]))
    return made


@pytest.fixture(scope="module")
def exported(model: TaskModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("onnx") / "model.onnx"
    export_onnx(model, path)
    return path


def test_the_graph_answers_like_pytorch_at_any_batch_size_and_length(model: TaskModel, exported: Path):
    session = onnxruntime.InferenceSession(exported)
    for ids in (IDS, IDS[:1], [[2, 3]], IDS * 3):
        assert np.abs(run(session, pad_batch(ids, 0)) - predict_logits(model, ids, 0).numpy()).max() < 1e-4


def test_parity_reports_what_it_compared(model: TaskModel, exported: Path):
    parity = check_parity(model, exported, IDS, 0, atol=1e-3)
    assert (parity.parity_rows, parity.parity_argmax_agreement) == (3, 1.0)
    assert 0 <= parity.parity_max_difference < 1e-3


def test_a_graph_with_one_changed_weight_fails_parity(model: TaskModel, exported: Path, tmp_path: Path):
    graph = onnx.load(exported)
    bias = next(t for t in graph.graph.initializer if list(t.dims) == [3])
    bias.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(bias) + np.float32(0.1), bias.name))
    onnx.save(graph, tmp_path / "model.onnx")
    with pytest.raises(ParityError, match=r"differs from PyTorch by up to 0\.1"):
        check_parity(model, tmp_path / "model.onnx", IDS, 0, atol=1e-3)


def test_a_graph_that_gives_no_number_fails_parity(model: TaskModel, exported: Path, tmp_path: Path):
    graph = onnx.load(exported)
    bias = next(t for t in graph.graph.initializer if list(t.dims) == [3])
    bias.CopyFrom(onnx.numpy_helper.from_array(np.full(3, np.nan, np.float32), bias.name))
    onnx.save(graph, tmp_path / "model.onnx")
    with pytest.raises(ParityError):
        check_parity(model, tmp_path / "model.onnx", IDS, 0, atol=1e-3)


def test_int8_is_smaller_and_stays_near_float(model: TaskModel, exported: Path, tmp_path: Path):
    small = tmp_path / "int8.onnx"
    quantize_int8(exported, small)
    kinds = {node.op_type for node in onnx.load(small).graph.node}
    assert "MatMulInteger" in kinds
    found = run(onnxruntime.InferenceSession(small), pad_batch(IDS, 0))
    expected = predict_logits(model, IDS, 0).numpy()
    assert np.abs(found - expected).max() < 0.1 * np.abs(expected).max()
    weights = [t for t in onnx.load(small).graph.initializer if t.data_type == onnx.TensorProto.INT8]
    layers, matrices, width, inner = 2, 4, 16, 32
    assert sum(int(np.prod(t.dims)) for t in weights) >= layers * (matrices * width * width + 2 * width * inner)

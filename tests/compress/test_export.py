from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from potstill.compress.cut import cut
from potstill.compress.export import ParityError, check_parity, export_onnx, run
from potstill.compress.quantize import quantize
from potstill.inputs import Category, Features
from potstill.learn.model import Head, Inputs, TaskModel, load_encoder, pad_batch, predict_logits
from potstill.outcomes import Classification

IDS = [[2, 9, 10, 3], [2, 5, 3], [2, 12, 13, 14, 15, 16, 17, 18, 3]]


@pytest.fixture(scope="module")
def model(encoder: Path) -> TaskModel:
    torch.manual_seed(1)
    made = TaskModel(
        cut(load_encoder(str(encoder))[0], 2), Head("t", Classification(("a", "b", "c")), "mean", 16)
    ).eval()
    with torch.no_grad():
        made.on_top["classifier"].weight.mul_(50)
        made.on_top["classifier"].bias.copy_(torch.tensor([0.1, -0.2, 0.3]))
    return made


@pytest.fixture(scope="module")
def exported(model: TaskModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("onnx") / "model.onnx"
    export_onnx(model, path)
    return path


def test_the_graph_answers_like_pytorch_at_any_batch_size_and_length(model: TaskModel, exported: Path):
    session = onnxruntime.InferenceSession(exported)
    for ids in (IDS, IDS[:1], [[2, 3]], IDS * 3):
        assert np.abs(run(session, pad_batch(ids, 0)) - predict_logits(model, Inputs(ids), 0).numpy()).max() < 1e-4


def test_the_graph_tells_nothing_of_the_machine_that_exported_it(exported: Path):
    text = exported.read_bytes()
    assert b"potstill" not in text
    assert b".py" not in text
    assert not any(node.metadata_props for node in onnx.load(exported).graph.node)


def test_parity_reports_what_it_compared(model: TaskModel, exported: Path):
    parity = check_parity(model, exported, Inputs(IDS), 0, atol=1e-3)
    assert (parity.parity_rows, parity.parity_argmax_agreement) == (3, 1.0)
    assert 0 <= parity.parity_max_difference < 1e-3


def test_a_graph_with_one_changed_weight_fails_parity(model: TaskModel, exported: Path, tmp_path: Path):
    graph = onnx.load(exported)
    bias = next(t for t in graph.graph.initializer if list(t.dims) == [3])
    bias.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(bias) + np.float32(0.1), bias.name))
    onnx.save(graph, tmp_path / "model.onnx")
    with pytest.raises(ParityError, match=r"differs from PyTorch by up to 0\.1"):
        check_parity(model, tmp_path / "model.onnx", Inputs(IDS), 0, atol=1e-3)


def test_a_graph_that_gives_no_number_fails_parity(model: TaskModel, exported: Path, tmp_path: Path):
    graph = onnx.load(exported)
    bias = next(t for t in graph.graph.initializer if list(t.dims) == [3])
    bias.CopyFrom(onnx.numpy_helper.from_array(np.full(3, np.nan, np.float32), bias.name))
    onnx.save(graph, tmp_path / "model.onnx")
    with pytest.raises(ParityError):
        check_parity(model, tmp_path / "model.onnx", Inputs(IDS), 0, atol=1e-3)


def test_int8_is_smaller_and_stays_near_float(model: TaskModel, exported: Path, tmp_path: Path):
    small = tmp_path / "int8.onnx"
    quantize("dynamic", exported, small, list)
    kinds = {node.op_type for node in onnx.load(small).graph.node}
    assert "MatMulInteger" in kinds
    found = run(onnxruntime.InferenceSession(small), pad_batch(IDS, 0))
    expected = predict_logits(model, Inputs(IDS), 0).numpy()
    assert np.abs(found - expected).max() < 0.1 * np.abs(expected).max()
    weights = [t for t in onnx.load(small).graph.initializer if t.data_type == onnx.TensorProto.INT8]
    layers, matrices, width, inner = 2, 4, 16, 32
    assert sum(int(np.prod(t.dims)) for t in weights) >= layers * (matrices * width * width + 2 * width * inner)


def test_features_travel_in_the_graph_scaled_as_in_training(encoder: Path, tmp_path: Path):
    features = Features(("lag", "price"), ("week",), (Category("shop", ("a", "b")),))
    torch.manual_seed(2)
    made = TaskModel(load_encoder(str(encoder))[0], Head("t", Classification(("a", "b")), "mean", 16, features)).eval()
    rows = [
        {"lag": 1e4, "price": "3.5", "week": "2026-11-24", "shop": "b"},
        {"lag": None, "price": -2.0, "shop": "new"},
        {"lag": 0, "week": "2026-02-01T10:30"},
    ]
    inputs = Inputs(IDS, features.arrays(rows))
    made.fit_features(inputs)
    export_onnx(made, tmp_path / "model.onnx")
    parity = check_parity(made, tmp_path / "model.onnx", inputs, 0, atol=1e-4)
    assert parity.parity_argmax_agreement == 1
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    assert [entry.name for entry in session.get_inputs()] == ["input_ids", "attention_mask", "numeric", "categorical"]
    changed = Inputs(IDS, features.arrays([row | {"lag": 5} for row in rows]))
    assert not torch.allclose(predict_logits(made, inputs, 0), predict_logits(made, changed, 0))

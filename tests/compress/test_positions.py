"""The graph's table of positions: as long as a text may be, for encoders that count from 0 and for those that don't."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from transformers import (
    BertConfig,
    BertModel,
    DistilBertConfig,
    DistilBertModel,
    MPNetConfig,
    MPNetModel,
    RobertaConfig,
    RobertaModel,
)

from potstill.compress.export import export_onnx, run
from potstill.compress.positions import needed_positions
from potstill.learn.model import Head, Inputs, TaskModel, pad_batch, predict_logits
from potstill.learn.static import StaticConfig, StaticEncoder
from potstill.outcomes import Classification

PLACES, LONGEST = 200, 12
SIZES: dict[str, Any] = {"vocab_size": 30, "max_position_embeddings": PLACES}
LAYERS: dict[str, Any] = {
    "hidden_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "initializer_range": 0.5,
}
ENCODERS = {
    "bert": lambda: BertModel(BertConfig(**SIZES, **LAYERS), add_pooling_layer=False),
    "roberta": lambda: RobertaModel(RobertaConfig(**SIZES, **LAYERS, pad_token_id=1), add_pooling_layer=False),
    "mpnet": lambda: MPNetModel(MPNetConfig(**SIZES, **LAYERS, pad_token_id=1), add_pooling_layer=False),
    "distilbert": lambda: DistilBertModel(
        DistilBertConfig(**SIZES, dim=8, n_layers=1, n_heads=2, hidden_dim=16, initializer_range=0.5)
    ),
}


@pytest.mark.parametrize("kind", ENCODERS)
def test_the_graph_holds_no_place_that_no_token_can_take_and_answers_alike(kind: str, tmp_path: Path):
    torch.manual_seed(0)
    model = TaskModel(ENCODERS[kind](), Head("t", Classification(("a", "b", "c")), "mean", LONGEST)).eval()
    with torch.no_grad():
        model.on_top["classifier"].weight.mul_(50)
    export_onnx(model, tmp_path / "model.onnx")
    tables = onnx.load(tmp_path / "model.onnx").graph.initializer
    lengths = {dim for t in tables if t.data_type == onnx.TensorProto.FLOAT for dim in t.dims}
    start = 2 if kind in {"roberta", "mpnet"} else 0
    assert LONGEST + start in lengths
    assert PLACES not in lengths
    ids = [list(range(4, 4 + LONGEST)), [5, 6, 7]]
    found = run(onnxruntime.InferenceSession(tmp_path / "model.onnx"), pad_batch(ids, 1 if start else 0))
    expected = predict_logits(model, Inputs(ids), 1 if start else 0).numpy()
    assert np.abs(found - expected).max() < 1e-4
    assert np.abs(expected).max() > 1e-2


def test_the_model_itself_keeps_all_places():
    model = TaskModel(ENCODERS["bert"](), Head("t", Classification(("a", "b")), "mean", LONGEST))
    before = model.encoder.embeddings.position_embeddings
    with needed_positions(model):
        assert len(model.encoder.embeddings.position_embeddings.weight) == LONGEST
    assert model.encoder.embeddings.position_embeddings is before


def test_an_encoder_without_places_stays_as_it_is():
    model = TaskModel(StaticEncoder(StaticConfig(30, 8)), Head("t", Classification(("a", "b")), "mean", LONGEST))
    with needed_positions(model):
        assert [*model.encoder.state_dict()] == ["vectors.weight"]

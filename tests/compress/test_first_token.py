"""The last layer that computes the first token alone says the same of it, in PyTorch and as a graph."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from transformers import AutoConfig, AutoModel

from potstill.compress.export import export_onnx, run
from potstill.compress.first_token import first_token_alone
from potstill.learn.model import Head, Inputs, TaskModel, pad_batch, predict_logits
from potstill.outcomes import Classification

IDS = [[2, 9, 10, 3], [2, 5, 3], [2, 12, 13, 14, 15, 16, 17, 18, 3]]
SMALL = {
    "vocab_size": 40,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "initializer_range": 0.5,
}


def task_model(kind: str, pooling: str = "cls", **more: Any) -> TaskModel:
    torch.manual_seed(1)
    encoder = AutoModel.from_config(AutoConfig.for_model(kind, **SMALL, **more))
    return TaskModel(encoder, Head("t", Classification(("a", "b", "c")), pooling, 16)).eval()


@pytest.mark.parametrize("kind", ["bert", "roberta", "xlm-roberta", "camembert", "electra"])
def test_it_gives_one_state_a_text_and_that_is_the_first_tokens(kind: str):
    model = task_model(kind)
    model.encoder.set_attn_implementation("eager")  # type: ignore[operator]
    batch = pad_batch(IDS, 0)
    with torch.inference_mode():
        whole = model.encoder(**batch).last_hidden_state
        with first_token_alone(model):
            alone = model.encoder(**batch).last_hidden_state
        again = model.encoder(**batch).last_hidden_state
    assert alone.shape == (3, 1, 16)
    torch.testing.assert_close(alone[:, 0], whole[:, 0])
    assert torch.equal(again, whole)


@pytest.mark.parametrize(("kind", "pooling"), [("bert", "mean"), ("distilbert", "cls")])
def test_others_stay_as_they_are(kind: str, pooling: str):
    model = task_model(kind, pooling)
    with torch.inference_mode(), first_token_alone(model):
        assert model.encoder(**pad_batch(IDS, 0)).last_hidden_state.shape == (3, 9, model.encoder.config.hidden_size)  # type: ignore[union-attr]


@pytest.mark.parametrize("kind", ["bert", "roberta"])
def test_the_graph_answers_like_the_whole_model_and_computes_less(kind: str, tmp_path: Path):
    model = task_model(kind)
    whole = task_model(kind, "mean")
    export_onnx(model, tmp_path / "first.onnx")
    export_onnx(whole, tmp_path / "all.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "first.onnx")
    pad = 1 if kind == "roberta" else 0
    for ids in (IDS, IDS[:1], [[2, 3]]):
        assert np.abs(run(session, pad_batch(ids, pad)) - predict_logits(model, Inputs(ids), pad).numpy()).max() < 1e-4
    # The inner states of the last layer: of one token against nine.
    assert widest_last(tmp_path / "first.onnx", pad) * 9 == widest_last(tmp_path / "all.onnx", pad)


def widest_last(path: Path, pad: int) -> int:
    """Numbers in the last product of states and inner weights."""
    graph = onnx.load(path)
    inner = [node.output[0] for node in graph.graph.node if node.op_type in ("Erf", "Gelu")]
    graph.graph.output.append(onnx.helper.make_empty_tensor_value_info(inner[-1]))
    session = onnxruntime.InferenceSession(graph.SerializeToString())
    (found,) = session.run([inner[-1]], {n: v.numpy() for n, v in pad_batch(IDS[2:], pad).items()})
    return int(np.size(found))

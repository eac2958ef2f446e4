import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModel, AutoTokenizer

from potstill.errors import UserError
from potstill.inputs import Category, Features
from potstill.learn import terms
from potstill.learn.model import (
    FeatureTower,
    Head,
    Inputs,
    NormalHead,
    Pooling,
    TaskModel,
    load_encoder,
    load_model,
    pad_batch,
    predict_logits,
    save_model,
)
from potstill.outcomes import Classification, Value

HEAD = Head("sentiment", Classification(("negative", "positive")), "mean", 16)


def test_mean_pooling_leaves_padding_out():
    tokens = torch.tensor([[[1.0, 2.0], [3.0, 4.0], [100.0, 100.0]]])
    assert Pooling("mean")(tokens, torch.tensor([[1, 1, 0]])).tolist() == [[2.0, 3.0]]


def test_cls_pooling_takes_the_first_token():
    tokens = torch.tensor([[[1.0, 2.0], [3.0, 4.0]]])
    assert Pooling("cls")(tokens, torch.tensor([[1, 1]])).tolist() == [[1.0, 2.0]]


def test_padding_fills_on_the_right_and_is_masked():
    batch = pad_batch([[5, 6], [7, 8, 9]], pad_token_id=0)
    assert batch["input_ids"].tolist() == [[5, 6, 0], [7, 8, 9]]
    assert batch["attention_mask"].tolist() == [[1, 1, 0], [1, 1, 1]]


def test_logits_come_in_the_order_given_and_do_not_depend_on_their_neighbours(encoder: Path):
    model = TaskModel(load_encoder(str(encoder))[0], HEAD).eval()
    ids = [[2, 9, 3], [2, 5, 6, 7, 8, 9, 3], [2, 12, 13, 3]]
    together = predict_logits(model, Inputs(ids), 0, batch_size=2)
    alone = torch.cat([predict_logits(model, Inputs([row]), 0) for row in ids])
    assert torch.allclose(together, alone, atol=1e-6)


def test_a_saved_model_answers_the_same_after_loading(encoder: Path, tmp_path: Path):
    source, tokenizer = load_encoder(str(encoder))
    model = TaskModel(source, HEAD).eval()
    save_model(model, tokenizer, tmp_path)
    loaded, _ = load_model(tmp_path)
    ids = [[2, 9, 10, 3]]
    assert torch.equal(predict_logits(loaded, Inputs(ids), 0), predict_logits(model, Inputs(ids), 0))
    assert loaded.head == HEAD


def test_plain_transformers_loads_a_saved_model(encoder: Path, tmp_path: Path):
    source, tokenizer = load_encoder(str(encoder))
    save_model(TaskModel(source, HEAD), tokenizer, tmp_path)
    assert AutoModel.from_pretrained(tmp_path).config.num_hidden_layers == 4
    assert AutoTokenizer.from_pretrained(tmp_path)("the lamp")["input_ids"] == tokenizer("the lamp")["input_ids"]
    assert not list(tmp_path.glob("*.bin"))
    assert not list(tmp_path.glob("*.p*t*"))


def test_torn_weights_are_refused_in_one_line(encoder: Path, tmp_path: Path):
    shutil.copytree(encoder, tmp_path, dirs_exist_ok=True)
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(UserError, match="can't be loaded") as caught:
        load_encoder(str(tmp_path))
    assert "\n" not in str(caught.value)


def test_an_unknown_architecture_is_refused(encoder: Path, tmp_path: Path):
    shutil.copytree(encoder, tmp_path, dirs_exist_ok=True)
    config = json.loads((tmp_path / "config.json").read_text()) | {"model_type": "no-such-model"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match="can't be loaded"):
        load_encoder(str(tmp_path))


def test_a_tower_standardises_by_the_training_rows_and_flags_what_is_missing():
    tower = FeatureTower(Features(("lag",)))
    seen: list[torch.Tensor] = []
    tower.layers.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0]))
    tower.fit(torch.tensor([[1.0], [3.0], [float("nan")]]))
    tower(torch.tensor([[3.0], [float("nan")], [1e9]]), torch.zeros(3, 0, dtype=torch.long))
    # The mean is 2 and the deviation 1; the logarithm of 1 + 3 lies as far above its mean as that of 1 + 1 below.
    assert seen[0].flatten().tolist() == pytest.approx([1, 1, 0, 0, 0, 1, 5, 5, 0], abs=1e-5)


def test_a_model_with_features_answers_the_same_after_loading(encoder: Path, tmp_path: Path):
    features = Features(("lag",), (), (Category("shop", ("a", "b")),))
    source, tokenizer = load_encoder(str(encoder))
    model = TaskModel(source, Head("t", Classification(("x", "y")), "mean", 16, features)).eval()
    inputs = Inputs([[2, 9, 3], [2, 5, 3]], features.arrays([{"lag": 7.0, "shop": "a"}, {"lag": 2.0}]))
    model.fit_features(inputs)
    save_model(model, tokenizer, tmp_path)
    loaded, _ = load_model(tmp_path)
    assert loaded.head == model.head
    assert torch.equal(predict_logits(loaded, inputs, 0), predict_logits(model, inputs, 0))


def test_a_normal_head_is_plain_regression_in_the_form_of_a_histogram():
    outcome = Value(0.0, 10.0, 200, "linear", 0.75, head="normal")
    head = NormalHead(3, outcome)
    with torch.no_grad():
        # Narrow, and far from the ends, so that no end cuts the distribution off.
        head.log_spread.fill_(math.log(0.05))
        head.centre.weight.uniform_(-0.2, 0.2)
        head.centre.bias.zero_()
    vectors, labels = torch.rand(5, 3), np.array([2.0, 3.5, 5.0, 6.0, 7.5])
    logits = head(vectors)
    # The scale from −1 to 1 stands for 0 to 10.
    centres = 5 * (head.centre(vectors)[:, 0] + 1).detach().numpy()
    assert outcome.mean(torch.softmax(logits, dim=1).detach().numpy()) == pytest.approx(centres, abs=1e-3)
    losses = terms.cross_entropy(logits, torch.from_numpy(outcome.targets(labels))).detach().numpy()
    squares = (labels - centres) ** 2 / (2 * (5 * 0.05) ** 2)
    # Equal but for a constant, which the spread alone decides.
    assert losses - losses[0] == pytest.approx(squares - squares[0], abs=0.02)


def test_a_normal_head_survives_saving(tmp_path: Path, encoder: Path):
    head = Head("price", Value(0.0, 10.0, 32, "linear", 0.75, head="normal"), "mean", 16)
    base, tokenizer = load_encoder(str(encoder))
    model = TaskModel(base, head).eval()
    save_model(model, tokenizer, tmp_path)
    inputs = Inputs(tokenizer(["the kettle is great", "awful"])["input_ids"])
    found, loaded = predict_logits(model, inputs, 0), load_model(tmp_path)[0]
    assert loaded.on_top["classifier"].centre.weight.shape == (1, 16)
    assert torch.equal(predict_logits(loaded, inputs, 0), found)
    assert found.shape == (2, 32)


def test_an_unseen_category_says_nothing_until_learnt_and_known_ones_pass_for_it_while_learning():
    torch.manual_seed(0)
    tower = FeatureTower(Features((), (), (Category("shop", ("a", "b")),)))
    numeric, names = torch.zeros(400, 0), torch.full((400, 1), 2)
    assert tower.embeddings[0].weight[:2].abs().max() == 0
    learning = tower.train()(numeric, names)
    unseen = tower.eval()(numeric[:1], torch.tensor([[1]]))
    forgotten = (learning - unseen).abs().amax(dim=1).lt(1e-6).float().mean()
    assert 0.01 < forgotten < 0.12
    missing = tower.train()(numeric, torch.zeros_like(names))
    assert torch.allclose(missing, missing[:1].expand_as(missing), atol=1e-6)

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from transformers import AutoModel, DistilBertConfig, DistilBertModel

from potstill.compress.prune import importance, most_important, prune
from potstill.errors import UserError
from potstill.learn.model import Head, Inputs, TaskModel, load_encoder, load_model, save_model
from potstill.learn.pruned import prunable
from potstill.learn.trainer import Examples
from potstill.metrics import Truth
from potstill.outcomes import Classification
from potstill.recipe import Prune

IDS = [[2, 7, 9, 11, 3], [2, 8, 3], [2, 12, 14, 3], [2, 20, 21, 22, 23, 3]]
BATCH = Inputs(IDS).batch(range(4), 0)


@pytest.fixture
def model(encoder: Path) -> TaskModel:
    made, _ = load_encoder(str(encoder))
    torch.manual_seed(0)
    return TaskModel(made, Head("mood", Classification(("bad", "good")), "mean", 16)).eval()


def examples() -> Examples:
    return Examples(Inputs(IDS), Truth(np.array([0.0, 1.0, 1.0, 0.0])))


def cross_entropy(logits: Tensor, batch: dict[str, Tensor]) -> Tensor:
    return nn.functional.cross_entropy(logits, batch["targets"], reduction="none")


def test_pruned_model_answers_as_one_whose_least_parts_were_silenced(model: TaskModel):
    layers = prunable(model.encoder)
    keep = [([1], [0, 3, 5, 8]), ([0, 1], list(range(32))), ([0], [1]), ([1], list(range(16)))]
    silenced = [module for layer in layers for module in (layer.mixing, layer.contracting)]

    def hush(places: Tensor):
        return lambda _, given: (given[0] * places,)

    masks = []
    for layer, (heads, units) in zip(layers, keep, strict=True):
        by_head = torch.zeros(layer.heads, layer.head_width)
        by_head[heads] = 1
        by_unit = torch.zeros(layer.units)
        by_unit[units] = 1
        masks += [by_head.flatten(), by_unit]
    handles = [module.register_forward_pre_hook(hush(mask)) for module, mask in zip(silenced, masks, strict=True)]
    expected = model(**BATCH).detach()
    for handle in handles:
        handle.remove()
    for layer, (heads, units) in zip(layers, keep, strict=True):
        layer.keep(heads, units)
    assert torch.allclose(model(**BATCH), expected, atol=1e-6)
    assert [(layer.heads, layer.units) for layer in layers] == [(1, 4), (2, 32), (1, 1), (1, 16)]


def test_pruned_model_is_smaller_and_comes_back_from_disk_as_it_was(model: TaskModel, encoder: Path, tmp_path: Path):
    weights = sum(weight.numel() for weight in model.parameters())
    prune(model, cross_entropy, examples(), Prune(heads=0.5, feed_forward=0.5), 0)
    assert sum(weight.numel() for weight in model.parameters()) < weights
    (tmp_path / "model").mkdir()
    save_model(model, load_encoder(str(encoder))[1], tmp_path / "model")
    back, _ = load_model(tmp_path / "model")
    assert [(part.heads, part.units) for part in prunable(back.encoder)] == [
        (part.heads, part.units) for part in prunable(model.encoder)
    ]
    assert torch.equal(back(**BATCH), model.eval()(**BATCH))


def test_plain_transformers_load_a_pruned_model_and_get_the_same_states(
    model: TaskModel, encoder: Path, tmp_path: Path
):
    prune(model, cross_entropy, examples(), Prune(heads=0.5, feed_forward=0.7), 0)
    save_model(model, load_encoder(str(encoder))[1], tmp_path)
    plain = AutoModel.from_pretrained(tmp_path, add_pooling_layer=False).eval()
    expected = model.encoder.eval()(**BATCH).last_hidden_state
    assert torch.allclose(plain(**BATCH).last_hidden_state, expected, atol=1e-6)


def test_importance_is_what_a_small_change_of_a_part_does_to_the_loss(model: TaskModel):
    """Of one example and one unit: scale what it gives by 1 ± ε, and see how the loss moves."""
    layer = prunable(model.encoder)[1]
    batch = examples().batch([3], model.head.outcome, 0)
    parts = [(layer.mixing, layer.head_width), (layer.contracting, 1)]
    heads, units = importance(model, cross_entropy, iter([batch]), parts)

    def moved(module: nn.Module, columns: slice) -> float:
        losses = []
        for factor in (1 + 1e-2, 1 - 1e-2):
            scale = torch.ones(module.in_features)
            scale[columns] = factor
            handle = module.register_forward_pre_hook(lambda _, given, scale=scale: (given[0] * scale,))
            losses.append(cross_entropy(model.respond(batch), batch).item())
            handle.remove()
        return abs(losses[0] - losses[1]) / 2e-2

    width = layer.head_width
    by_hand = [moved(layer.mixing, slice(start, start + width)) for start in (0, width)]
    assert heads.tolist() == pytest.approx(by_hand, rel=0.02)
    assert units[5].item() == pytest.approx(moved(layer.contracting, slice(5, 6)), rel=0.05)


def test_of_two_texts_both_tell_what_matters(model: TaskModel):
    """A retrieval's questions and answers go through one encoder: what only one of them needs must count."""
    layer = prunable(model.encoder)[0]
    parts = [(layer.contracting, 1)]
    pair = Inputs(IDS[:2], answers=IDS[2:]).batch([0, 1], 0)

    def of_first(said: Tensor, _: object) -> Tensor:
        return said[:, 0]

    def of_last(said: Tensor, _: object) -> Tensor:
        return said[:, -1]

    def of_both(said: Tensor, _: object) -> Tensor:
        return said[:, 0] + said[:, -1]

    first, last, both = (importance(model, loss, iter([pair]), parts)[0] for loss in (of_first, of_last, of_both))
    assert first.sum() > 0
    assert last.sum() > 0
    assert not torch.allclose(both, last)


def test_parts_that_matter_alike_go_by_their_number_and_no_more_than_asked():
    assert most_important([torch.zeros(12)] * 3, 0.5, 1) == [list(range(12)), list(range(6)), [0]]


def test_all_layers_parts_are_ranked_together_but_each_keeps_one():
    scores = [torch.tensor([3.0, 4.0]), torch.tensor([0.6, 0.8]), torch.tensor([1.0, 0.0])]
    assert most_important(scores, 0.5, 1) == [[1], [1], [0]]
    assert most_important([torch.tensor([1.0, 1.0, 1.0]), torch.tensor([1.0, 0.0, 0.0])], 1 / 6, 1) == [[0], [0]]


def test_a_layer_keeps_a_multiple_of_units():
    scores = [torch.arange(32.0), torch.ones(5)]
    kept = most_important(scores, 0.2, 8)
    assert [len(places) % 8 for places in kept[:1]] == [0]
    assert kept[0] == list(range(32 - len(kept[0]), 32))
    assert kept[1] == list(range(5))


def test_nothing_goes_where_nothing_is_asked_to(model: TaskModel):
    prune(model, cross_entropy, examples(), Prune(feed_forward=0.5), 0)
    assert [layer.heads for layer in prunable(model.encoder)] == [2, 2, 2, 2]


def test_an_encoder_of_another_kind_is_refused():
    encoder = DistilBertModel(DistilBertConfig(vocab_size=60, dim=16, n_layers=2, n_heads=2, hidden_dim=32))
    with pytest.raises(UserError, match=r"student\.prune: can't prune a DistilBertModel; it can be bert, "):
        prunable(encoder)

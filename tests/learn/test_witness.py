from pathlib import Path

import pytest
import torch
from transformers import BertConfig, BertModel, DistilBertConfig, DistilBertModel, MPNetConfig, MPNetModel

from potstill.compress.cut import cut
from potstill.errors import UserError
from potstill.learn import terms
from potstill.learn.anatomy import layer_stack, projections
from potstill.learn.model import Head, TaskModel, load_encoder
from potstill.learn.static import StaticConfig, StaticEncoder
from potstill.learn.witness import InnerTerms, Witness
from potstill.outcomes import Classification
from tests.conftest import SPECIAL, WORDS

HEAD = Head("mood", Classification(("bad", "good")), "mean", 16)
IDS = torch.tensor([[2, 7, 8, 9, 3], [2, 9, 3, 0, 0]])
BATCH = {"input_ids": IDS, "attention_mask": (IDS != 0).long()}
ALL = ("hidden", "attention", "relation", "vector")


def bert(width: int = 32, layers: int = 2, heads: int = 2, seed: int = 1) -> BertModel:
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=50,
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=48,
        initializer_range=0.5,
    )
    return BertModel(config, add_pooling_layer=False)


def seen(student: TaskModel, teacher: TaskModel, names: tuple[str, ...], pairs: list[tuple[int, int]]):
    with torch.no_grad():
        vector = teacher.eval().pooling(teacher.encoder(**BATCH).last_hidden_state, BATCH["attention_mask"])
    inner = InnerTerms(student, teacher, pairs, names)
    student.eval().respond(BATCH)
    return inner({**BATCH, "vector": vector})


@pytest.fixture
def teacher(encoder: Path) -> TaskModel:
    return TaskModel(load_encoder(str(encoder))[0], HEAD)


def test_a_student_that_is_its_teacher_has_no_distance_from_it(teacher: TaskModel):
    whole = TaskModel(cut(teacher.encoder, 4), HEAD)
    found = seen(whole, teacher, ALL, [(i, i) for i in range(4)])
    assert set(found) == set(ALL)
    for value in found.values():
        assert value.tolist() == pytest.approx([0, 0], abs=1e-5)


def test_another_student_has_and_can_come_nearer(teacher: TaskModel):
    student = TaskModel(cut(teacher.encoder, [0, 3]), HEAD)
    with torch.no_grad():
        for weight in student.encoder.parameters():
            weight.add_(0.1 * torch.randn(weight.shape))
    inner = InnerTerms(student, teacher, [(0, 0), (1, 3)], ("hidden", "attention", "relation"))
    optimizer = torch.optim.Adam(student.parameters(), lr=1e-3)
    sums = []
    for _ in range(60):
        student.respond(BATCH)
        total = sum(value.mean() for value in inner(BATCH).values())
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        sums.append(total.item())
    assert 0 < sums[-1] < 0.7 * sums[0]
    assert all(weight.grad is None for weight in teacher.parameters())


def test_hidden_states_are_those_that_transformers_gives(teacher: TaskModel):
    student = TaskModel(cut(teacher.encoder, [0, 2]), HEAD)
    found = seen(student, teacher, ("hidden",), [(0, 0), (1, 2)])["hidden"]
    with torch.no_grad():
        own = student.encoder(**BATCH, output_hidden_states=True).hidden_states[1:]
        its = teacher.encoder(**BATCH, output_hidden_states=True).hidden_states[1:]
    mask = BATCH["attention_mask"]
    by_hand = (terms.hidden_distance(own[0], its[0], mask) + terms.hidden_distance(own[1], its[2], mask)) / 2
    assert found.tolist() == pytest.approx(by_hand.tolist(), abs=1e-6)


def test_attention_is_that_which_transformers_gives(teacher: TaskModel):
    student = TaskModel(cut(teacher.encoder, [0, 2]), HEAD)
    found = seen(student, teacher, ("attention",), [(0, 0), (1, 2)])["attention"]
    for model in (student, teacher):
        model.encoder.set_attn_implementation("eager")
    with torch.no_grad():
        own = student.encoder(**BATCH, output_attentions=True).attentions
        its = teacher.encoder(**BATCH, output_attentions=True).attentions
    mask = BATCH["attention_mask"]
    pairs = [(own[0], its[0]), (own[1], its[2])]
    each = [terms.attention_divergence(a.clamp(min=1e-12).log(), b.clamp(min=1e-12).log(), mask) for a, b in pairs]
    assert found.tolist() == pytest.approx((sum(each) / 2).tolist(), abs=1e-5)


def test_a_narrower_student_is_compared_through_projections_that_learn_along():
    student, wide = TaskModel(bert(32, heads=4), HEAD), TaskModel(bert(64, layers=4, heads=4, seed=2), HEAD)
    found = seen(student, wide, ALL, [(0, 1), (1, 3)])
    assert sorted(student.projections) == ["hidden_0", "hidden_1", "vector"]
    assert all(value.isfinite().all() and (value > 0).all() for value in found.values())
    found["hidden"].sum().backward()
    assert student.projections["hidden_1"].weight.grad.abs().sum() > 0


def test_other_numbers_of_heads_can_only_be_compared_by_relations():
    student, wide = TaskModel(bert(32, heads=2), HEAD), TaskModel(bert(64, heads=4, seed=2), HEAD)
    with pytest.raises(UserError, match="the student has 2 heads, the teacher 4; use relation"):
        InnerTerms(student, wide, [(1, 1)], ("attention",))
    assert seen(student, wide, ("relation",), [(1, 1)])["relation"].shape == (2,)


def test_vectors_alone_need_no_look_into_layers(teacher: TaskModel):
    strange = TaskModel(cut(teacher.encoder, 2), HEAD)
    strange.encoder.encoder.layer = torch.nn.Sequential(*strange.encoder.encoder.layer)
    assert Witness(strange, [])
    assert InnerTerms(strange, teacher, [(0, 0)], ("vector",))


@pytest.mark.parametrize(
    "made",
    [
        bert(16),
        DistilBertModel(DistilBertConfig(vocab_size=50, dim=16, n_layers=2, n_heads=2, hidden_dim=32)),
        MPNetModel(
            MPNetConfig(vocab_size=50, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32)
        ),
    ],
    ids=lambda made: type(made).__name__,
)
def test_layers_and_projections_of_common_architectures_are_found(made: torch.nn.Module):
    _, stack = layer_stack(made)
    assert len(stack) == 2
    assert [tuple(module.weight.shape) for module in projections(stack[1])] == [(16, 16)] * 3


def test_what_is_not_found_is_said():
    with pytest.raises(UserError, match="queries, keys and values of a Linear were not found"):
        projections(torch.nn.Linear(2, 2))
    with pytest.raises(UserError, match="can't look into a Linear"):
        layer_stack(torch.nn.Linear(2, 2))


def test_a_student_cut_after_another_was_compared_still_learns(teacher: TaskModel):
    InnerTerms(TaskModel(cut(teacher.encoder, 2), HEAD), teacher, [(0, 0), (1, 3)], ALL)
    later = cut(teacher.encoder, 2)
    assert all(weight.requires_grad for weight in later.parameters())
    assert not any(module._forward_hooks for module in later.modules())


def test_a_student_without_layers_is_compared_by_its_vector(teacher: TaskModel):
    student = TaskModel(StaticEncoder(StaticConfig(len(SPECIAL) + len(WORDS), 8)), HEAD)
    found = seen(student, teacher, ("vector",), [])
    assert list(student.projections) == ["vector"]
    assert found["vector"].isfinite().all()

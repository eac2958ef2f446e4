import math

import pytest
import torch
import torch.nn.functional as F

from potstill.learn import terms


def logits(*rows: tuple[float, ...]) -> torch.Tensor:
    return torch.tensor(rows)


def test_kl_matches_hand_computed_value_at_temperature_two():
    # Softened by 2: teacher softmax(ln 4, 0) = (4/5, 1/5), student uniform (1/2, 1/2).
    teacher, student = logits((2 * math.log(4), 0.0)), logits((1.0, 1.0))
    by_hand = 4 * (0.8 * math.log(0.8 / 0.5) + 0.2 * math.log(0.2 / 0.5))
    assert terms.kl_divergence(student, teacher, 2.0).item() == pytest.approx(by_hand, rel=1e-6)


def test_kl_is_zero_for_equal_logits_and_for_logits_shifted_by_a_constant():
    teacher = logits((1.0, -2.0, 0.5), (3.0, 0.0, 0.0))
    assert terms.kl_divergence(teacher, teacher, 3.0).tolist() == pytest.approx([0, 0], abs=1e-6)
    assert terms.kl_divergence(teacher + 7, teacher, 3.0).tolist() == pytest.approx([0, 0], abs=1e-5)


def test_kl_goes_from_teacher_to_student_not_back():
    teacher, student = logits((2.0, 0.0)), logits((0.0, 0.0))
    there, back = (terms.kl_divergence(*pair, 1.0).item() for pair in ((student, teacher), (teacher, student)))
    p = 1 / (1 + math.exp(-2))
    assert there == pytest.approx(p * math.log(2 * p) + (1 - p) * math.log(2 * (1 - p)), rel=1e-5)
    assert there != pytest.approx(back, rel=1e-2)


def test_kl_batch_mean_agrees_with_torch_batchmean_times_squared_temperature():
    torch.manual_seed(0)
    student, teacher = torch.randn(5, 7), torch.randn(5, 7)
    reference = 9 * F.kl_div(
        F.log_softmax(student / 3, 1), F.log_softmax(teacher / 3, 1), reduction="batchmean", log_target=True
    )
    assert terms.kl_divergence(student, teacher, 3.0).mean().item() == pytest.approx(reference.item(), rel=1e-5)


def test_gradient_size_hardly_depends_on_temperature_when_it_is_high():
    teacher = logits((1.0, 0.0, -1.0))
    norms = []
    for temperature in (20.0, 40.0):
        student = torch.zeros(1, 3, requires_grad=True)
        terms.kl_divergence(student, teacher, temperature).sum().backward()
        norms.append(student.grad.norm().item())
    assert norms[0] == pytest.approx(norms[1], rel=0.02)


def test_cross_entropy_is_minus_log_probability_of_the_label():
    student = logits((0.0, math.log(3)), (0.0, 0.0))
    found = terms.cross_entropy(student, torch.eye(2)[[1, 0]])
    assert found.tolist() == pytest.approx([-math.log(0.75), math.log(2)], rel=1e-6)


@pytest.mark.parametrize(("alpha", "expected"), [(0.0, "hard"), (1.0, "soft"), (0.25, "mixed")])
def test_distillation_weighs_both_views(alpha: float, expected: str):
    student, teacher, labels = logits((0.3, -0.1)), logits((2.0, 1.0)), torch.eye(2)[[1]]
    soft = terms.kl_divergence(student, teacher, 2.0)
    hard = terms.cross_entropy(student, labels)
    value = {"hard": hard, "soft": soft, "mixed": 0.25 * soft + 0.75 * hard}[expected]
    assert terms.distillation(student, teacher, labels, 2.0, alpha).tolist() == pytest.approx(value.tolist())


def test_every_term_returns_one_value_an_example():
    student, teacher, labels = torch.randn(6, 4), torch.randn(6, 4), torch.full((6, 4), 0.25)
    assert terms.kl_divergence(student, teacher, 2.0).shape == (6,)
    assert terms.cross_entropy(student, labels).shape == (6,)
    assert terms.distillation(student, teacher, labels, 2.0, 0.5).shape == (6,)


def test_cross_entropy_with_a_spread_target_matches_a_hand_computed_value():
    student, target = logits((0.0, math.log(3))), torch.tensor([[0.25, 0.75]])
    assert terms.cross_entropy(student, target).item() == pytest.approx(-0.25 * math.log(0.25) - 0.75 * math.log(0.75))

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from potstill.learn import terms
from potstill.learn.objective import class_weights, hard_loss, soft_loss
from potstill.metrics import Truth
from potstill.outcomes import Classification, Rate, Together
from potstill.recipe import Distill, Training

MOOD = Classification(("bad", "good", "fair"))
BOTH = Together((("mood", MOOD), ("sold", Rate())))


def batch(**more: object) -> dict[str, torch.Tensor]:
    labels = torch.tensor([0, 2, 1, 1])
    made = {"labels": labels.double(), "targets": F.one_hot(labels, 3).float(), "teacher": torch.randn(4, 3)}
    return made | {name: torch.as_tensor(value) for name, value in more.items()}


@pytest.fixture(autouse=True)
def _same_numbers():
    torch.manual_seed(0)


def test_the_loss_is_a_weighed_sum_of_its_terms():
    student, made = torch.randn(4, 3), batch()
    knobs = Distill(terms={"kl": 0.5, "mse": 2.0}, temperature=3.0, alpha=0.6)
    soft = 0.5 * terms.kl_divergence(student, made["teacher"], 3.0) + 2 * terms.logit_mse(student, made["teacher"])
    hard = F.cross_entropy(student, made["labels"].long(), reduction="none")
    assert torch.allclose(soft_loss(knobs, MOOD)(student, made), 0.6 * soft + 0.4 * hard, atol=1e-5)


@pytest.mark.parametrize(
    "term", ["kl", "soft_ce", "focal", "mse", "dist_between", "dist_within", "decoupled_target", "decoupled_others"]
)
def test_each_term_of_logits_teaches_a_student_its_teachers_answers(term: str):
    made = batch()
    student = torch.zeros(4, 3, requires_grad=True)
    optimizer = torch.optim.Adam([student], lr=0.1)
    loss = soft_loss(Distill(terms={term: 1.0}, alpha=1.0, temperature=1.0), MOOD)
    start = loss(student.detach() + 0.1 * torch.randn(4, 3), made).mean()
    for _ in range(300):
        optimizer.zero_grad()
        end = loss(student + 1e-3 * torch.randn(4, 3), made).mean()
        end.backward()
        optimizer.step()
    assert end.item() < start.item()
    least = loss(made["teacher"], made).mean().item()
    assert end.item() == pytest.approx(least, abs=0.02)


def test_standardised_students_may_be_of_any_scale():
    made = batch()
    loss = soft_loss(Distill(standardise=True, alpha=1.0), MOOD)
    assert loss(made["teacher"] * 4 + 1, made).tolist() == pytest.approx([0] * 4, abs=1e-5)


def test_knobs_follow_their_schedules_as_training_goes_on():
    student = torch.randn(4, 3)
    knobs = Distill.model_validate(
        {
            "alpha": 1.0,
            "temperature": 4.0,
            "terms": {"kl": 1.0, "mse": 0.0},
            "schedules": {"alpha": {"to": 0}, "temperature": {"to": 2}, "mse": {"to": 1, "form": "cosine"}},
        }
    )
    loss = soft_loss(knobs, MOOD)
    made = batch(progress=0.5)
    soft = terms.kl_divergence(student, made["teacher"], 3.0) + 0.5 * terms.logit_mse(student, made["teacher"])
    hard = F.cross_entropy(student, made["labels"].long(), reduction="none")
    assert torch.allclose(loss(student, made), 0.5 * soft + 0.5 * hard, atol=1e-5)
    assert torch.allclose(loss(student, batch(progress=1.0) | {"labels": made["labels"]}), hard, atol=1e-5)


def test_a_row_without_a_label_learns_from_the_teacher_alone():
    student, made = torch.randn(4, 3), batch()
    made["targets"][1], made["labels"][1] = 0, float("nan")
    knobs = Distill(alpha=0.25, temperature=2.0)
    found = soft_loss(knobs, MOOD)(student, made)
    assert found[1].item() == pytest.approx(
        0.25 * terms.kl_divergence(student, made["teacher"], 2.0)[1].item(), rel=1e-5
    )


def test_of_several_tasks_a_row_without_any_label_learns_all_and_one_with_some_by_the_knob():
    student, teacher = torch.randn(3, 5), torch.randn(3, 5)
    labels = torch.tensor([[0, float("nan")], [float("nan")] * 2, [1, 0.0]], dtype=torch.double)
    made = {"labels": labels, "teacher": teacher, "targets": torch.from_numpy(BOTH.targets(labels.numpy()))}
    mood, sold = (terms.kl_divergence(student[:, at], teacher[:, at], 2.0) for at in (slice(0, 3), slice(3, 5)))
    for knob in (0.0, 0.3):
        found = soft_loss(Distill(alpha=1.0, unlabelled=knob), BOTH)(student, made)
        expected = torch.stack([mood[0] + knob * sold[0], mood[1] + sold[1], mood[2] + sold[2]])
        assert torch.allclose(found, expected, atol=1e-5)


def test_balanced_classes_count_alike_and_rows_one_on_the_mean():
    truth = Truth(np.array([0.0, 0, 0, 1, 2, 2]))
    weights = class_weights(MOOD, truth)
    assert weights.tolist() == pytest.approx([6 / 9, 2, 1])
    assert weights[truth.values.astype(int)].mean().item() == pytest.approx(1)
    # Six rows, of which half bring nothing new to their class.
    assert class_weights(MOOD, Truth(np.array([0.0, 0, 1, np.nan]))).isfinite().all()
    both = class_weights(BOTH, Truth(np.array([[0.0, 1], [0, 0], [1, np.nan]])))
    assert both.tolist() == pytest.approx([0.75, 1.5, 1.5, 1, 1])


def test_class_weights_and_smoothing_reach_the_labels_of_classes_alone():
    student = torch.randn(2, 5)
    values = np.array([[2.0, 0.25], [0.0, np.nan]])
    made = {"labels": torch.from_numpy(values), "targets": torch.from_numpy(BOTH.targets(values))}
    weights = torch.tensor([1.0, 1.0, 4.0, 1.0, 1.0])
    found = hard_loss(Training(label_smoothing=0.1), BOTH, weights)(student, made)
    mood = F.cross_entropy(student[:, :3], torch.tensor([2, 0]), reduction="none", label_smoothing=0.1)
    sold = -(torch.tensor([0.75, 0.25]) * student[0, 3:].log_softmax(0)).sum()
    assert found.tolist() == pytest.approx([(4 * mood[0] + sold).item(), mood[1].item()], rel=1e-5)

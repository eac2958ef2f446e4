import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from potstill.learn import terms
from potstill.learn.objective import soft_loss, weighed
from potstill.outcomes import Rate
from potstill.recipe import Distill


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


def test_every_term_returns_one_value_an_example():
    student, teacher, labels = torch.randn(6, 4), torch.randn(6, 4), torch.full((6, 4), 0.25)
    assert terms.kl_divergence(student, teacher, 2.0).shape == (6,)
    assert terms.cross_entropy(student, labels).shape == (6,)
    scores, groups = torch.randn(2, 6), torch.tensor([4, 4, 9, 9, 9, 4])
    assert terms.listwise(scores[0], torch.rand(6), groups).shape == (6,)
    assert terms.listwise_kl(*scores, groups, 2.0).shape == (6,)
    assert terms.margin(*scores, groups).shape == (6,)


def test_cross_entropy_with_a_spread_target_matches_a_hand_computed_value():
    student, target = logits((0.0, math.log(3))), torch.tensor([[0.25, 0.75]])
    assert terms.cross_entropy(student, target).item() == pytest.approx(-0.25 * math.log(0.25) - 0.75 * math.log(0.75))


def test_with_a_focus_easy_examples_count_less_as_in_the_paper():
    student, target = logits((0.0, math.log(9)), (0.0, math.log(9))), torch.eye(2)[[1, 0]]
    # p = 0.9 for the label of the first row, 0.1 for that of the second: (1 − p)² · −log p.
    found = terms.cross_entropy(student, target, focus=2.0)
    assert found.tolist() == pytest.approx([0.01 * -math.log(0.9), 0.81 * -math.log(0.1)], rel=1e-5)


def test_listwise_is_the_cross_entropy_of_each_groups_softmax():
    scores = torch.tensor([math.log(2), 0.0, math.log(6), 0.0, 0.0])
    values, groups = torch.tensor([1.0, 0.0, 3.0, 1.0, 0.0]), torch.tensor([7, 7, 2, 2, 2])
    found = terms.listwise(scores, values, groups)
    # Group 7: softmax (2/3, 1/3), all value on the first; group 2: (6/8, 1/8, 1/8), shares (3/4, 1/4, 0).
    first, second = -math.log(2 / 3), -(0.75 * math.log(6 / 8) + 0.25 * math.log(1 / 8))
    assert found[:2].mean().item() == pytest.approx(first, rel=1e-5)
    assert found[2:].mean().item() == pytest.approx(second, rel=1e-5)


def test_a_group_without_a_yes_teaches_no_order():
    scores = torch.tensor([1.0, 2.0], requires_grad=True)
    loss = terms.listwise(scores, torch.zeros(2), torch.zeros(2, dtype=torch.int64)).sum()
    loss.backward()
    assert loss.item() == 0
    assert scores.grad is not None
    assert scores.grad.tolist() == [0, 0]


def test_listwise_kl_is_that_of_each_groups_softmax_and_blind_to_a_shift_of_a_group():
    torch.manual_seed(1)
    student, teacher, groups = torch.randn(5), torch.randn(5), torch.tensor([0, 1, 0, 1, 1])
    found = terms.listwise_kl(student, teacher, groups, 2.0)
    for group in (0, 1):
        rows = groups == group
        expected = terms.kl_divergence(student[rows][None], teacher[rows][None], 2.0)
        assert found[rows].mean().item() == pytest.approx(expected.item(), rel=1e-4)
    shifted = teacher + torch.tensor([5.0, -3.0])[groups]
    assert torch.allclose(terms.listwise_kl(student, shifted, groups, 2.0), found, atol=1e-5)


def test_margin_is_the_mean_over_all_pairs_of_a_group():
    student, teacher = torch.tensor([1.0, 4.0, 2.0, 9.0]), torch.tensor([0.0, 1.0, 5.0, 3.0])
    groups = torch.tensor([3, 3, 3, 8])
    by_hand = [
        sum(((student[i] - student[j]) - (teacher[i] - teacher[j])) ** 2 for j in range(3)).item() / 3 for i in range(3)
    ]
    found = terms.margin(student, teacher, groups)
    assert found.tolist() == pytest.approx([*by_hand, 0.0])


def test_weights_that_differ_within_a_group_do_not_turn_its_order():
    knobs = Distill(listwise=1.0, alpha=0.5, temperature=1.0, margin=0.1)
    teacher = torch.tensor([0.3, 1.2, -0.4])
    batch = {
        "weights": torch.tensor([1.8, 0.2, 1.0]),
        "groups": torch.tensor([4, 4, 4]),
        "labels": teacher.softmax(0).double(),
        "targets": torch.tensor([[0.9, 0.1]] * 3),
        "teacher": torch.stack([torch.zeros(3), teacher], dim=1),
    }
    scores = teacher.clone().requires_grad_(True)
    loss = soft_loss(knobs, Rate(grouped=True))(torch.stack([torch.zeros(3), scores], dim=1), batch)
    loss.sum().backward()
    # Where the student ranks as teacher and labels do, nothing pulls it away.
    assert scores.grad is not None
    assert scores.grad.abs().max() < 1e-5


def test_a_group_counts_by_the_mean_weight_of_its_rows():
    values, groups = torch.tensor([1.0, 3.0, 5.0]), torch.tensor([2, 2, 7])
    assert terms.group_mean(values, groups).tolist() == [2.0, 2.0, 5.0]
    batch = {"weights": values, "groups": groups}
    assert weighed(torch.ones(3), batch).tolist() == [1.0, 3.0, 5.0]
    assert weighed(torch.ones(3), batch, whole_groups=True).tolist() == [2.0, 2.0, 5.0]
    assert weighed(torch.ones(3), {}).tolist() == [1.0] * 3


def test_likeness_is_the_cosine_over_tau_and_leaves_out_the_same_answer_of_another_row():
    texts, answers = (F.normalize(torch.randn(4, 8), dim=1) for _ in range(2))
    found = terms.likeness(torch.cat([texts, answers], dim=1), torch.tensor([0.0, 1.0, 0.0, 2.0]), 0.1)
    expected = torch.nn.CosineSimilarity(dim=2)(texts[:, None], answers[None]) / 0.1
    out = torch.tensor([[0, 0, 1, 0], [0, 0, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0]], dtype=torch.bool)
    assert torch.allclose(found[~out], expected[~out], atol=1e-5)
    assert (found.softmax(dim=1)[out] == 0).all()


def test_alignment_is_zero_on_the_teachers_vectors_and_grows_with_the_angle():
    east, north = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
    teacher = torch.cat([east, north])[None]
    for student, expected in (((east, north), 0), ((north, north), 1), ((-east, north), 2), ((-east, -north), 4)):
        assert terms.alignment(torch.cat(student)[None], teacher).tolist() == [expected]


def test_soft_cross_entropy_is_the_divergence_and_the_teachers_own_entropy():
    student, teacher = torch.randn(5, 4), torch.randn(5, 4)
    shares = (teacher / 3).softmax(1)
    entropy = 9 * -(shares * shares.log()).sum(1)
    expected = terms.kl_divergence(student, teacher, 3.0) + entropy
    assert torch.allclose(terms.soft_cross_entropy(student, teacher, 3.0), expected, atol=1e-5)


def test_smoothing_and_class_weights_are_those_of_pytorch():
    student, labels = torch.randn(6, 4), torch.tensor([0, 1, 2, 3, 3, 1])
    targets, weights = F.one_hot(labels, 4).float(), torch.tensor([1.0, 0.5, 2.0, 3.0])
    expected = F.cross_entropy(student, labels, reduction="none", label_smoothing=0.2)
    assert torch.allclose(terms.cross_entropy(student, targets, smoothing=0.2), expected, atol=1e-6)
    expected = F.cross_entropy(student, labels, weights, reduction="none")
    assert torch.allclose(terms.cross_entropy(student, targets, class_weights=weights), expected, atol=1e-6)


@pytest.mark.parametrize("knobs", [{}, {"focus": 2.0}, {"smoothing": 0.1}, {"class_weights": torch.ones(3)}])
def test_a_row_without_a_label_says_nothing(knobs: dict[str, object]):
    assert terms.cross_entropy(torch.randn(2, 3), torch.zeros(2, 3), **knobs).tolist() == [0, 0]


def test_standardised_logits_forget_shift_and_scale_but_not_proportion():
    student = torch.tensor([[1.0, 2.0, 4.0], [0.0, 0.0, 3.0]])
    found = terms.standardise(student)
    assert torch.allclose(found.mean(1), torch.zeros(2), atol=1e-6)
    assert torch.allclose(found.pow(2).mean(1), torch.ones(2), atol=1e-5)
    assert torch.allclose(terms.standardise(5 * student - 7), found, atol=1e-5)
    assert terms.standardise(torch.zeros(1, 3)).isfinite().all()


def test_focal_kl_matches_a_hand_computed_value_and_forgets_what_is_learnt():
    # As above: KL of (1/2, 1/2) from (4/5, 1/5).
    teacher, student = logits((2 * math.log(4), 0.0)), logits((1.0, 1.0))
    divergence = 0.8 * math.log(0.8 / 0.5) + 0.2 * math.log(0.2 / 0.5)
    by_hand = (1 - math.exp(-divergence)) ** 2 * 4 * divergence
    assert terms.focal_kl(student, teacher, 2.0).item() == pytest.approx(by_hand, rel=1e-5)
    assert terms.focal_kl(teacher, teacher, 2.0).item() == pytest.approx(0, abs=1e-6)


def test_logit_mse_is_that_of_centred_logits():
    # Centred (−1, 1) against (−2, 2): squares 1 and 1.
    assert terms.logit_mse(logits((0.0, 2.0)), logits((10.0, 14.0))).item() == pytest.approx(1.0)


def test_dist_compares_correlations_between_and_within_classes():
    student, teacher = torch.randn(6, 4), torch.randn(6, 4)
    one, other = (each.div(2).softmax(1).numpy() for each in (student, teacher))
    rows = [4 * (1 - np.corrcoef(one[i], other[i])[0, 1]) for i in range(6)]
    assert terms.dist_between(student, teacher, 2.0).tolist() == pytest.approx(rows, abs=1e-4)
    classes = np.mean([4 * (1 - np.corrcoef(one[:, k], other[:, k])[0, 1]) for k in range(4)])
    assert terms.dist_within(student, teacher, 2.0).tolist() == pytest.approx([classes] * 6, abs=1e-4)


def test_decoupled_terms_add_up_to_the_divergence_as_their_paper_says():
    student, teacher = torch.randn(5, 4), torch.randn(5, 4)
    targets = F.one_hot(torch.tensor([0, 3, 1, 2, 2]), 4).float()
    right = (teacher / 2).softmax(1)[targets > 0]
    target = terms.decoupled_target(student, teacher, targets, 2.0)
    others = terms.decoupled_others(student, teacher, targets, 2.0)
    assert torch.allclose(target + (1 - right) * others, terms.kl_divergence(student, teacher, 2.0), atol=1e-4)


def test_decoupled_terms_matched_by_hand():
    # Teacher (1/2, 1/3, 1/6), student (1/2, 1/4, 1/4). The first is right; the others are (2/3, 1/3) and (1/2, 1/2).
    teacher, student = logits((1 / 2, 1 / 3, 1 / 6)).log(), logits((1 / 2, 1 / 4, 1 / 4)).log()
    targets = logits((1.0, 0.0, 0.0))
    assert terms.decoupled_target(student, teacher, targets, 1.0).item() == pytest.approx(0, abs=1e-6)
    by_hand = 2 / 3 * math.log(4 / 3) + 1 / 3 * math.log(2 / 3)
    assert terms.decoupled_others(student, teacher, targets, 1.0).item() == pytest.approx(by_hand, abs=1e-6)
    unlabelled = torch.zeros(1, 3)
    assert terms.decoupled_target(student, teacher, unlabelled, 1.0).item() == 0
    assert terms.decoupled_others(student, teacher, unlabelled, 1.0).item() == 0


def test_vectors_are_compared_by_their_angle():
    east, north = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 5.0]])
    found = [terms.vector_distance(student, east).item() for student in (3 * east, north, -east)]
    assert found == pytest.approx([0, 1, 2])


def test_hidden_states_of_padding_do_not_count():
    student = torch.tensor([[[1.0, 1.0], [3.0, 1.0], [9.0, 9.0]]])
    # Squares 0 and 4, over two dimensions; the third token is padding.
    assert terms.hidden_distance(student, torch.ones(1, 3, 2), torch.tensor([[1, 1, 0]])).item() == pytest.approx(1.0)


def test_attention_to_padding_does_not_count():
    mask = torch.tensor([[1, 1, 0]])
    student, teacher = torch.zeros(1, 1, 3, 3), torch.zeros(1, 1, 3, 3)
    teacher[0, 0, 0, 0] = math.log(4)
    teacher[..., 2] = 50.0
    student[0, 0, 2] = torch.tensor([9.0, -9.0, 3.0])
    # The first of two real tokens: (4/5, 1/5) from (1/2, 1/2); the second agrees.
    by_hand = (0.8 * math.log(0.8 / 0.5) + 0.2 * math.log(0.2 / 0.5)) / 2
    assert terms.attention_divergence(student, teacher, mask).item() == pytest.approx(by_hand, rel=1e-5)


def test_relations_are_scaled_products_within_each_head():
    states = torch.randn(2, 5, 12)
    found = terms.relations(states, 3)
    assert found.shape == (2, 3, 5, 5)
    part = states[1, :, 4:8]
    assert torch.allclose(found[1, 1], part @ part.T / 2, atol=1e-5)

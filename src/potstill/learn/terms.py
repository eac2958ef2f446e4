"""Terms of the loss: pure functions on tensors of a batch that return one value an example.

What compares rows within a group takes scores `[batch]`, the log-odds of yes, and the number of each row's group.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

# A score that gets no share of a softmax, yet leaves differences finite.
LEFT_OUT = -1e4
# Keeps a division by nothing finite.
TINY = 1e-6


def cross_entropy(
    student: Tensor,
    targets: Tensor,
    focus: float = 0.0,
    smoothing: float = 0.0,
    class_weights: Tensor | None = None,
) -> Tensor:
    """−Σ target · (1 − p)^focus · log p, in nats, `[batch]`; a row of zeros, one without a label, gives 0.

    Args:
        student: logits `[batch, outcomes]`.
        targets: shares `[batch, outcomes]`.
        focus: above 0, easy examples, such as the many without a click, count less (focal loss: Lin et al. 2017).
        smoothing: share of a label that is spread evenly over all outcomes (Szegedy et al. 2016, section 7).
        class_weights: how much each outcome counts `[outcomes]`.
    """
    found = F.log_softmax(student, dim=-1)
    total = targets.sum(dim=-1, keepdim=True)
    meant = (1 - smoothing) * targets + smoothing * total / targets.shape[-1] if smoothing else targets
    weight = meant * (1 - found.exp()).clamp(min=0) ** focus if focus else meant
    each = -(weight * found).sum(dim=-1)
    return each if class_weights is None else each * (targets @ class_weights)


def standardise(logits: Tensor) -> Tensor:
    """Logits `[batch, outcomes]` with mean 0 and deviation 1 in each row (Sun et al. 2024, logit standardisation).

    A small student then needn't reach the teacher's scale, only its proportions.
    """
    centred = logits - logits.mean(dim=-1, keepdim=True)
    return centred / centred.pow(2).mean(dim=-1, keepdim=True).sqrt().clamp(min=TINY)


def kl_divergence(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """T² · KL(teacher ‖ student) of the softened distributions, in nats, `[batch]`.

    The factor T² keeps the gradient's size when T changes (Hinton et al. 2015, section 2.1).

    Args:
        student: logits `[batch, outcomes]`.
        teacher: logits `[batch, outcomes]`.
        temperature: divides both.
    """
    target = F.log_softmax(teacher / temperature, dim=-1)
    found = F.log_softmax(student / temperature, dim=-1)
    return temperature**2 * (target.exp() * (target - found)).sum(dim=-1)


def soft_cross_entropy(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """−T² · Σ teacher · log student of the softened distributions, in nats, `[batch]`.

    Its gradient is that of `kl_divergence`; the value has the teacher's own entropy on top (Hinton et al. 2015).
    """
    target = F.softmax(teacher / temperature, dim=-1)
    return -(temperature**2) * (target * F.log_softmax(student / temperature, dim=-1)).sum(dim=-1)


def focal_kl(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """(1 − e^−KL)² · T² · KL, `[batch]`: what the student already imitates counts less (Tang et al. 2019, ADL).

    KL is that of the softened distributions, as in `kl_divergence`.
    """
    divergence = kl_divergence(student, teacher, temperature)
    return (1 - torch.exp(-divergence / temperature**2)) ** 2 * divergence


def logit_mse(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean squared difference of centred logits `[batch]` (Ba & Caruana 2014; Kim et al. 2021).

    Logits are centred, for a shift of all of them changes no probability.
    """
    apart = (student - student.mean(dim=-1, keepdim=True)) - (teacher - teacher.mean(dim=-1, keepdim=True))
    return apart.pow(2).mean(dim=-1)


def dist_between(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """T² · (1 − Pearson's correlation of a row's softened distributions), `[batch]` (DIST: Huang et al. 2022).

    That is their inter-class relation: a student may be surer or less sure, if its classes keep their proportions.
    """
    return temperature**2 * _uncorrelated(F.softmax(student / temperature, -1), F.softmax(teacher / temperature, -1))


def dist_within(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """T² · (1 − Pearson's correlation of an outcome over the batch), the mean of all outcomes, in each place `[batch]`.

    DIST's intra-class relation: which rows of a batch are more of a class than others. It is one figure a batch.
    """
    found, target = F.softmax(student / temperature, -1).T, F.softmax(teacher / temperature, -1).T
    return (temperature**2 * _uncorrelated(found, target).mean()).expand(len(student))


def _uncorrelated(found: Tensor, target: Tensor) -> Tensor:
    """1 − Pearson's correlation of each row `[rows]`."""
    one, other = (each - each.mean(dim=-1, keepdim=True) for each in (found, target))
    return 1 - F.cosine_similarity(one, other, dim=-1, eps=TINY)


def decoupled_target(student: Tensor, teacher: Tensor, targets: Tensor, temperature: float) -> Tensor:
    """T² · KL of (right class, all others), in nats, `[batch]`: how hard the teacher finds a row (Zhao et al. 2022).

    Together with (1 − teacher's share of the right class) · `decoupled_others` it is `kl_divergence`. A row without a
    label has no right class, and gives 0.

    Args:
        student: logits `[batch, outcomes]`.
        teacher: logits `[batch, outcomes]`.
        targets: 1 at the right class, 0 elsewhere `[batch, outcomes]`.
        temperature: divides both.
    """
    right = targets > 0
    pairs = [_one_against_others(logits / temperature, right) for logits in (student, teacher)]
    return kl_divergence(pairs[0], pairs[1], 1.0) * temperature**2 * right.any(dim=-1)


def decoupled_others(student: Tensor, teacher: Tensor, targets: Tensor, temperature: float) -> Tensor:
    """T² · KL among the wrong classes alone, in nats, `[batch]`: what a row is mistaken for (Zhao et al. 2022).

    Arguments are those of `decoupled_target`.
    """
    right = targets > 0
    student, teacher = (logits.masked_fill(right, LEFT_OUT) for logits in (student, teacher))
    return kl_divergence(student, teacher, temperature) * right.any(dim=-1)


def _one_against_others(logits: Tensor, right: Tensor) -> Tensor:
    """Log-weights `[batch, 2]` of the right class and of all others together."""
    own = logits.masked_fill(~right, LEFT_OUT).logsumexp(dim=-1)
    return torch.stack([own, logits.masked_fill(right, LEFT_OUT).logsumexp(dim=-1)], dim=-1)


def likeness(vectors: Tensor, answers: Tensor, tau: float) -> Tensor:
    """Scores `[batch, batch]` of each text (row) with each answer of the batch (column): their cosine over tau.

    The other rows' answers serve as wrong ones (Henderson et al. 2017, section 4.4); those that are the same as a
    row's own can't be told from it and are left out.

    Args:
        vectors: of texts and answers side by side, each of length 1 `[batch, 2 · width]`.
        answers: number of each row's answer `[batch]`.
        tau: the temperature.
    """
    asked, told = vectors.chunk(2, dim=1)
    again = (answers[:, None] == answers[None]) & ~torch.eye(len(answers), dtype=torch.bool, device=vectors.device)
    return (asked @ told.T / tau).masked_fill(again, LEFT_OUT)


def alignment(vectors: Tensor, teacher: Tensor) -> Tensor:
    """How far a text's and its answer's vectors are from the teacher's: 1 − cosine, the sum of both, `[batch]`.

    A teacher's vector says more of a text than its likeness to the few others of a batch (Reimers & Gurevych 2020).

    Args:
        vectors: of texts and answers side by side, each of length 1 `[batch, 2 · width]`.
        teacher: likewise.
    """
    return 2 - (vectors * teacher).sum(dim=1)


def log_odds(logits: Tensor) -> Tensor:
    """Log-odds of yes `[batch]` from logits `[batch, 2]`."""
    return logits[:, 1] - logits[:, 0]


def listwise(scores: Tensor, values: Tensor, groups: Tensor) -> Tensor:
    """Cross-entropy of the softmax over each group with the rows' shares of its values (ListNet: Cao et al. 2007).

    Args:
        scores: `[batch]`.
        values: not below zero `[batch]`; a group of zeros teaches nothing.
        groups: number of each row's group `[batch]`.

    Returns:
        Each row's part, times the size of its group `[batch]`: the mean over a batch is that over its groups, each
        as often as it has rows.
    """
    place, sizes = _places(groups)
    total = scores.new_zeros(len(sizes)).index_add(0, place, values.to(scores.dtype))
    target = values / total.clamp(min=torch.finfo(torch.float32).tiny)[place]
    return -target * _log_softmax(scores, place, len(sizes)) * sizes[place]


def listwise_kl(student: Tensor, teacher: Tensor, groups: Tensor, temperature: float) -> Tensor:
    """T² · KL(teacher ‖ student) of the softmax over each group, `[batch]` as `listwise` gives it.

    Args:
        student: scores `[batch]`.
        teacher: scores `[batch]`.
        groups: number of each row's group `[batch]`.
        temperature: divides both.
    """
    place, sizes = _places(groups)
    target = _log_softmax(teacher / temperature, place, len(sizes))
    found = _log_softmax(student / temperature, place, len(sizes))
    return temperature**2 * target.exp() * (target - found) * sizes[place]


def margin(student: Tensor, teacher: Tensor, groups: Tensor) -> Tensor:
    """Mean squared difference of a row's margins over its group's rows, student against teacher `[batch]`.

    Margin-MSE (Hofstätter et al. 2020) over all pairs of a group: scales may differ between groups, distances not.
    """
    difference = student - teacher
    mean, square = group_mean(difference, groups), group_mean(difference**2, groups)
    # The mean over j of (dᵢ − dⱼ)² is dᵢ² − 2 dᵢ · mean(d) + mean(d²).
    return difference**2 - 2 * difference * mean + square


def group_mean(values: Tensor, groups: Tensor) -> Tensor:
    """The mean of each row's group `[batch]`, of values `[batch]`."""
    place, sizes = _places(groups)
    mean = values.new_zeros(len(sizes)).index_add(0, place, values) / sizes
    return mean[place]


def _places(groups: Tensor) -> tuple[Tensor, Tensor]:
    """Number of each row's group within the batch, from 0 `[batch]`, and the groups' sizes."""
    _, place, sizes = torch.unique(groups, return_inverse=True, return_counts=True)
    return place, sizes.float()


def _log_softmax(scores: Tensor, place: Tensor, groups: int) -> Tensor:
    """Logarithms of the softmax over each group `[batch]`."""
    highest = scores.new_full((groups,), -torch.inf).scatter_reduce(0, place, scores.detach(), "amax")
    shifted = scores - highest[place]
    total = scores.new_zeros(groups).index_add(0, place, shifted.exp())
    return shifted - total.log()[place]


def vector_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """1 − cosine of pooled vectors `[batch, width]`, `[batch]` (Sanh et al. 2019 compare states so)."""
    return 1 - F.cosine_similarity(student, teacher, dim=-1)


def hidden_distance(student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
    """Mean squared difference of hidden states over a text's tokens, `[batch]` (TinyBERT: Jiao et al. 2020, eq. 9).

    Args:
        student: states, projected if they were narrower `[batch, tokens, width]`.
        teacher: states `[batch, tokens, width]`.
        mask: 1 at real tokens `[batch, tokens]`.
    """
    return _token_mean((student - teacher).pow(2).mean(dim=-1), mask)


def attention_divergence(student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
    """KL(teacher ‖ student) of attention, mean of heads and real tokens, `[batch]` (MiniLM: Wang et al. 2020, eq. 6).

    Args:
        student: scores before the softmax `[batch, heads, tokens, tokens]`.
        teacher: likewise.
        mask: 1 at real tokens `[batch, tokens]`.
    """
    hidden = (mask == 0)[:, None, None]
    found, target = (F.log_softmax(scores.masked_fill(hidden, LEFT_OUT), dim=-1) for scores in (student, teacher))
    return _token_mean((target.exp() * (target - found)).sum(dim=-1).mean(dim=1), mask)


def relations(states: Tensor, heads: int) -> Tensor:
    """Scaled dot products of a layer's queries, keys or values with each other `[batch, heads, tokens, tokens]`.

    MiniLMv2 (Wang et al. 2021, section 3.1): divided into relation heads, which needn't be the attention's, so that
    teacher and student may differ in heads and width.

    Args:
        states: `[batch, tokens, width]`.
        heads: that divide the width.
    """
    parts = by_heads(states, heads)
    return parts @ parts.transpose(-1, -2) / math.sqrt(parts.shape[-1])


def by_heads(states: Tensor, heads: int) -> Tensor:
    """States `[batch, tokens, width]` as each head has them `[batch, heads, tokens, width / heads]`."""
    batch, tokens, _ = states.shape
    return states.reshape(batch, tokens, heads, -1).transpose(1, 2)


def _token_mean(values: Tensor, mask: Tensor) -> Tensor:
    """The mean over real tokens `[batch]` of values `[batch, tokens]`."""
    return (values * mask).sum(dim=-1) / mask.sum(dim=-1)

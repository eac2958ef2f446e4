"""Terms of the loss: pure functions on tensors of a batch that return one value an example.

What compares rows within a group takes scores `[batch]`, the log-odds of yes, and the number of each row's group.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

# A score that gets no share of a softmax, yet leaves differences finite.
LEFT_OUT = -1e4


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


def cross_entropy(student: Tensor, targets: Tensor, focus: float = 0.0) -> Tensor:
    """−Σ target · (1 − p)^focus · log p, in nats, `[batch]`, from logits and targets, both `[batch, outcomes]`.

    A focus above 0 lets easy examples, such as the many without a click, count less (focal loss: Lin et al. 2017).
    """
    found = F.log_softmax(student, dim=-1)
    weight = targets * (1 - found.exp()).clamp(min=0) ** focus if focus else targets
    return -(weight * found).sum(dim=-1)


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

"""Terms of the loss: pure functions on `[batch, outcomes]` tensors that return one value an example."""

import torch.nn.functional as F
from torch import Tensor


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


def cross_entropy(student: Tensor, targets: Tensor) -> Tensor:
    """−Σ target · log p, in nats, `[batch]`, from logits and target distributions, both `[batch, outcomes]`."""
    return -(targets * F.log_softmax(student, dim=-1)).sum(dim=-1)


def distillation(student: Tensor, teacher: Tensor, targets: Tensor, temperature: float, alpha: float) -> Tensor:
    """α · T² · KL + (1 − α) · CE, one value an example `[batch]` (Hinton et al. 2015)."""
    soft = kl_divergence(student, teacher, temperature)
    return alpha * soft + (1 - alpha) * cross_entropy(student, targets)

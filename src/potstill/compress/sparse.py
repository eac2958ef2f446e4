"""Sparse: the smallest weights become zero. The file is as large and as fast as before, but packs smaller."""

import torch
from torch import nn
from torch.nn.utils import prune


def sparsify(encoder: nn.Module, share: float) -> None:
    """Set the smallest weights of all linear layers to zero, in place; layers are ranked together (Han et al. 2015).

    Args:
        encoder: whose embeddings, biases and norms stay as they are; a static one has nothing else.
        share: of these weights that become zero.
    """
    layers = [(module, "weight") for module in encoder.modules() if isinstance(module, nn.Linear)]
    if not layers:
        return
    prune.global_unstructured(layers, prune.L1Unstructured, amount=share)
    for module, name in layers:
        prune.remove(module, name)  # type: ignore[no-untyped-call]


def sparsity(encoder: nn.Module) -> float:
    """Share of the linear layers' weights that are zero."""
    weights = [module.weight for module in encoder.modules() if isinstance(module, nn.Linear)]
    zeros = sum(int(torch.count_nonzero(weight == 0)) for weight in weights)
    return zeros / max(sum(weight.numel() for weight in weights), 1)

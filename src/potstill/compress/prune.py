"""Prune: attention heads and feed-forward units that the task hardly uses are taken out, and the graph truly shrinks.

How much each matters is the first-order change of the loss without it, |activation · gradient|, summed over examples:
for heads Michel et al. 2019, for units Molchanov et al. 2017, who also bring each layer's scores to length 1, so that
those of all layers can be ranked together.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from potstill.learn.model import TaskModel
from potstill.learn.pruned import PRUNED, prunable
from potstill.learn.student import Further
from potstill.learn.trainer import Examples, Loss, Units
from potstill.recipe import Prune, Training

# Enough to rank by.
SCORED_ROWS = 2048
BATCH_ROWS = 32
# What a layer keeps of its units is a multiple of this, which vector instructions like.
UNITS_TOGETHER = 8


def pruning(
    form: Prune, knobs: Training, matters: Loss, pad_token_id: int, loss_of: Callable[[TaskModel], Loss]
) -> Further:
    """Prune a student that has learnt, and let it learn once more.

    Args:
        form: what goes.
        knobs: of the training that follows.
        matters: the loss that tells what a part is worth.
        pad_token_id: fills the short rows of a batch.
        loss_of: the loss of that training, for the pruned student.
    """

    def make(student: TaskModel, examples: Examples) -> tuple[TaskModel, Loss]:
        prune(student, matters, examples, form, pad_token_id, knobs.compares_rows)
        return student, loss_of(student)

    return Further("prune", knobs, make)


def prune(
    model: TaskModel, loss: Loss, examples: Examples, form: Prune, pad_token_id: int, whole_groups: bool = False
) -> None:
    """Take the least important heads and units out of a model, in place; each layer keeps one head and some units.

    Args:
        model: has learnt the task.
        loss: one value an example.
        examples: some of these tell what matters.
        form: which share of all heads, and of all units, goes.
        pad_token_id: fills the short rows of a batch.
        whole_groups: whether the loss compares the rows of a group.

    Raises:
        UserError: the encoder is of a kind that can't be pruned.
    """
    layers = prunable(model.encoder)
    parts = [part for layer in layers for part in ((layer.mixing, layer.head_width), (layer.contracting, 1))]
    scores = importance(model, loss, _batches(examples, model, pad_token_id, whole_groups), parts)
    heads = most_important(scores[0::2], 1 - form.heads, together=1)
    units = most_important(scores[1::2], 1 - form.feed_forward, together=UNITS_TOGETHER)
    for layer, kept_heads, kept_units in zip(layers, heads, units, strict=True):
        layer.keep(kept_heads, kept_units)
    setattr(model.encoder.config, PRUNED, True)
    for name, kept, all_ in (("attention heads", heads, scores[0::2]), ("feed-forward units", units, scores[1::2])):
        print(f"pruned: {sum(map(len, kept)):,} of {sum(map(len, all_)):,} {name} are left")


def importance(
    model: TaskModel, loss: Loss, batches: Iterator[Mapping[str, Tensor]], parts: Sequence[tuple[nn.Module, int]]
) -> list[Tensor]:
    """How much each part of what some modules take in matters to the loss, in each module's order.

    Args:
        model: holds the modules.
        loss: one value an example.
        batches: of examples.
        parts: modules, and how many of their inputs' columns are one part: a head's width, or 1 for a unit.
    """
    totals: dict[nn.Module, Tensor] = {}
    # A model that compares two texts runs twice a batch.
    taken: dict[nn.Module, list[Tensor]] = {module: [] for module, _ in parts}

    def keep(module: nn.Module, given: tuple[Tensor, ...]) -> None:
        given[0].retain_grad()
        taken[module].append(given[0])

    handles = [module.register_forward_pre_hook(keep) for module, _ in parts]
    model.eval()
    try:
        for batch in batches:
            loss(model.respond(batch), batch).sum().backward()  # type: ignore[no-untyped-call]
            for module, width in parts:
                change = torch.stack([_change(states, width) for states in taken[module]]).sum(dim=0)
                totals[module] = totals.get(module, 0) + change.abs().sum(dim=0)
                taken[module].clear()
            model.zero_grad()
    finally:
        for handle in handles:
            handle.remove()
    return [totals[module] for module, _ in parts]


def _change(states: Tensor, width: int) -> Tensor:
    """First-order change of each example's loss without a part `[batch, parts]`, of states that have a gradient."""
    assert states.grad is not None  # noqa: S101 - it was asked to be retained
    return (states.detach() * states.grad).sum(dim=1).reshape(len(states), -1, width).sum(dim=-1)


def most_important(scores: Sequence[Tensor], share: float, together: int) -> list[list[int]]:
    """Places of the parts that stay, in order, a list for each layer: the best of all layers, ranked together.

    Args:
        scores: of each layer's parts `[parts]`; each layer's are brought to length 1 first.
        share: of all parts that stay.
        together: each layer keeps a multiple of so many, one of them at least, or all that it has.
    """
    alike = [score / score.norm().clamp(min=torch.finfo().tiny) for score in scores]
    ranked = torch.cat(alike)
    best = torch.zeros(len(ranked), dtype=torch.bool)
    best[ranked.argsort(descending=True, stable=True)[: round(share * len(ranked))]] = True
    kept = []
    for score, chosen in zip(alike, torch.split(best, [len(score) for score in alike]), strict=True):
        wanted = max(int(chosen.sum()), 1)
        count = min(-(-wanted // together) * together, len(score))
        kept.append(sorted(score.argsort(descending=True, stable=True)[:count].tolist()))
    return kept


def _batches(
    examples: Examples, model: TaskModel, pad_token_id: int, whole_groups: bool
) -> Iterator[Mapping[str, Tensor]]:
    """Evenly spread examples."""
    units = Units(examples, whole_groups)
    size = units.in_a_batch(BATCH_ROWS)
    chosen = np.linspace(0, len(units) - 1, min(len(units), SCORED_ROWS // BATCH_ROWS * size)).astype(int).tolist()
    for start in range(0, len(chosen), size):
        rows = [row for unit in chosen[start : start + size] for row in units[unit]["rows"]]
        yield examples.batch(rows, model.head.outcome, pad_token_id)

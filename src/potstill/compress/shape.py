"""Shape: the student's form, before it learns."""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import nn

from potstill.compress.cut import cut, kept
from potstill.compress.embed import embed
from potstill.compress.narrow import narrow
from potstill.data.dataset import Rows
from potstill.learn.anatomy import layer_stack, spread
from potstill.learn.model import Head, TaskModel, encode, load_encoder
from potstill.learn.trainer import Examples, Loss, Views, train
from potstill.metrics import better, primary
from potstill.recipe import Student, Training

# Enough to tell choices of layers apart.
TRIED_ROWS = 3200


@dataclass(frozen=True)
class Shaped:
    """An untrained student.

    Attributes:
        encoder: its encoder.
        tokenizer: its tokenizer.
        layers: which of the other encoder's layers its own came from; none, if it has other layers, or none.
    """

    encoder: nn.Module
    tokenizer: Any
    layers: list[int]


def shape(form: Student, encoder: nn.Module, tokenizer: Any, texts: Sequence[str], pooling: str) -> Shaped:
    """A student of the recipe's form, made of an encoder: the teacher's or, for a control, the public one.

    Args:
        form: of the recipe.
        encoder: stays as it is.
        tokenizer: of the encoder.
        texts: of the task.
        pooling: how token vectors become one.

    Raises:
        UserError: the encoder can't be given this form.
    """
    if form.encoder is not None:
        return Shaped(*load_encoder(form.encoder, "student.encoder"), [])
    if form.static is not None:
        return Shaped(embed(encoder, tokenizer, texts, form.static.width, pooling), tokenizer, [])
    chosen = kept(encoder, form.chosen)
    if form.narrow is not None:
        narrower = narrow(encoder, tokenizer, texts, chosen, form.narrow.width, form.narrow.heads)
        return Shaped(narrower, tokenizer, chosen)
    return Shaped(cut(encoder, chosen), tokenizer, chosen)


def best_form(
    form: Student,
    encoder: nn.Module,
    make: Callable[[Student], tuple[TaskModel, Loss]],
    rows: tuple[Rows, Rows],
    head: Head,
    tokenizer: Any,
    settings: Training,
    views: Callable[[Rows], Views] = lambda _: {},
) -> Student:
    """The form with those layers that learn best from a short try: evenly spread, the first, the last, or both ends.

    Each choice learns for one pass over TRIED_ROWS of the rows; the validation rows judge. Of equals the first is kept.

    Args:
        form: with `keep: auto`.
        encoder: whose layers they are.
        make: builds a student of a form, and its loss.
        rows: those to learn from, and those that judge.
        head: the student's.
        tokenizer: the student's.
        settings: the recipe's knobs.
        views: what else the loss takes of given rows.
    """
    few = rows[0].at(np.linspace(0, len(rows[0]) - 1, min(TRIED_ROWS, len(rows[0]))).astype(int).tolist())
    taught, judged = (Examples(encode(tokenizer, part, head), part.truth, views(part)) for part in (few, rows[1]))
    once = settings.model_copy(update={"epochs": 1})
    found: dict[tuple[int, ...], float] = {}
    for choice in _candidates(form, encoder):
        tried = form.model_copy(update={"keep": list(choice)})
        _, epochs = train(
            functools.partial(make, tried),
            taught,
            judged,
            once,
            pad_token_id=tokenizer.pad_token_id,
            on_epoch=lambda _: None,
        )
        found[choice] = better(head.outcome, epochs[-1].validation[primary(head.outcome)])
    best = max(found, key=found.__getitem__)
    print(f"of {len(found)} choices of layers, {', '.join(map(str, best))} learn best from {len(few):,} rows")
    return form.model_copy(update={"keep": list(best)})


def _candidates(form: Student, encoder: nn.Module) -> list[tuple[int, ...]]:
    count, layers = len(kept(encoder, form.layers)), len(layer_stack(encoder)[1])
    last = range(layers - count, layers)
    return list(dict.fromkeys([tuple(spread(count, layers)), tuple(range(count)), tuple(last), (0, *last[1:])]))

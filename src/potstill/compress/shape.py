"""Shape: the student's form, before it learns."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

from torch import nn

from potstill.compress.cut import cut, kept
from potstill.compress.embed import embed
from potstill.compress.narrow import narrow
from potstill.data.dataset import Rows
from potstill.learn.anatomy import layer_stack, spread
from potstill.learn.model import Head, TaskModel, encode, load_encoder
from potstill.learn.pruned import prunable
from potstill.learn.trainer import Examples, Loss, Views, train
from potstill.metrics import better, primary
from potstill.recipe import Student, Training

# Enough to tell choices of layers apart.
TRIED_ROWS = 3200


def shape(
    form: Student, encoder: nn.Module, tokenizer: Any, texts: Sequence[str], pooling: str
) -> tuple[nn.Module, list[int]]:
    """A student's encoder of the recipe's form, and which of the other encoder's layers its own came from, if any.

    Args:
        form: of the recipe.
        encoder: what it is made of: the teacher's or, for a control, the public one; it stays as it is.
        tokenizer: of the encoder.
        texts: of the task.
        pooling: how the other encoder's token vectors become one.

    Raises:
        UserError: the encoder can't be given this form, or can't be pruned afterwards.
    """
    made, layers = _shaped(form, encoder, tokenizer, texts, pooling)
    if form.prune is not None:
        prunable(made)
    return made, layers


def _shaped(
    form: Student, encoder: nn.Module, tokenizer: Any, texts: Sequence[str], pooling: str
) -> tuple[nn.Module, list[int]]:
    if form.encoder is not None:
        other = _other(form.encoder)[0]
        return cut(other, form.keep) if isinstance(form.keep, list) else other, []
    if form.static is not None:
        return embed(encoder, tokenizer, texts, form.static, pooling), []
    chosen = kept(encoder, form.chosen)
    if form.narrow is not None:
        return narrow(encoder, tokenizer, texts, chosen, form.narrow.width, form.narrow.heads), chosen
    return cut(encoder, chosen), chosen


def tokenizer_of(form: Student, tokenizer: Any) -> Any:
    """The student's tokenizer: its own encoder's, or that of the encoder that it is made of."""
    return tokenizer if form.encoder is None else _other(form.encoder)[1]


def _other(location: str) -> tuple[nn.Module, Any]:
    return load_encoder(location, "student.encoder")


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
    few = rows[0].spread(TRIED_ROWS)
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

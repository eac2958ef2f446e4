"""How a student learns: from labels alone, or from labels and the teacher's table."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from potstill.data.dataset import Rows, Schema, read_rows, read_schema
from potstill.learn import terms
from potstill.learn.model import Head, TaskModel, encode, save_model
from potstill.learn.trainer import Examples, Loss, train
from potstill.metrics import better, primary
from potstill.outcomes import Outcome, Part, Retrieval, parts_of
from potstill.recipe import Distill, Training
from potstill.store import writing

HISTORY = "history.json"
OnEpoch = Callable[[Mapping[str, float]], None]


def choices(loss: Loss, outcome: Outcome) -> Loss:
    """A loss of logits for vectors too: of a retrieval it is asked which of the batch's answers is whose."""
    if not isinstance(outcome, Retrieval):
        return loss
    tau = outcome.tau

    def of_vectors(vectors: Tensor, batch: Mapping[str, Tensor]) -> Tensor:
        own = {"targets": torch.eye(len(vectors), device=vectors.device)}
        if "teacher" in batch:
            own["teacher"] = terms.likeness(batch["teacher"], batch["labels"], tau)
        return loss(terms.likeness(vectors, batch["labels"], tau), {**batch, **own})

    return of_vectors


def sum_over(outcome: Outcome, term: Callable[[slice, Part], Tensor]) -> Tensor:
    """Sum of a term `[batch]` over the tasks; it is given the place of each task's logits, and the task."""
    return torch.stack([term(part.columns, part) for part in parts_of(outcome)]).sum(dim=0)


def weighed(each: Tensor, batch: Mapping[str, Tensor], whole_groups: bool = False) -> Tensor:
    """A term `[batch]` times the weights of the rows or, where it compares them, of their groups.

    Weights that differ within a group would turn its softmax, or its margins, to the heavier rows.
    """
    weights = batch.get("weights")
    if weights is None:
        return each
    return each * (terms.group_mean(weights, batch["groups"]) if whole_groups else weights)


def examples(tokenizer: Any, rows: Rows, head: Head, teacher: npt.NDArray[np.float32] | None = None) -> Examples:
    """Rows as inputs, labels and, for a student, the teacher's logits `[rows, outcomes]`."""
    return Examples(encode(tokenizer, rows, head), rows.truth, teacher)


def head_of(schema: Schema, pooling: str, max_tokens: int) -> Head:
    """The head that a task's model needs."""
    return Head(schema.task, schema.outcome, pooling, max_tokens, schema.features)


def learn(
    dataset: Path,
    head: Head,
    make_model: Callable[[], TaskModel],
    tokenizer: Any,
    settings: Training,
    folder: Path,
    on_epoch: OnEpoch,
    signals: Callable[[Rows], npt.NDArray[np.float32]] | None = None,
    loss: Loss | None = None,
    part: Part | None = None,
) -> dict[str, float]:
    """Train a model on a dataset's training rows and write it, with its `history.json`, to `folder`.

    Args:
        dataset: what ingest wrote.
        head: the model's head.
        make_model: builds the untrained model.
        tokenizer: its tokenizer.
        settings: the recipe's knobs.
        folder: where the model goes, whole or not at all.
        on_epoch: called after each epoch.
        signals: the teacher's logits `[rows, outcomes]` of given rows; none: labels alone.
        loss: one value an example; none: that of the labels alone.
        part: the one task to learn, from the rows that have a label for it; none: all.

    Returns:
        Validation figures of the epoch that was kept.
    """
    schema = read_schema(dataset)
    whole = (read_rows(dataset, split, schema) for split in ("train", "validation"))
    splits = [rows.of(part) if part else rows for rows in whole]
    splits[1] = splits[1].judged()
    train_rows, validation = (examples(tokenizer, rows, head, signals(rows) if signals else None) for rows in splits)
    model, epochs = train(
        make_model,
        loss or hard_loss(settings, head.outcome),
        train_rows,
        validation,
        settings,
        pad_token_id=tokenizer.pad_token_id,
        on_epoch=on_epoch,
    )
    with writing(folder) as draft:
        save_model(model, tokenizer, draft)
        (draft / HISTORY).write_text(json.dumps([epoch.flat() for epoch in epochs], indent=1), encoding="utf-8")
    best = max(epochs, key=lambda epoch: better(head.outcome, epoch.validation[primary(head.outcome)]))
    return {"best_epoch": best.epoch, **{f"validation_{name}": value for name, value in best.validation.items()}}


def hard_loss(knobs: Training, outcome: Outcome) -> Loss:
    """What the labels say, one weighed value an example: of each row by itself, and of its place among its group.

    Of several tasks it is the sum over those for which the row has a label. Of a retrieval, which of the batch's
    answers is the row's.
    """

    def loss(logits: Tensor, batch: Mapping[str, Tensor]) -> Tensor:
        alone = sum_over(
            outcome, lambda at, _: terms.cross_entropy(logits[:, at], batch["targets"][:, at], knobs.focus)
        )
        alone = weighed(alone, batch)
        if not knobs.listwise:
            return alone
        among = terms.listwise(terms.log_odds(logits), batch["labels"], batch["groups"])
        return (1 - knobs.listwise) * alone + knobs.listwise * weighed(among, batch, whole_groups=True)

    return choices(loss, outcome)


def soft_loss(knobs: Distill, outcome: Outcome) -> Loss:
    """α · T² · KL + (1 − α) · the loss of the labels (Hinton et al. 2015), likewise within groups, and margins.

    Of a retrieval it is the KL of the softmax over the batch's answers: the student learns the teacher's likenesses.
    Of several tasks the teacher's view counts whole where the row has a label, and by `knobs.unlabelled` elsewhere.
    """
    hard = hard_loss(knobs, outcome)

    def softened(logits: Tensor, batch: Mapping[str, Tensor]) -> Tensor:
        def view(at: slice, part: Part) -> Tensor:
            each = terms.kl_divergence(logits[:, at], batch["teacher"][:, at], knobs.temperature)
            if part.place is None:
                return each
            labelled = batch["labels"][:, part.place].isfinite().float()
            return each * (labelled + knobs.unlabelled * (1 - labelled))

        soft = weighed(sum_over(outcome, view), batch)
        if knobs.listwise:
            scores, teacher = terms.log_odds(logits), terms.log_odds(batch["teacher"])
            among = terms.listwise_kl(scores, teacher, batch["groups"], knobs.temperature)
            soft = (1 - knobs.listwise) * soft + knobs.listwise * weighed(among, batch, whole_groups=True)
        return soft

    soft = choices(softened, outcome)

    def loss(logits: Tensor, batch: Mapping[str, Tensor]) -> Tensor:
        total = knobs.alpha * soft(logits, batch) + (1 - knobs.alpha) * hard(logits, batch)
        if knobs.align:
            total = total + knobs.align * weighed(terms.alignment(logits, batch["teacher"]), batch)
        if knobs.margin:
            apart = terms.margin(terms.log_odds(logits), terms.log_odds(batch["teacher"]), batch["groups"])
            total = total + knobs.margin * weighed(apart, batch, whole_groups=True)
        return total

    return loss

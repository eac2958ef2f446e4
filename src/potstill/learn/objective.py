"""What a model learns: a sum of terms, each one value an example, so that weights and masks are one multiplication."""

from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor

from potstill.learn import terms
from potstill.learn.schedules import value_at
from potstill.learn.trainer import Loss
from potstill.learn.witness import InnerTerms
from potstill.metrics import Truth
from potstill.outcomes import Classification, Outcome, Part, Retrieval, parts_of
from potstill.recipe import LOGIT_TERMS, Distill, Training


def class_weights(outcome: Outcome, truth: Truth) -> Tensor:
    """How much each outcome counts `[outcomes]` so that all classes of a task count alike: 1 on the mean of its rows.

    A class that no row has counts as one that a single row has. Outcomes that aren't classes count 1.
    """
    found = torch.ones(len(outcome))
    for part in parts_of(outcome):
        if isinstance(part.outcome, Classification):
            values = part.values(truth.values)
            counts = np.bincount(values[np.isfinite(values)].astype(np.int64), minlength=len(part.outcome))
            each = counts.sum() / (np.count_nonzero(counts) * np.maximum(counts, 1))
            found[part.columns] = torch.from_numpy(each).float()
    return found


def weights_asked(knobs: Training, outcome: Outcome, truth: Truth) -> Tensor | None:
    """The weights of classes that the recipe asks for, if any."""
    return class_weights(outcome, truth) if knobs.class_weights == "balanced" else None


def hard_loss(knobs: Training, outcome: Outcome, weights: Tensor | None = None) -> Loss:
    """What the labels say, one weighed value an example: of each row by itself, and of its place among its group.

    Of several tasks it is the sum over those for which the row has a label. Of a retrieval, which of the batch's
    answers is the row's.

    Args:
        knobs: of the recipe.
        outcome: what is predicted.
        weights: how much each outcome counts `[outcomes]`; none: all alike.
    """

    def loss(logits: Tensor, batch: Mapping[str, Tensor]) -> Tensor:
        def of_task(at: slice, part: Part) -> Tensor:
            smoothing = knobs.label_smoothing if isinstance(part.outcome, Classification) else 0.0
            counted = None if weights is None else weights[at].to(logits.device)
            return terms.cross_entropy(logits[:, at], batch["targets"][:, at], knobs.focus, smoothing, counted)

        alone = weighed(_sum_over(outcome, of_task), batch)
        if not knobs.listwise:
            return alone
        among = terms.listwise(terms.log_odds(logits), batch["labels"], batch["groups"])
        return (1 - knobs.listwise) * alone + knobs.listwise * weighed(among, batch, whole_groups=True)

    return _choices(loss, outcome)


def soft_loss(
    knobs: Distill,
    outcome: Outcome,
    weights: Tensor | None = None,
    inner: InnerTerms | None = None,
) -> Loss:
    """α · what the teacher says + (1 − α) · what the labels say (Hinton et al. 2015), and margins within groups.

    What the teacher says is the recipe's sum of terms, each with its weight. Of a retrieval it is of the softmax over
    the batch's answers: the student learns the teacher's likenesses. Of several tasks the teacher's view counts whole
    where the row has a label, or none at all, and by `knobs.unlabelled` where it has labels for other tasks only.

    Args:
        knobs: of the recipe.
        outcome: what is predicted.
        weights: how much each outcome counts where labels speak `[outcomes]`.
        inner: gives the terms that compare more than logits.
    """
    hard = hard_loss(knobs, outcome, weights)

    def of_logits(logits: Tensor, batch: Mapping[str, Tensor]) -> Tensor:
        def view(at: slice, part: Part) -> Tensor:
            each = _imitation(knobs, logits[:, at], batch["teacher"][:, at], batch["targets"][:, at], _progress(batch))
            if part.place is None:
                return each
            told = batch["labels"].isfinite()
            counts = told[:, part.place] | ~told.any(dim=1)
            return torch.where(counts, each, knobs.unlabelled * each)

        soft = weighed(_sum_over(outcome, view), batch)
        if knobs.listwise:
            scores, teacher = terms.log_odds(logits), terms.log_odds(batch["teacher"])
            temperature = _at(knobs, "temperature", knobs.temperature, _progress(batch))
            among = terms.listwise_kl(scores, teacher, batch["groups"], temperature)
            soft = (1 - knobs.listwise) * soft + knobs.listwise * weighed(among, batch, whole_groups=True)
        return soft

    imitated = _choices(of_logits, outcome)

    def within(batch: Mapping[str, Tensor]) -> Tensor | float:
        found = inner(batch) if inner else {}
        each = [_weight(knobs, term, _progress(batch)) * weighed(value, batch) for term, value in found.items()]
        return torch.stack(each).sum(dim=0) if each else 0.0

    def loss(logits: Tensor, batch: Mapping[str, Tensor]) -> Tensor:
        alpha = _at(knobs, "alpha", knobs.alpha, _progress(batch))
        total = alpha * (imitated(logits, batch) + within(batch)) + (1 - alpha) * hard(logits, batch)
        if knobs.align:
            total = total + knobs.align * weighed(terms.alignment(logits, batch["teacher"]), batch)
        if knobs.margin:
            apart = terms.margin(terms.log_odds(logits), terms.log_odds(batch["teacher"]), batch["groups"])
            total = total + knobs.margin * weighed(apart, batch, whole_groups=True)
        return total

    return loss


def _imitation(knobs: Distill, student: Tensor, teacher: Tensor, targets: Tensor, progress: float) -> Tensor:
    """The sum of the recipe's terms on one task's logits `[batch]`."""
    heat = _at(knobs, "temperature", knobs.temperature, progress)
    if knobs.standardise:
        student, teacher = terms.standardise(student), terms.standardise(teacher)
    compare: dict[str, Callable[[], Tensor]] = {
        "kl": lambda: terms.kl_divergence(student, teacher, heat),
        "soft_ce": lambda: terms.soft_cross_entropy(student, teacher, heat),
        "focal": lambda: terms.focal_kl(student, teacher, heat),
        "mse": lambda: terms.logit_mse(student, teacher),
        "dist_between": lambda: terms.dist_between(student, teacher, heat),
        "dist_within": lambda: terms.dist_within(student, teacher, heat),
        "decoupled_target": lambda: terms.decoupled_target(student, teacher, targets, heat),
        "decoupled_others": lambda: terms.decoupled_others(student, teacher, targets, heat),
    }
    each = [_weight(knobs, term, progress) * compare[term]() for term in knobs.terms if term in LOGIT_TERMS]
    return torch.stack(each).sum(dim=0) if each else student.new_zeros(len(student))


def _weight(knobs: Distill, term: str, progress: float) -> float:
    known: Mapping[str, float] = {str(name): weight for name, weight in knobs.terms.items()}
    return _at(knobs, term, known[term], progress)


def _at(knobs: Distill, knob: str, start: float, progress: float) -> float:
    return value_at(progress, start, knobs.schedules.get(knob))


def _progress(batch: Mapping[str, Tensor]) -> float:
    """Share of the steps that are done; judged at the end's values."""
    return float(batch["progress"]) if "progress" in batch else 1.0


def _choices(loss: Loss, outcome: Outcome) -> Loss:
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


def _sum_over(outcome: Outcome, term: Callable[[slice, Part], Tensor]) -> Tensor:
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

"""Distill: train the student, which is the teacher cut or another small form, on the teacher's table."""

from pathlib import Path

from torch import Tensor

from potstill.compress.cut import kept
from potstill.compress.prune import pruning
from potstill.compress.shape import best_form, shape, tokenizer_of
from potstill.data.dataset import Rows, Schema, read_schema
from potstill.errors import UserError
from potstill.learn.checkpoint import unfinished
from potstill.learn.model import TaskModel
from potstill.learn.objective import hard_loss, soft_loss, weights_asked
from potstill.learn.signals import read_signals, table_digest
from potstill.learn.student import Further, OnEpoch, Place, head_of, labelled_rows, learn, pooled_rows, silently
from potstill.learn.teachers import load_teachers
from potstill.learn.trainer import Loss, Views
from potstill.learn.witness import InnerTerms
from potstill.outcomes import Outcome, parts_of
from potstill.recipe import VECTOR_TERM, Distill, Student
from potstill.store import Shelf

# Outcomes that leave no relation to compare but which of the two.
PAIR = 2


def distill(
    dataset: Path,
    teacher: Path,
    signals: Path,
    form: Student,
    settings: Distill,
    student: Path,
    on_epoch: OnEpoch = silently,
    checkpoints: Shelf | None = None,
) -> dict[str, float]:
    """Give the student its form and train it on the teacher's logits and the labels; write the student's folder.

    A student made of the teacher's layers starts with its embeddings and head too; where each task has a teacher of its
    own, with the layers of the one that has seen most rows, and everyone's head. What the teacher says is joined from
    the signals by row digest; it runs along only where terms compare layers. If the recipe says so, the student is then
    pruned and learns once more, and a short training on labels alone follows, kept if validation improves.

    Args:
        dataset: what ingest wrote.
        teacher: what teach wrote.
        signals: what extract wrote.
        form: the student's form.
        settings: the recipe's knobs.
        student: the folder to write.
        on_epoch: called after each epoch.
        checkpoints: where trainings that are not done are kept, so that a killed one goes on; none: nowhere.

    Returns:
        Validation figures of the epoch that was kept.

    Raises:
        UserError: the teacher can't be given that form, or the signals don't cover the rows.
    """
    schema = read_schema(dataset)
    _refuse_blind_terms(settings, schema.outcome)
    labelled, validation = labelled_rows(dataset, schema)
    rows = pooled_rows(dataset, schema, labelled), validation
    teachers = load_teachers(teacher, schema.outcome)
    model, tokenizer = teachers[_most_taught(labelled, schema) if len(teachers) > 1 else 0]
    head = head_of(schema, form.pooling(model.head.pooling), model.head.max_tokens)
    weights = weights_asked(settings, schema.outcome, labelled.truth)

    def loss_of(student: TaskModel, layers: list[int], knobs: Distill) -> Loss:
        asked = knobs.inner_terms
        inner = InnerTerms(student, model, list(enumerate(layers)), asked) if asked else None
        return soft_loss(knobs, schema.outcome, weights, inner)

    def make_student(form: Student) -> tuple[TaskModel, Loss]:
        encoder, layers = shape(form, model.encoder, tokenizer, labelled.text, model.head.pooling)
        made = TaskModel(encoder, head)
        if settings.align:
            _refuse_other_width(made, model)
        if form.has_teachers_layers and form.narrow is None:
            made.inherit(model, [teacher for teacher, _ in teachers])
        return made, loss_of(made, layers, settings)

    def views(asked: Rows) -> Views:
        found = {"teacher": read_signals(signals, asked.row)}
        return found | ({"vector": read_signals(signals, asked.row, "vector")} if VECTOR_TERM in settings.terms else {})

    if form.keep == "auto":
        form = best_form(form, model.encoder, make_student, rows, head, tokenizer, settings, views)
    own = tokenizer_of(form, tokenizer)
    further = []
    if form.prune is not None:
        knobs = settings.then(form.prune)
        layers = kept(model.encoder, form.chosen) if form.has_teachers_layers else []
        logits_alone = soft_loss(settings, schema.outcome, weights)
        further.append(
            pruning(form.prune, knobs, logits_alone, own.pad_token_id, lambda made: loss_of(made, layers, knobs))
        )
    if settings.fine_tune is not None:
        further.append(_fine_tuning(settings.then(settings.fine_tune), schema.outcome, weights))
    # The table's manifest names teacher and dataset.
    with unfinished(checkpoints, "distill", table_digest(signals), form, settings) as place_for_checkpoints:
        place = Place(student, on_epoch, place_for_checkpoints)
        return learn(rows, head, lambda: make_student(form), own, settings, place, views, further)


def _fine_tuning(knobs: Distill, outcome: Outcome, weights: Tensor | None) -> Further:
    loss = hard_loss(knobs, outcome, weights)
    return Further("fine_tune", knobs, lambda student, _: (student, loss), from_labels=True, must_improve=True)


def _refuse_other_width(student: TaskModel, teacher: TaskModel) -> None:
    own, its = (model.encoder.config.hidden_size for model in (student, teacher))  # type: ignore[union-attr]
    if own != its:
        raise UserError(f"distill.align: the student's vectors are {own} wide, the teacher's {its}; set align: 0")


def _refuse_blind_terms(knobs: Distill, outcome: Outcome) -> None:
    """Refuse terms that see only how outcomes stand to each other, where a task has but two."""
    blind = [term for term in ("dist_between", "decoupled_others") if term in knobs.terms]
    asked = ["standardise"] * knobs.standardise + [f"terms.{term}" for term in blind]
    pairs = [part.task for part in parts_of(outcome) if len(part.outcome) == PAIR]
    if asked and pairs:
        task = f" of {pairs[0]}" if pairs[0] else ""
        raise UserError(f"distill.{asked[0]} tells nothing of two outcomes{task}; leave it out")


def _most_taught(rows: Rows, schema: Schema) -> int:
    """Number of the task with the most labels."""
    labels = [len(rows.of(part)) for part in parts_of(schema.outcome)]
    return labels.index(max(labels))

"""Distill: train the student, which is the teacher cut or another small form, on the teacher's table."""

from pathlib import Path

from potstill.compress.shape import best_form, shape
from potstill.data.dataset import Rows, Schema, read_schema
from potstill.learn.model import TaskModel, load_encoder
from potstill.learn.objective import class_weights, soft_loss
from potstill.learn.signals import read_signals
from potstill.learn.student import OnEpoch, head_of, labelled_rows, learn, pooled_rows
from potstill.learn.teachers import load_teachers
from potstill.learn.trainer import Loss, Views
from potstill.learn.witness import InnerTerms
from potstill.outcomes import parts_of
from potstill.recipe import VECTOR_TERM, Distill, Student


def distill(
    dataset: Path,
    teacher: Path,
    signals: Path,
    form: Student,
    settings: Distill,
    student: Path,
    on_epoch: OnEpoch = lambda _: None,
) -> dict[str, float]:
    """Give the student its form and train it on the teacher's logits and the labels; write the student's folder.

    A student made of the teacher's layers starts with its embeddings and head too; where each task has a teacher of its
    own, with the layers of the one that has seen most rows, and everyone's head. What the teacher says is joined from
    the signals by row digest; it runs along only where terms compare layers.

    Returns:
        Validation figures of the epoch that was kept.

    Raises:
        UserError: the teacher can't be given that form, or the signals don't cover the rows.
    """
    schema = read_schema(dataset)
    labelled, validation = labelled_rows(dataset, schema)
    rows = pooled_rows(dataset, schema, labelled), validation
    teachers = load_teachers(teacher, schema.outcome)
    model, tokenizer = teachers[_most_taught(labelled, schema) if len(teachers) > 1 else 0]
    head = head_of(schema, model.head.pooling, model.head.max_tokens)
    weights = class_weights(schema.outcome, labelled.truth) if settings.class_weights == "balanced" else None

    def make_student(form: Student) -> tuple[TaskModel, Loss]:
        shaped = shape(form, model.encoder, tokenizer, labelled.text, head.pooling)
        made = TaskModel(shaped.encoder, head)
        if form.has_teachers_layers and form.narrow is None:
            made.inherit(model, [teacher for teacher, _ in teachers])
        asked = settings.inner_terms
        inner = InnerTerms(made, model, list(enumerate(shaped.layers)), asked) if asked else None
        return made, soft_loss(settings, schema.outcome, weights, inner)

    def views(asked: Rows) -> Views:
        found = {"teacher": read_signals(signals, asked.row)}
        return found | ({"vector": read_signals(signals, asked.row, "vector")} if VECTOR_TERM in settings.terms else {})

    if form.keep == "auto":
        form = best_form(form, model.encoder, make_student, rows, head, tokenizer, settings, views)
    own = load_encoder(form.encoder, "student.encoder")[1] if form.encoder else tokenizer
    return learn(rows, head, lambda: make_student(form), own, settings, student, on_epoch, views)


def _most_taught(rows: Rows, schema: Schema) -> int:
    """Number of the task with the most labels."""
    labels = [len(rows.of(part)) for part in parts_of(schema.outcome)]
    return labels.index(max(labels))

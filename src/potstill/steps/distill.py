"""Distill: train the student, which is the teacher cut, on the teacher's table."""

from pathlib import Path

from potstill.compress.cut import cut, kept
from potstill.data.dataset import Rows, Schema, read_schema
from potstill.learn.model import TaskModel
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
    """Cut the teacher and train what remains on its logits and the labels; write the student's folder.

    The student starts with the teacher's embeddings, chosen layers and head; where each task has a teacher of its own,
    with the layers of the one that has seen most rows, and everyone's head. What the teacher says is joined from the
    signals by row digest; it runs along only where terms compare layers.

    Returns:
        Validation figures of the epoch that was kept.

    Raises:
        UserError: the teacher hasn't those layers, or the signals don't cover the rows.
    """
    schema = read_schema(dataset)
    rows, validation = labelled_rows(dataset, schema)
    teachers = load_teachers(teacher, schema.outcome)
    main = _most_taught(rows, schema) if len(teachers) > 1 else 0
    model, tokenizer = teachers[main]
    head = head_of(schema, model.head.pooling, model.head.max_tokens)
    weights = class_weights(schema.outcome, rows.truth) if settings.class_weights == "balanced" else None

    chosen = kept(model.encoder, form.chosen)

    def make_student() -> tuple[TaskModel, Loss]:
        made = TaskModel(cut(model.encoder, chosen), head)
        made.inherit(model, [teacher for teacher, _ in teachers])
        asked = settings.inner_terms
        inner = InnerTerms(made, model, list(enumerate(chosen)), asked) if asked else None
        return made, soft_loss(settings, schema.outcome, weights, inner)

    def views(asked: Rows) -> Views:
        found = {"teacher": read_signals(signals, asked.row)}
        return found | ({"vector": read_signals(signals, asked.row, "vector")} if VECTOR_TERM in settings.terms else {})

    return learn(
        (pooled_rows(dataset, schema, rows), validation),
        head,
        make_student,
        tokenizer,
        settings,
        student,
        on_epoch,
        views,
    )


def _most_taught(rows: Rows, schema: Schema) -> int:
    """Number of the task with the most labels."""
    labels = [len(rows.of(part)) for part in parts_of(schema.outcome)]
    return labels.index(max(labels))

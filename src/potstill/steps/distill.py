"""Distill: train the student, which is the teacher cut, on the teacher's table."""

from pathlib import Path

from potstill.compress.cut import cut
from potstill.data.dataset import Rows, Schema, read_rows, read_schema
from potstill.learn.model import TaskModel
from potstill.learn.signals import read_signals
from potstill.learn.student import OnEpoch, head_of, learn, soft_loss
from potstill.learn.teachers import load_teachers
from potstill.outcomes import parts_of
from potstill.recipe import Distill, Student


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
    with the layers of the one that has seen most rows, and everyone's head. The loop never runs a teacher: its logits
    are joined from the signals by row digest.

    Returns:
        Validation figures of the epoch that was kept.

    Raises:
        UserError: the teacher hasn't those layers, or the signals don't cover the rows.
    """
    schema = read_schema(dataset)
    teachers = load_teachers(teacher, schema.outcome)
    main = _most_taught(read_rows(dataset, "train", schema), schema) if len(teachers) > 1 else 0
    model, tokenizer = teachers[main]
    head = head_of(schema, model.head.pooling, model.head.max_tokens)

    def make_student() -> TaskModel:
        made = TaskModel(cut(model.encoder, form.chosen), head)
        made.inherit(model, [teacher for teacher, _ in teachers])
        return made

    return learn(
        dataset,
        head,
        make_student,
        tokenizer,
        settings,
        student,
        on_epoch,
        signals=lambda rows: read_signals(signals, rows.row),
        loss=soft_loss(settings, schema.outcome),
    )


def _most_taught(rows: Rows, schema: Schema) -> int:
    """Number of the task with the most labels."""
    labels = [len(rows.of(part)) for part in parts_of(schema.outcome)]
    return labels.index(max(labels))

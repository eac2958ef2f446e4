"""Distill: train the student, which is the teacher cut, on the teacher's table."""

from pathlib import Path

from potstill.compress.cut import cut
from potstill.data.dataset import read_schema
from potstill.learn.model import TaskModel
from potstill.learn.signals import read_signals
from potstill.learn.student import OnEpoch, head_of, learn, soft_loss
from potstill.learn.teachers import load_teachers
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
    with the first one's layers and everyone's head. The loop never runs a teacher: its logits are joined from the
    signals by row digest.

    Returns:
        Validation figures of the epoch that was kept.

    Raises:
        UserError: the teacher hasn't those layers, or the signals don't cover the rows.
    """
    schema = read_schema(dataset)
    teachers = load_teachers(teacher, schema.outcome)
    first, tokenizer = teachers[0]
    head = head_of(schema, first.head.pooling, first.head.max_tokens)

    def make_student() -> TaskModel:
        made = TaskModel(cut(first.encoder, form.chosen), head)
        made.inherit([model for model, _ in teachers])
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

"""Control: the same student without a teacher, to see what the teacher was worth."""

from pathlib import Path

from potstill.compress.cut import cut
from potstill.data.dataset import read_schema
from potstill.learn.model import TaskModel
from potstill.learn.student import OnEpoch, labelled_rows, learn
from potstill.recipe import Distill, Student, Teacher
from potstill.steps.teach import loss_of_labels, untaught


def control(
    dataset: Path,
    teacher: Teacher,
    form: Student,
    settings: Distill,
    student: Path,
    on_epoch: OnEpoch = lambda _: None,
) -> dict[str, float]:
    """Train a student of the same form, on the same rows and budget, from labels alone (α = 0).

    It starts from the public encoder's layers, not from the teacher's: nothing of the teacher reaches it.

    Args:
        dataset: what ingest wrote.
        teacher: names the encoder, its pooling and its longest text; nothing is taken from a trained teacher.
        form: the student's layers.
        settings: the student's training knobs; alpha and temperature are not used.
        student: the folder to write.
        on_epoch: called after each epoch.

    Returns:
        Validation figures of the epoch that was kept.
    """
    encoder, tokenizer, head = untaught(dataset, teacher)
    rows = labelled_rows(dataset, read_schema(dataset))
    loss = loss_of_labels(settings, head.outcome, rows[0])
    return learn(
        rows, head, lambda: (TaskModel(cut(encoder, form.chosen), head), loss), tokenizer, settings, student, on_epoch
    )

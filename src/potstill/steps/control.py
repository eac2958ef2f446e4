"""Control: the same student without a teacher, to see what the teacher was worth."""

from pathlib import Path

from potstill.compress.cut import cut
from potstill.data.dataset import read_schema
from potstill.learn.model import TaskModel, load_encoder
from potstill.learn.student import OnEpoch, head_of, learn
from potstill.recipe import Distill, Student, Teacher


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
    encoder, tokenizer = load_encoder(teacher.encoder)
    head = head_of(read_schema(dataset), teacher.pooling, teacher.max_tokens)
    return learn(
        dataset, head, lambda: TaskModel(cut(encoder, form.chosen), head), tokenizer, settings, student, on_epoch
    )

"""Control: the same student without a teacher, to see what the teacher was worth."""

from dataclasses import replace
from pathlib import Path

from potstill.compress.prune import pruning
from potstill.compress.shape import best_form, shape, tokenizer_of
from potstill.data.dataset import read_schema
from potstill.learn.checkpoint import unfinished
from potstill.learn.model import TaskModel
from potstill.learn.student import OnEpoch, Place, labelled_rows, learn, silently
from potstill.learn.trainer import Loss
from potstill.recipe import Distill, Student, Teacher
from potstill.steps.teach import loss_of_labels, untaught
from potstill.store import Shelf


def control(
    dataset: Path,
    teacher: Teacher,
    form: Student,
    settings: Distill,
    student: Path,
    on_epoch: OnEpoch = silently,
    checkpoints: Shelf | None = None,
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
        checkpoints: where trainings that are not done are kept, so that a killed one goes on; none: nowhere.

    Returns:
        Validation figures of the epoch that was kept.
    """
    encoder, tokenizer, head = untaught(dataset, teacher)
    head = replace(head, pooling=form.pooling(teacher.pooling))
    rows = labelled_rows(dataset, read_schema(dataset))
    loss = loss_of_labels(settings, head.outcome, rows[0])

    def make(form: Student) -> tuple[TaskModel, Loss]:
        return TaskModel(shape(form, encoder, tokenizer, rows[0].text, teacher.pooling)[0], head), loss

    if form.keep == "auto":
        form = best_form(form, encoder, make, rows, head, tokenizer, settings)
    own = tokenizer_of(form, tokenizer)
    further = []
    if form.prune is not None:
        further.append(pruning(form.prune, settings.then(form.prune), loss, own.pad_token_id, lambda _: loss))
    with unfinished(checkpoints, "control", read_schema(dataset).digest, teacher, form, settings) as kept:
        place = Place(student, on_epoch, kept)
        return learn(rows, head, lambda: make(form), own, settings, place, further=further)

"""Distill: train the student, which is the teacher cut, on the teacher's table."""

from pathlib import Path

from potstill.compress.cut import cut
from potstill.learn.model import TaskModel, load_model
from potstill.learn.signals import read_signals
from potstill.learn.student import OnEpoch, learn, soft_loss
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

    The student starts with the teacher's embeddings, chosen layers and head. The loop never runs the teacher:
    its logits are joined from the signals by row digest.

    Returns:
        Validation figures of the epoch that was kept.

    Raises:
        UserError: the teacher hasn't those layers, or the signals don't cover the rows.
    """
    model, tokenizer = load_model(teacher)

    def make_student() -> TaskModel:
        made = TaskModel(cut(model.encoder, form.chosen), model.head)
        made.on_top.load_state_dict(model.on_top.state_dict())
        return made

    return learn(
        dataset,
        model.head,
        make_student,
        tokenizer,
        settings,
        student,
        on_epoch,
        signals=lambda rows: read_signals(signals, rows.row),
        loss=soft_loss(settings),
    )

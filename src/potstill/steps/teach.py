"""Teach: fine-tune a Hugging Face encoder on the dataset."""

from pathlib import Path

from potstill.data.dataset import read_schema
from potstill.learn.model import TaskModel, load_encoder
from potstill.learn.student import OnEpoch, head_of, learn
from potstill.recipe import Teacher


def teach(dataset: Path, settings: Teacher, teacher: Path, on_epoch: OnEpoch = lambda _: None) -> dict[str, float]:
    """Fine-tune `settings.encoder` and write the teacher's folder.

    Returns:
        Validation figures of the epoch that was kept.

    Raises:
        UserError: the encoder can't be loaded.
    """
    encoder, tokenizer = load_encoder(settings.encoder)
    head = head_of(read_schema(dataset), settings.pooling, settings.max_tokens)
    return learn(dataset, head, lambda: TaskModel(encoder, head), tokenizer, settings, teacher, on_epoch)

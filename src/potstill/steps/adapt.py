"""Adapt: get the public encoder used to the shop's own texts, before it is taught."""

import json
from pathlib import Path

from potstill.data.dataset import read_schema
from potstill.learn.adapt import adapt_encoder
from potstill.learn.checkpoint import unfinished
from potstill.learn.model import save_encoder
from potstill.learn.student import HISTORY, OnEpoch, labelled_rows, pooled_rows, silently
from potstill.recipe import Adapt, Teacher
from potstill.steps.teach import untaught
from potstill.store import Shelf, writing


def adapt(
    dataset: Path,
    teacher: Teacher,
    settings: Adapt,
    adapted: Path,
    on_epoch: OnEpoch = silently,
    checkpoints: Shelf | None = None,
) -> dict[str, float]:
    """Go on with masked-language-model training of the teacher's encoder; write a Hugging Face folder.

    It learns from the training texts and those without a label (and from answers, where these are retrieved); no label
    is looked at. With `teacher.vocabulary: trim` the vocabulary is trimmed first.

    Args:
        dataset: what ingest wrote.
        teacher: names the encoder, its longest text and its vocabulary.
        settings: the recipe's knobs.
        adapted: the folder to write.
        on_epoch: called after each epoch.
        checkpoints: where trainings that are not done are kept, so that a killed one goes on; none: nowhere.

    Returns:
        `validation_loss` of the epoch that was kept: mean cross-entropy of masked pieces, in nats.

    Raises:
        UserError: the encoder can't be loaded, or guesses no masked pieces.
    """
    schema = read_schema(dataset)
    encoder, tokenizer, head = untaught(dataset, teacher)
    labelled, validation = labelled_rows(dataset, schema)
    rows = pooled_rows(dataset, schema, labelled)
    texts = [*rows.text, *rows.catalogue], validation.text
    with unfinished(checkpoints, "adapt", schema.digest, teacher, settings) as kept:
        encoder, epochs = adapt_encoder(encoder, tokenizer, texts, settings, head.max_tokens, on_epoch, kept)
        with writing(adapted) as draft:
            save_encoder(encoder, tokenizer, draft)
            (draft / HISTORY).write_text(json.dumps([vars(epoch) for epoch in epochs], indent=1), encoding="utf-8")
    return {"validation_loss": min(epoch.validation_loss for epoch in epochs)}

"""Teach: fine-tune a Hugging Face encoder on the dataset."""

import contextlib
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from potstill.compress.trim import trim
from potstill.data.dataset import Rows, Schema, read_schema
from potstill.errors import UserError
from potstill.learn import processes
from potstill.learn.checkpoint import unfinished
from potstill.learn.committee import likeliest, mixed
from potstill.learn.model import Head, TaskModel, load_encoder
from potstill.learn.objective import hard_loss, weights_asked
from potstill.learn.student import OnEpoch, Place, head_of, labelled_rows, learn, silently, texts_of
from potstill.learn.teachers import DIVISION, FOLDS, OTHERS, logits_of, member_folders, write_weights
from potstill.learn.trainer import Loss
from potstill.metrics import score
from potstill.outcomes import Outcome, Part, parts_of, side_by_side
from potstill.recipe import Teacher, Training
from potstill.store import Shelf, writing

# The module whose processes teach together.
TOGETHER = "potstill.steps.teach_together"


def teach(
    dataset: Path,
    settings: Teacher,
    teacher: Path,
    on_epoch: OnEpoch = silently,
    cross_fit: int = 0,
    checkpoints: Shelf | None = None,
) -> dict[str, float]:
    """Fine-tune `settings.encoder` and write the teacher's folder.

    Where there are several GPUs, or the recipe asks for several processes, they are started here and share each batch.
    A process that torchrun started does its part; the first one writes.

    Of a teacher a task there is a folder each inside it. Other teachers that speak with it are in `_others`, with their
    weights in `weights.json`; where teachers are cross-fitted, those of each fold are in `_folds`.

    Args:
        dataset: what ingest wrote.
        settings: the recipe's knobs.
        teacher: the folder to write.
        on_epoch: called after each epoch of the first teacher of all training rows.
        cross_fit: how many folds; 0: none.
        checkpoints: where trainings that are not done are kept, so that a killed one goes on; none: nowhere.

    Returns:
        Validation figures of the epoch that was kept, of the first teacher or of each task's by its name; of several
        that speak together also what they reach as one, `together_…`, and how much each counts, `weight_…`.

    Raises:
        UserError: the encoder can't be loaded, its vocabulary not trimmed, or a fold holds no row.
    """
    together = processes.count() if processes.is_joined() else processes.wanted(settings.processes)
    with unfinished(checkpoints, "teach", read_schema(dataset).digest, settings, cross_fit, together) as kept:
        if together == processes.count():
            return teach_here(dataset, settings, teacher, on_epoch, cross_fit, kept)
        print(f"{together} processes share each batch")
        folders = {"dataset": str(dataset), "teacher": str(teacher), "kept": kept and str(kept)}
        request = {**folders, "settings": settings.model_dump(mode="json"), "cross_fit": cross_fit}
        return processes.launch(TOGETHER, request, together, on_epoch)


def teach_here(
    dataset: Path, settings: Teacher, teacher: Path, on_epoch: OnEpoch, cross_fit: int, kept: Path | None
) -> dict[str, float]:
    """Do one process's part of teaching; `kept` is the folder of its checkpoints."""
    schema = read_schema(dataset)
    rows, validation = labelled_rows(dataset, schema)
    if cross_fit:
        _refuse_empty_folds(rows, cross_fit, settings.seed, schema)
    is_first = processes.is_first()
    with writing(teacher) if is_first else contextlib.nullcontext(teacher) as draft:
        place = Place(draft, on_epoch if is_first else silently, kept)
        found = _teach_members(dataset, schema, (rows, validation), settings, place)
        for fold in range(cross_fit):
            print(f"fold {fold + 1} of {cross_fit}")
            others = rows.outside(fold, cross_fit, settings.seed)
            own = place.inside(FOLDS).inside(str(fold)).telling(silently)
            _teach_members(dataset, schema, (others, validation), settings, own)
        if cross_fit and is_first:
            division = json.dumps({"folds": cross_fit, "seed": settings.seed})
            (draft / FOLDS / DIVISION).write_text(division, encoding="utf-8")
    return found


def _refuse_empty_folds(rows: Rows, folds: int, seed: int, schema: Schema) -> None:
    """Refuse folds of which one holds no row, as one of the others may hold them all."""
    empty = folds - len(np.unique(rows.fold(folds, seed)))
    if empty:
        what = {"text": "texts", "group": "groups"}.get(schema.apart, "values of data.split.by")
        raise UserError(
            f"signals.cross_fit: {empty} of {folds} folds hold no row: too few {what}; use fewer folds, or 0"
        )


def _teach_members(
    dataset: Path, schema: Schema, rows: tuple[Rows, Rows], settings: Teacher, place: Place
) -> dict[str, float]:
    """The teacher, and the others that speak with it."""
    first, *others = settings.members
    found = _teach_all(dataset, schema, rows, first, place)
    for number, other in enumerate(others, 1):
        print(f"teacher {number + 1} of {len(others) + 1}: {other.encoder}")
        _teach_all(dataset, schema, rows, other, place.inside(OTHERS).inside(str(number)).telling(silently))
    return found | (_weigh(place.folder, schema, rows[1], settings) if others and processes.is_first() else {})


def _weigh(folder: Path, schema: Schema, validation: Rows, settings: Teacher) -> dict[str, float]:
    """Find and record how much each teacher counts; what they reach on the validation rows together."""
    outcome, truth = schema.outcome, validation.truth
    logits = [logits_of(member, outcome, validation) for member in member_folders(folder)]
    if settings.weighing == "validation":
        weights = likeliest(outcome, logits, truth)
    else:
        each = np.ones(len(logits)) if settings.weighing == "even" else np.array(settings.weighing)
        weights = np.repeat((each / each.sum())[:, None], len(parts_of(outcome)), axis=1)
    write_weights(folder, weights)
    figures = score(outcome, truth, side_by_side(outcome, mixed(outcome, logits, weights)))
    told = {
        part.named(f"weight_{number + 1}"): float(weights[number, place])
        for place, part in enumerate(parts_of(outcome))
        for number in range(len(weights))
    }
    print("weights of the teachers: " + ", ".join(f"{name} {weight:.2f}" for name, weight in told.items()))
    return told | {f"together_{name}": value for name, value in figures.items()}


def _teach_all(
    dataset: Path, schema: Schema, rows: tuple[Rows, Rows], settings: Teacher, place: Place
) -> dict[str, float]:
    """One teacher for all tasks, or one for each."""
    if not settings.per_task:
        return _teach(dataset, schema, rows, settings, place)
    found: dict[str, float] = {}
    for part in parts_of(schema.outcome):
        print(f"a teacher for {part.task}")

        def told(epoch: Mapping[str, float], part: Part = part) -> None:
            place.on_epoch({"epoch": epoch["epoch"], **_named(part, epoch)})

        own = (rows[0].of(part), rows[1].of(part))
        figures = _teach(dataset, schema.of(part), own, settings, place.inside(part.task).telling(told))
        found |= _named(part, figures)
    return found


def _teach(dataset: Path, schema: Schema, rows: tuple[Rows, Rows], settings: Teacher, place: Place) -> dict[str, float]:
    encoder, tokenizer, head = untaught(dataset, settings)
    head = replace(head, task=schema.task, outcome=schema.outcome)
    loss = loss_of_labels(settings, schema.outcome, rows[0])
    return learn(rows, head, lambda: (TaskModel(encoder, head), loss), tokenizer, settings, place)


def _named(part: Part, figures: Mapping[str, float]) -> dict[str, float]:
    return {part.named(name): value for name, value in figures.items()}


def loss_of_labels(settings: Training, outcome: Outcome, rows: Rows) -> Loss:
    """What the labels say, with the weights of classes that the recipe asks for."""
    return hard_loss(settings, outcome, weights_asked(settings, outcome, rows.truth))


def untaught(dataset: Path, settings: Teacher) -> tuple[nn.Module, Any, Head]:
    """The public encoder, its tokenizer, and the head that the task needs; trimmed if the recipe says so."""
    encoder, tokenizer = load_encoder(settings.encoder)
    schema = read_schema(dataset)
    if settings.vocabulary == "trim":
        before = len(tokenizer)
        encoder, tokenizer = trim(encoder, tokenizer, texts_of(dataset, schema))
        print(f"vocabulary trimmed from {before:,} to {len(tokenizer):,} pieces")
    return encoder, tokenizer, head_of(schema, settings.pooling, settings.max_tokens)

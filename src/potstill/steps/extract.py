"""Extract: what the teacher says of every row, as a table."""

import functools
from collections.abc import Callable, Iterator
from pathlib import Path

from potstill.data.dataset import UNLABELLED, Rows, Schema, read_schema, stream_rows
from potstill.data.split import SPLITS, TRAIN
from potstill.learn.signals import MANIFEST, Batch, Content, Manifest, complete, is_written, write_part
from potstill.learn.teachers import Panel
from potstill.outcomes import parts_of
from potstill.progress import Progress
from potstill.recipe import Signals
from potstill.shelves import point_to
from potstill.store import Folder, Shelf, writing


def extract(
    dataset: Path,
    teacher: Path,
    signals: Path,
    settings: Signals,
    dataset_digest: str,
    teacher_digest: str,
    store: Shelf | None = None,
    shards: int = 1,
    shard: int = 0,
) -> dict[str, float]:
    """Score every row of the dataset with the teacher, or what is still missing of it.

    Args:
        dataset: what ingest wrote.
        teacher: what teach wrote.
        signals: the folder to write: the table or, with a store, what points to it.
        settings: what to keep, and in how large parts.
        dataset_digest: names the rows.
        teacher_digest: names the teacher.
        store: where tables are kept by address, so that no two runs score the same; none: in `signals` itself.
        shards: how many extractions fill the table side by side.
        shard: which of them this is, from 0.

    Returns:
        How many rows the table holds, and how many were scored now.

    Raises:
        UserError: a teacher was taught a row that it would judge.
    """
    schema = read_schema(dataset)
    tasks = tuple((part.task or schema.task, part.outcome.names) for part in parts_of(schema.outcome))
    content = Content(teacher_digest, dataset_digest, tasks, settings.vectors, settings.part_rows)
    # Where the table is there already, no model need be loaded.
    panel = functools.cache(lambda: Panel.load(teacher, schema.outcome))

    def fill(table: Shelf) -> tuple[Manifest | None, int]:
        return _fill(
            table,
            content,
            _parts(dataset, schema, settings.part_rows),
            lambda split, rows: _batch(panel(), split, rows, settings.vectors),
            sum(schema.rows.values()) + schema.unlabelled,
            shards,
            shard,
        )

    if store is None:
        with writing(signals) as draft:
            manifest, scored = fill(Folder(draft))
    else:
        table = store.inside(content.address)
        manifest, scored = fill(table)
        if manifest is not None:
            with writing(signals) as draft:
                point_to(table, MANIFEST, draft)
    return {"rows": manifest.rows if manifest else 0, "rows_scored": scored}


def _fill(
    table: Shelf,
    content: Content,
    parts: Iterator[tuple[str, Rows]],
    score: Callable[[str, Rows], Batch],
    rows_in_all: int,
    shards: int,
    shard: int,
) -> tuple[Manifest | None, int]:
    """Write this shard's missing parts and, once all are there, the manifest; also how many rows were scored."""
    progress = Progress(rows_in_all, "row")
    number, seen, scored = -1, 0, 0
    for number, (split, rows) in enumerate(parts):
        seen += len(rows)
        if number % shards == shard and not is_written(table, content, number):
            write_part(table, content, number, score(split, rows))
            scored += len(rows)
            progress.at(seen, split)
    manifest = complete(table, content, number + 1)
    whole = f"{manifest.rows:,} rows in {len(manifest.parts)} parts" if manifest else "other shards are still at work"
    progress.say(f"{scored:,} rows scored by the teacher; {whole}" if scored else f"no row to score; {whole}")
    return manifest, scored


def _parts(dataset: Path, schema: Schema, part_rows: int) -> Iterator[tuple[str, Rows]]:
    """The rows of each part, with their split."""
    for split in (*SPLITS, *([UNLABELLED] if schema.unlabelled else [])):
        for rows in stream_rows(dataset, split, part_rows):
            yield split, rows


def _batch(panel: Panel, split: str, rows: Rows, vectors: bool) -> Batch:
    scores = panel.score(rows, split == SPLITS[TRAIN], split)
    return Batch(split, rows.row, scores.logits, scores.by, scores.vectors if vectors else None)

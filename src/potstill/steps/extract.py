"""Extract: what the teacher says of every row, as a table."""

import functools
from collections.abc import Callable, Sequence
from pathlib import Path

from potstill.data.dataset import UNLABELLED, Rows, Schema, read_schema, read_span
from potstill.data.split import SPLITS, TRAIN
from potstill.learn.signals import MANIFEST, Batch, Content, Manifest, complete, is_written, write_part
from potstill.learn.teachers import Panel
from potstill.outcomes import parts_of
from potstill.progress import Progress
from potstill.recipe import Signals
from potstill.store import point_to, writing

# A split, and places of its rows.
Span = tuple[str, range]


def extract(
    dataset: Path,
    teacher: Path,
    signals: Path,
    settings: Signals,
    dataset_digest: str,
    teacher_digest: str,
    store: Path | None = None,
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

    parts = planned(schema, settings.part_rows)

    def score(part: Span) -> Batch:
        split, span = part
        return _batch(panel(), split, read_span(dataset, split, schema, span), settings.vectors)

    def fill(table: Path) -> tuple[Manifest | None, int]:
        return _fill(table, content, parts, score, shards, shard)

    if store is None:
        with writing(signals) as draft:
            manifest, scored = fill(draft)
    else:
        table = store / content.address
        table.mkdir(parents=True, exist_ok=True)
        manifest, scored = fill(table)
        if manifest is not None:
            with writing(signals) as draft:
                point_to(table, MANIFEST, draft)
    return {"rows": manifest.rows if manifest else 0, "rows_scored": scored}


def planned(schema: Schema, part_rows: int) -> list[Span]:
    """The rows of each part: their split, and their places in it."""
    sizes = [*((split, schema.rows[split]) for split in SPLITS), (UNLABELLED, schema.unlabelled)]
    return [
        (split, range(start, min(start + part_rows, rows)))
        for split, rows in sizes
        for start in range(0, rows, part_rows)
    ]


def _fill(
    table: Path, content: Content, parts: Sequence[Span], score: Callable[[Span], Batch], shards: int, shard: int
) -> tuple[Manifest | None, int]:
    """Write this shard's missing parts and, once all are there, the manifest; also how many rows were scored."""
    own = range(shard, len(parts), shards)
    progress = Progress(sum(len(parts[number][1]) for number in own), "row")
    seen = scored = 0
    for number in own:
        split, span = parts[number]
        seen += len(span)
        if not is_written(table, content, number):
            write_part(table, content, number, score(parts[number]))
            scored += len(span)
            progress.at(seen, split)
    manifest = complete(table, content, len(parts))
    whole = f"{manifest.rows:,} rows in {len(manifest.parts)} parts" if manifest else "other shards are still at work"
    progress.say(f"{scored:,} rows scored by the teacher; {whole}" if scored else f"no row to score; {whole}")
    return manifest, scored


def _batch(panel: Panel, split: str, rows: Rows, vectors: bool) -> Batch:
    scores = panel.score(rows, split == SPLITS[TRAIN], split)
    return Batch(split, rows.row, scores.logits, scores.by, scores.vectors if vectors else None)

"""Extract: what the teacher says of every row, as a table."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from potstill.data.dataset import UNLABELLED, Rows, Schema, read_schema, read_span
from potstill.data.split import SPLITS, TRAIN
from potstill.learn.shards import Shard, vouch
from potstill.learn.signals import Batch, Content, Manifest, complete, is_written, write_part
from potstill.learn.teachers import Panel
from potstill.outcomes import parts_of
from potstill.progress import Progress
from potstill.recipe import Signals, require_store
from potstill.shelves import point_to
from potstill.store import Folder, Shelf, writing

# A split, and places of its rows.
Span = tuple[str, range]


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
        signals: the folder to write: the table or, with a store, what points to it, as long as the table's manifest,
            or the shard's receipt, is there.
        settings: what to keep, and in how large parts.
        dataset_digest: names the rows.
        teacher_digest: names the teacher.
        store: where tables are kept by address, so that no two runs score the same; none: in `signals` itself.
        shards: how many extractions fill the table side by side.
        shard: which of them this is, from 0.

    Returns:
        How many rows are this shard's, and how many were scored now.

    Raises:
        UserError: a teacher was taught a row that it would judge, or shards have no store.
    """
    require_store(shards, store)
    schema = read_schema(dataset)
    content = content_of(schema, settings, dataset_digest, teacher_digest)
    # Where the table is there already, no model need be loaded.
    panel = functools.cache(lambda: Panel.load(teacher, schema.outcome))
    plan = Plan.of(schema, settings.part_rows)
    this = Shard(shard, shards)
    own = this.own(len(plan))

    def score(part: Span) -> Batch:
        split, span = part
        return _batch(panel(), split, read_span(dataset, split, schema, span), settings.vectors)

    if store is None:
        with writing(signals) as draft:
            _, scored = fill_table(Folder(draft), content, plan, own, score)
    else:
        table = store.inside(content.address)
        _, scored = fill_table(table, content, plan, own, score)
        if shards > 1:
            vouch(table, this, len(plan))
        with writing(signals) as draft:
            point_to(table, this.told_by, draft)
    return {"rows": sum(len(plan[number][1]) for number in own), "rows_scored": scored}


def content_of(schema: Schema, settings: Signals, dataset_digest: str, teacher_digest: str) -> Content:
    """What decides the table that a teacher's view of a dataset makes."""
    tasks = tuple((part.task or schema.task, part.outcome.names) for part in parts_of(schema.outcome))
    return Content(teacher_digest, dataset_digest, tasks, settings.vectors, settings.part_rows)


@dataclass(frozen=True)
class Plan:
    """Which rows make each part; a part is worked out when it is asked for, so thousands of shards plan in no time.

    Attributes:
        splits: name and number of rows of each.
        part_rows: rows in a part, but for the last of a split.
    """

    splits: tuple[tuple[str, int], ...]
    part_rows: int

    @classmethod
    def of(cls, schema: Schema, part_rows: int) -> "Plan":
        """The plan of a dataset, rows without a label last."""
        return cls((*((split, schema.rows[split]) for split in SPLITS), (UNLABELLED, schema.unlabelled)), part_rows)

    def __len__(self) -> int:
        return sum(-(-rows // self.part_rows) for _, rows in self.splits)

    def __getitem__(self, number: int) -> Span:
        for split, rows in self.splits:
            parts = -(-rows // self.part_rows)
            if number < parts:
                return split, range(number * self.part_rows, min((number + 1) * self.part_rows, rows))
            number -= parts
        raise IndexError(number)


def fill_table(
    table: Shelf, content: Content, plan: Plan, own: range, score: Callable[[Span], Batch]
) -> tuple[Manifest | None, int]:
    """Write what is missing of one shard's parts and, once all are there, the manifest.

    Args:
        table: where it is.
        content: what decides it.
        plan: its parts.
        own: numbers of those that are this shard's.
        score: what is said of a part's rows.

    Returns:
        The manifest, unless other shards are still at work, and how many rows were scored.
    """
    progress = Progress(sum(len(plan[number][1]) for number in own), "row")
    seen = scored = 0
    for number in own:
        split, span = plan[number]
        seen += len(span)
        if not is_written(table, content, number):
            write_part(table, content, number, score(plan[number]))
            scored += len(span)
            progress.at(seen, split)
    manifest = complete(table, content, len(plan))
    whole = f"{manifest.rows:,} rows in {len(manifest.parts)} parts" if manifest else "other shards are still at work"
    progress.say(f"{scored:,} rows scored by the teacher; {whole}" if scored else f"no row to score; {whole}")
    return manifest, scored


def _batch(panel: Panel, split: str, rows: Rows, vectors: bool) -> Batch:
    scores = panel.score(rows, split == SPLITS[TRAIN], split)
    return Batch(split, rows.row, scores.logits, scores.by, scores.vectors if vectors else None)

"""An extraction in shards: how many are worth it, and one table of what they wrote."""

from pathlib import Path

from potstill.data.dataset import read_schema
from potstill.learn.shards import Shard, see_whole
from potstill.learn.signals import MANIFEST, read_manifest
from potstill.recipe import Signals
from potstill.shelves import point_to
from potstill.steps.extract import Plan, content_of
from potstill.store import Shelf, writing


def divide(dataset: Path, settings: Signals) -> list[Shard]:
    """The shards of a dataset's extraction: as many as asked for, but none without a part."""
    of = min(settings.shards, len(Plan.of(read_schema(dataset), settings.part_rows)))
    return [Shard(number, of) for number in range(of)]


def join(
    dataset: Path,
    signals: Path,
    settings: Signals,
    dataset_digest: str,
    teacher_digest: str,
    store: Shelf,
    shards: int,
) -> dict[str, float]:
    """Point to the table that shards filled, once it is whole.

    Args:
        dataset: what ingest wrote.
        signals: the folder to write: what points to the table.
        settings: as the shards had them.
        dataset_digest: names the rows.
        teacher_digest: names the teacher.
        store: where tables are kept by address.
        shards: how many there were.

    Returns:
        How many rows the table holds.

    Raises:
        UserError: which shards are missing, or parts of theirs.
    """
    schema = read_schema(dataset)
    content = content_of(schema, settings, dataset_digest, teacher_digest)
    table = store.inside(content.address)
    see_whole(table, content, len(Plan.of(schema, settings.part_rows)), shards)
    with writing(signals) as draft:
        point_to(table, MANIFEST, draft)
    manifest = read_manifest(signals)
    print(f"{manifest.rows:,} rows in {len(manifest.parts)} parts, by {shards} shards")
    return {"rows": manifest.rows}

"""Extract: the teacher's logits for every row, as a table."""

from collections.abc import Iterator
from pathlib import Path

from potstill.data.dataset import read_schema, stream_rows
from potstill.data.split import SPLITS
from potstill.learn.signals import Batch, write_signals
from potstill.learn.teachers import load_teachers, teachers_logits
from potstill.progress import Progress
from potstill.store import writing


def extract(
    dataset: Path, teacher: Path, signals: Path, *, dataset_digest: str, teacher_digest: str, shard_rows: int = 4096
) -> dict[str, float]:
    """Score every row of the dataset with the teacher and write the signals.

    Args:
        dataset: what ingest wrote.
        teacher: what teach wrote.
        signals: the folder to write.
        dataset_digest: recorded in the manifest.
        teacher_digest: recorded in the manifest.
        shard_rows: rows in one shard.

    Returns:
        How many rows and shards were written.
    """
    schema = read_schema(dataset)
    teachers = load_teachers(teacher, schema.outcome)
    progress = Progress(sum(schema.rows.values()), "row")

    def batches() -> Iterator[Batch]:
        done = 0
        for split in SPLITS:
            for rows in stream_rows(dataset, split, shard_rows):
                yield Batch(split, rows.row, teachers_logits(teachers, rows))
                done += len(rows)
                progress.at(done, split)

    with writing(signals) as draft:
        manifest = write_signals(
            draft,
            batches(),
            teacher_digest=teacher_digest,
            dataset_digest=dataset_digest,
            outcomes=schema.outcome.names,
        )
    progress.say(f"{manifest.rows:,} rows of teacher logits in {len(manifest.parts)} shards")
    return {"rows": manifest.rows, "shards": len(manifest.parts)}

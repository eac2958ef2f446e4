"""The teacher's knowledge as a table: one row a (row digest), its logits as float16.

Logits carry no temperature: whoever learns from them chooses it. Rows are joined by digest, never by order.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from potstill.errors import UserError

MANIFEST = "manifest.json"


@dataclass(frozen=True)
class Part:
    """One Parquet shard."""

    name: str
    rows: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """What the shards hold and where they come from.

    Outcomes are in the order of the logits, `width` of them a row; of a retrieval there are vectors in their place, the
    text's and the answer's side by side, and no outcomes.
    """

    teacher_digest: str
    dataset_digest: str
    outcomes: tuple[str, ...]
    width: int
    rows: int
    parts: tuple[Part, ...]
    dtype: str = "float16"


@dataclass(frozen=True)
class Batch:
    """Rows of one split: digests and logits `[rows, outcomes]`."""

    split: str
    row: list[str]
    logits: npt.NDArray[np.float32]


def write_signals(
    folder: Path, batches: Iterable[Batch], *, teacher_digest: str, dataset_digest: str, outcomes: tuple[str, ...]
) -> Manifest:
    """Write one shard a batch, each under a temporary name first, then the manifest.

    Raises:
        ValueError: a logit is not finite, or too large for float16.
    """
    parts, width = [], 0
    for number, batch in enumerate(batches):
        parts.append(_write_part(folder, number, batch))
        width = batch.logits.shape[1]
    rows = sum(part.rows for part in parts)
    manifest = Manifest(teacher_digest, dataset_digest, outcomes, width, rows, tuple(parts))
    (folder / MANIFEST).write_text(json.dumps(asdict(manifest), indent=1, ensure_ascii=False), encoding="utf-8")
    return manifest


def _write_part(folder: Path, number: int, batch: Batch) -> Part:
    with np.errstate(over="ignore"):
        logits = batch.logits.astype(np.float16)
    if not np.isfinite(logits).all():
        raise ValueError(f"logits of {batch.split} rows are not finite in float16")
    values = pa.FixedSizeListArray.from_arrays(pa.array(logits.ravel()), logits.shape[1])
    split = pa.array([batch.split] * len(batch.row))
    table = pa.table({"row": pa.array(batch.row), "split": split, "logits": values})
    path = folder / f"part-{number:05d}.parquet"
    draft = path.with_suffix(".tmp")
    pq.write_table(table, draft, compression="zstd")
    draft.rename(path)
    return Part(path.name, len(batch.row), hashlib.sha256(path.read_bytes()).hexdigest())


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a folder of signals."""
    values = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    parts = tuple(Part(**part) for part in values["parts"])
    return Manifest(**values | {"outcomes": tuple(values["outcomes"]), "parts": parts})


def read_signals(folder: Path, rows: list[str]) -> npt.NDArray[np.float32]:
    """Logits `[rows, outcomes]` of the rows asked for, in the order asked, joined by digest.

    Raises:
        UserError: a shard is not what the manifest says, or a row has no logits.
    """
    manifest = read_manifest(folder)
    # The same row may be asked for more than once: what was sold or clicked again is a row again.
    place = {row: i for i, row in enumerate(dict.fromkeys(rows))}
    logits = np.full((len(place), manifest.width), np.nan, dtype=np.float32)
    for table in _checked_parts(folder, manifest):
        values = table["logits"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
        found = [(place[row], i) for i, row in enumerate(table["row"].to_pylist()) if row in place]
        if found:
            to, source = np.array(found).T
            logits[to] = values.reshape(table.num_rows, -1)[source]
    missing = np.isnan(logits).any(axis=1)
    if missing.any():
        first = list(place)[int(missing.argmax())]
        raise UserError(
            f"{folder}: no teacher logits for {missing.sum():,} of {len(place):,} rows, such as {first[:12]}…"
        )
    return logits[[place[row] for row in rows]]


def _checked_parts(folder: Path, manifest: Manifest) -> Iterator[pa.Table]:
    for part in manifest.parts:
        path = folder / part.name
        if not path.is_file():
            raise UserError(f"{path}: this shard of the signals is missing; extract again")
        if hashlib.sha256(path.read_bytes()).hexdigest() != part.sha256:
            raise UserError(f"{path}: this shard is not the one that the manifest names; extract again")
        yield pq.read_table(path, columns=["row", "logits"])

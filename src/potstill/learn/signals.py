"""The teacher's knowledge as a table: one row a (row digest, task), its logits as float16.

Logits carry no temperature: whoever learns from them chooses it. Rows are joined by digest, never by order.

A table is a shelf (a folder, or a place in a bucket) of parts, Parquet files that anyone can read. Each
has a receipt beside it, written last, with its checksum: a part without one that fits is written anew, so that a killed
extraction goes on where it stopped, and several can fill one table side by side. Of two that write the same part, the
first receipt counts, and the other's part goes. `_manifest.json` is there once all parts are. A table's address is the
digest of what decides its content: whoever asks the same teacher about the same rows finds it there.
"""

import hashlib
import json
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from potstill.errors import UserError
from potstill.shelves import shelf_behind
from potstill.store import Shelf, file_digest

# Changes with what a part looks like, so that no old table is taken for a new one.
FORMAT = 4
# What begins with a line, readers of a folder of Parquet pass over.
MANIFEST = "_manifest.json"
# Rows that are joined at a time: memory for this many rows' logits, twice.
BLOCK_ROWS = 65_536
Half = npt.NDArray[np.float16]
Column = Literal["logits", "vector"]


@dataclass(frozen=True)
class Content:
    """What decides a table's content.

    Attributes:
        teacher_digest: of the teacher's folder.
        dataset_digest: of the dataset.
        tasks: name of each task, and its outcomes in the order of the logits; none of a retrieval, whose logits are
            vectors, the text's and the answer's side by side.
        vectors: whether the teacher's pooled vectors are kept too.
        part_rows: rows of the dataset in one part.
    """

    teacher_digest: str
    dataset_digest: str
    tasks: tuple[tuple[str, tuple[str, ...]], ...]
    vectors: bool = False
    part_rows: int = 16_384

    @property
    def address(self) -> str:
        """Name of the table: 64 hexadecimal digits."""
        return hashlib.sha256(json.dumps([FORMAT, asdict(self)]).encode()).hexdigest()


@dataclass(frozen=True)
class Batch:
    """Rows of one split that make a part.

    Attributes:
        split: their split.
        row: digests `[rows]`.
        logits: of all tasks, side by side `[rows, outcomes]`.
        scorer: number of the teacher that said it `[rows]`: 0, or of several cross-fitted ones from 1 on.
        vectors: pooled vectors `[rows, models, width]` of one model for all tasks, or of each task's; none: not kept.
    """

    split: str
    row: Sequence[str]
    logits: npt.NDArray[np.floating[Any]]
    scorer: npt.NDArray[np.int16]
    vectors: npt.NDArray[np.floating[Any]] | None = None


@dataclass(frozen=True)
class Part:
    """The receipt of one Parquet file: of which table, how many rows of the dataset, and its checksum."""

    table: str
    name: str
    rows: int
    width: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """A whole table: its content, the width of all tasks' logits together, and its parts."""

    content: Content
    width: int
    rows: int
    parts: tuple[Part, ...]

    @property
    def named(self) -> set[str]:
        """Names of its files."""
        return {part.name for part in self.parts}


def write_part(table: Shelf, content: Content, number: int, batch: Batch) -> None:
    """Write a part, a row group a task, and then its receipt; where another did so meanwhile, theirs stays.

    Raises:
        ValueError: a logit is not finite, or too large for float16.
    """
    with tempfile.TemporaryDirectory(prefix="potstill-") as scratch:
        draft = Path(scratch, "part.parquet")
        _write_rows(draft, content, batch)
        digest = file_digest(draft)
        # Named by its content, so that two writers never write to one file.
        name = f"part-{number:05d}-{digest[:12]}.parquet"
        part = Part(content.address, name, len(batch.row), batch.logits.shape[1], digest)
        receipt = Path(scratch, "receipt.json")
        receipt.write_text(json.dumps(asdict(part)), encoding="utf-8")
        table.replace(part.name, draft)
        if not table.add(_receipt_name(number), receipt):
            _settle(table, content, number, part, receipt)


def _settle(table: Shelf, content: Content, number: int, part: Part, receipt: Path) -> None:
    """Let the receipt that is there count, unless what it speaks of isn't whole."""
    if not is_written(table, content, number):
        table.replace(_receipt_name(number), receipt)
    elif (told := _receipt(table, number)) and told.name != part.name:
        table.remove(part.name)


def _write_rows(path: Path, content: Content, batch: Batch) -> None:
    widths = [len(names) or batch.logits.shape[1] for _, names in content.tasks]
    logits = np.split(_half(batch.logits, batch.split), np.cumsum(widths)[:-1], axis=1)
    shared = {"row": pa.array(batch.row, pa.string()), "split": pa.array([batch.split] * len(batch.row), pa.string())}
    scorer = pa.array(batch.scorer, pa.int16())
    with pq.ParquetWriter(path, _columns(content), compression="zstd") as file:
        for i, (task, _) in enumerate(content.tasks):
            made = shared | {"task": pa.array([task] * len(batch.row), pa.string()), "teacher": scorer}
            made["logits"] = _lists(logits[i])
            if batch.vectors is not None:
                made["vector"] = _lists(_half(batch.vectors[:, min(i, batch.vectors.shape[1] - 1)], batch.split))
            file.write_table(pa.table(made, schema=_columns(content)))


def _columns(content: Content) -> pa.Schema:
    halves = pa.list_(pa.float16())
    fields = [("row", pa.string()), ("task", pa.string()), ("split", pa.string()), ("teacher", pa.int16())]
    return pa.schema([*fields, ("logits", halves), *([("vector", halves)] if content.vectors else [])])


def _half(values: npt.NDArray[np.floating[Any]], split: str) -> Half:
    with np.errstate(over="ignore"):
        found = values.astype(np.float16)
    if not np.isfinite(found).all():
        raise ValueError(f"logits of {split} rows are not finite in float16")
    return found


def _lists(values: Half) -> pa.ListArray:
    ends = np.arange(0, values.size + 1, values.shape[1], dtype=np.int32)
    return pa.ListArray.from_arrays(pa.array(ends), pa.array(np.ascontiguousarray(values).ravel()))


def is_written(table: Shelf, content: Content, number: int) -> bool:
    """Whether a part of this very table is there, whole."""
    receipt = _receipt(table, number)
    return receipt is not None and receipt.table == content.address and table.digest(receipt.name) == receipt.sha256


def complete(table: Shelf, content: Content, parts: int) -> Manifest | None:
    """Write the manifest if all parts have their receipts; none: some are still to come.

    Receipts are looked at in an order of chance until one is missing. So n extractions of a part each look n · ln n
    times in all, not n², in whatever order they end.
    """
    found: dict[int, Part] = {}
    for number in np.random.default_rng().permutation(parts).tolist():
        receipt = _receipt(table, number)
        if receipt is None or receipt.table != content.address:
            return None
        found[number] = receipt
    told = [found[number] for number in range(parts)]
    manifest = Manifest(content, max(part.width for part in told), sum(part.rows for part in told), tuple(told))
    table.write(MANIFEST, json.dumps(asdict(manifest), indent=1, ensure_ascii=False).encode())
    # A killed writer may have left a part without a receipt, which readers of all Parquet files would take for rows.
    for name in [name for name in table.names() if name.endswith(".parquet") and name not in manifest.named]:
        table.remove(name)
    return manifest


def part_names(table: Shelf, numbers: Iterable[int]) -> list[str]:
    """The files of parts that are written; their names hold their digests."""
    return [json.loads(table.read(_receipt_name(number)))["name"] for number in numbers]


def _receipt_name(number: int) -> str:
    return f"_part-{number:05d}.json"


def _receipt(table: Shelf, number: int) -> Part | None:
    try:
        return Part(**json.loads(table.read(_receipt_name(number))))
    except (OSError, ValueError, TypeError):
        return None


def table_digest(folder: Path, told_by: str = MANIFEST) -> str:
    """Digest of a table: of its manifest, which names the checksum of each part, or of a shard's receipt."""
    return hashlib.sha256(shelf_behind(folder).read(told_by)).hexdigest()


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a table, or of what stands for it.

    Raises:
        UserError: there is none that can be read.
    """
    return manifest_of(shelf_behind(folder))


def manifest_of(table: Shelf) -> Manifest:
    """The manifest of a table; raises as `read_manifest` does."""
    try:
        values = json.loads(table.read(MANIFEST))
        tasks = tuple((task, tuple(names)) for task, names in values["content"]["tasks"])
        content = values["content"] | {"tasks": tasks}
        parts = tuple(Part(**part) for part in values["parts"])
        return Manifest(**values | {"content": Content(**content), "parts": parts})
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{table}/{MANIFEST}: no table of signals, or a broken one; extract again") from error


def read_signals(folder: Path, rows: Sequence[str], column: Column = "logits") -> Half:
    """What the teacher said of the rows asked for, in the order asked, joined by digest.

    It lies in a file without a name, not in memory.

    Args:
        folder: the table, or what stands for it.
        rows: digests; one may come more than once.
        column: logits of all tasks side by side `[rows, outcomes]`, or pooled vectors of the first task's teacher
            `[rows, width]`.

    Raises:
        UserError: a part is not what the manifest says, or a row isn't in the table.
    """
    blocks = (pa.array(rows[start : start + BLOCK_ROWS], pa.string()) for start in range(0, len(rows), BLOCK_ROWS))
    width = read_manifest(folder).width if not rows else 0
    with tempfile.TemporaryFile(prefix="potstill-") as file:
        for block in join_signals(folder, blocks, column):
            file.write(block.tobytes())
            width = block.shape[1]
        file.flush()
        shape = (len(rows), width)
        return np.memmap(file, np.float16, "r", shape=shape) if rows else np.empty(shape, np.float16)


def join_signals(folder: Path, blocks: Iterable[pa.Array], column: Column = "logits") -> Iterator[Half]:
    """The same for each block of digests, in memory that grows with the blocks alone.

    Parts are searched from where the last block was found, round and round: where the blocks come in the order of the
    table, each part is read about once.

    Raises:
        UserError: see `read_signals`.
    """
    table = _Table(shelf_behind(folder), read_manifest(folder), column)
    for block in blocks:
        yield table.find(block)


class _Table:
    """The parts of a table, read one at a time and checked as they are."""

    def __init__(self, shelf: Shelf, manifest: Manifest, column: Column) -> None:
        if column == "vector" and not manifest.content.vectors:
            raise UserError(f"{shelf}: the signals hold no vectors; set signals.vectors: true")
        self._shelf = shelf
        self._remedy = f"remove {shelf}/{MANIFEST} and run again: whole parts are kept"
        self._parts = manifest.parts
        self._groups = 1 if column == "vector" else len(manifest.content.tasks)
        self._column = column
        self._at = 0
        self._read: tuple[int, pa.Array, Half] | None = None

    def find(self, wanted: pa.Array) -> Half:
        """What is said of the rows `[rows, …]`."""
        keys = wanted.unique()
        found: Half | None = None
        missing = np.ones(len(keys), dtype=np.bool_)
        for _ in self._parts:
            rows, values = self._part(self._at)
            place = pc.index_in(rows, value_set=keys)
            here = place.is_valid().to_numpy(zero_copy_only=False)
            to = place.drop_null().to_numpy()
            found = np.empty((len(keys), values.shape[1]), np.float16) if found is None else found
            found[to], missing[to] = values[here], False
            if not missing.any():
                place = pc.index_in(wanted, value_set=keys).to_numpy()
                return np.asarray(found[place])
            self._at = (self._at + 1) % len(self._parts)
        first = keys[int(missing.argmax())].as_py()
        raise UserError(
            f"{self._shelf}: no teacher's view of {missing.sum():,} of {len(keys):,} rows, such as {first[:12]}…"
        )

    def _part(self, number: int) -> tuple[pa.Array, Half]:
        """Digests `[rows]` and values of one part; the last one is kept at hand."""
        if self._read is None or self._read[0] != number:
            self._read = (number, *self._load(self._parts[number]))
        return self._read[1:]

    def _load(self, part: Part) -> tuple[pa.Array, Half]:
        where = f"{self._shelf}/{part.name}"
        try:
            content = self._shelf.read(part.name)
        except OSError as error:
            raise UserError(f"{where}: this part of the signals is missing; {self._remedy}") from error
        if hashlib.sha256(content).hexdigest() != part.sha256:
            raise UserError(f"{where}: this part is not the one that the manifest names; {self._remedy}")
        with pq.ParquetFile(pa.BufferReader(content), pre_buffer=False) as file:
            groups = [file.read_row_group(i, ["row", self._column], use_threads=False) for i in range(self._groups)]
        rows = groups[0]["row"].combine_chunks()
        return rows, np.concatenate([_unlisted(group[self._column]) for group in groups], axis=1)


def _unlisted(column: pa.ChunkedArray) -> Half:
    values: Half = column.combine_chunks().flatten().to_numpy(zero_copy_only=False)
    return values.reshape(len(column), -1)

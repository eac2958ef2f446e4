"""Scoring: a Parquet table of rows in, the same table with the model's answers out, as a stream."""

import re
import tempfile
import threading
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from potstill.bucket import Bucket, is_remote
from potstill.data.formats import Source, parquet_file
from potstill.data.read import find_files
from potstill.edge import EdgeModel
from potstill.errors import UserError
from potstill.outcomes import Classification, Outcome, Part, Retrieval, parts_of
from potstill.progress import Progress
from potstill.store import drafted

PREFIX = "predicted_"
ERROR = f"{PREFIX}error"
CHUNK_ROWS = 512
# Types of an answer's fields; what is not here is a number.
TYPES = {"label": pa.string(), "reply": pa.string(), "answer": pa.string(), "in_scope": pa.bool_()}
SCORED = pa.list_(pa.struct([("answer", pa.string()), ("confidence", pa.float64())]))


@dataclass(frozen=True)
class Scored:
    """How many rows there were, and how many of them have no answer."""

    rows: int
    refused: int


def score(edge: Path, source: str, target: str, threads: int) -> Scored:
    """Answer each row of the Parquet files at a location, in the order of their names.

    The table keeps its columns and its order and gains `predicted_…`, one a field of the answer; probabilities are a
    list in the order that the column's metadata names. A row that can't be read has no answer, and says why in
    `predicted_error`. Memory doesn't grow with the rows.

    Args:
        edge: the model's folder.
        source: what is read: a file, a folder or a glob, here or as s3://….
        target: file to write, here or as s3://…, which is first written here; it appears when it is whole.
        threads: each has a session of its own.

    Raises:
        UserError: the source is no Parquet, lacks the model's text, or has a column of the target's already; a place
            can't be read or written.
    """
    model, files = EdgeModel(edge), _files(source)
    schema, rows = _surveyed(files)
    _check(model, schema)
    fields = [field for part in parts_of(model.outcome) for field in _fields(part)]
    out = pa.schema([*schema, *fields, pa.field(ERROR, pa.string())])
    progress, done, refused = Progress(rows, "row"), 0, 0
    try:
        with _whole(target) as draft, pq.ParquetWriter(draft, out, compression="zstd") as writer:
            for batch, errors in _answered(edge, threads, files, schema, out):
                writer.write_batch(batch)
                done, refused = done + len(batch), refused + errors
                progress.at(done)
    except OSError as error:
        raise UserError(f"--output {target}: can't write there: {error.strerror or error}") from error
    return Scored(done, refused)


@contextmanager
def _whole(target: str) -> Iterator[Path]:
    """Yield a file to write, which takes the target's place when the block ends well."""
    if not is_remote(target):
        if Path(target).is_dir():
            raise UserError(f"--output {target}: is a folder; name a file in it")
        with drafted(Path(target)) as draft:
            yield draft
        return
    place = re.fullmatch(r"(s3://[^/]+(?:/.+)?)/([^/]+)", target)
    if place is None:
        raise UserError(f"--output {target}: names no file; expected s3://bucket/folder/scored.parquet")
    with tempfile.TemporaryDirectory(prefix="potstill-") as scratch:
        draft = Path(scratch, "scored.parquet")
        yield draft
        Bucket(place[1]).replace(place[2], draft)


def _files(source: str) -> list[Source]:
    """The Parquet files at a location."""
    files = [file for file in find_files(source) if file.suffix.lower() == ".parquet"]
    if not files:
        raise UserError(f"--input {source}: no *.parquet there")
    return files


def _surveyed(files: Sequence[Source]) -> tuple[pa.Schema, int]:
    """The schema that all files have, and how many rows they hold."""
    schema, rows = None, 0
    for path in files:
        try:
            with parquet_file(path) as file:
                found, rows = file.schema_arrow, rows + file.metadata.num_rows
        except (OSError, pa.ArrowInvalid) as error:
            raise UserError(f"--input {path}: can't be read as Parquet: {error}") from error
        if not found.equals(schema := schema or found):
            raise UserError("--input: its files have different columns; score them one by one")
    return schema, rows


def _check(model: EdgeModel, schema: pa.Schema) -> None:
    """Refuse columns in which the model finds no text, and those that would stand twice."""
    taken = [name for name in schema.names if name.startswith(PREFIX)]
    if taken:
        raise UserError(f"--input: it has a column {taken[0]} already; rename it, for the answers go by such names")
    if not set(model.text_columns) & set(schema.names):
        wanted = " or ".join(map(repr, model.text_columns))
        raise UserError(f"--input: no text in {wanted}; there is {', '.join(schema.names)}")


def _answered(
    edge: Path, threads: int, files: Sequence[Source], schema: pa.Schema, out: pa.Schema
) -> Iterator[tuple[pa.RecordBatch, int]]:
    """Chunks with their answers, in order, and how many rows of each have none; a few are on their way at once."""
    own = threading.local()

    def answer(chunk: pa.RecordBatch) -> tuple[pa.RecordBatch, int]:
        if not hasattr(own, "model"):
            own.model = EdgeModel(edge)
        return _with_answers(own.model, chunk, out)

    waiting: deque[Future[tuple[pa.RecordBatch, int]]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        for chunk in _chunks(files):
            waiting.append(pool.submit(answer, chunk.cast(schema)))
            if len(waiting) > 2 * threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _chunks(files: Sequence[Source]) -> Iterator[pa.RecordBatch]:
    """The rows of all files, some at a time."""
    for path in files:
        try:
            with parquet_file(path) as file:
                yield from file.iter_batches(CHUNK_ROWS)
        except (OSError, pa.ArrowInvalid) as error:
            raise UserError(f"--input {path}: its rows can't be read: {error}") from error


def _with_answers(model: EdgeModel, chunk: pa.RecordBatch, out: pa.Schema) -> tuple[pa.RecordBatch, int]:
    columns = [name for name in (*model.text_columns, *model.features.names) if name in chunk.schema.names]
    rows = chunk.select(columns).to_pylist()
    errors: list[str | None] = [None] * len(rows)
    answers: list[dict[str, Any] | None]
    try:
        answers = list(model.answer(rows))
    except ValueError:
        answers = [None] * len(rows)
        for i, row in enumerate(rows):
            try:
                (answers[i],) = model.answer([row])
            except ValueError as error:
                errors[i] = str(error)
    parts = parts_of(model.outcome)
    found = [values for part in parts for values in _columns(part, answers)]
    made = [pa.array(values, out.field(len(chunk.schema) + i).type) for i, values in enumerate([*found, errors])]
    return pa.RecordBatch.from_arrays([*chunk.columns, *made], schema=out), sum(e is not None for e in errors)


def _fields(part: Part) -> list[pa.Field]:
    """The columns that a task's answers fill."""
    return [_field(part.outcome, part.named(name), name) for name in part.outcome.fields]


def _field(outcome: Outcome, title: str, name: str) -> pa.Field:
    title = f"{PREFIX}{title}"
    if isinstance(outcome, Classification) and name == "probabilities":
        return pa.field(title, pa.list_(pa.float64())).with_metadata(_numbered(outcome.names))
    if isinstance(outcome, Retrieval) and name == "answers":
        return pa.field(title, SCORED)
    return pa.field(title, TYPES.get(name, pa.float64()))


def _numbered(names: Sequence[str]) -> dict[str, str]:
    return {str(i): name for i, name in enumerate(names)}


def _columns(part: Part, answers: Sequence[Mapping[str, Any] | None]) -> Iterator[list[Any]]:
    own = [answer[part.task] if answer and part.task else answer for answer in answers]
    for name in part.outcome.fields:
        values = [answer and answer[name] for answer in own]
        if isinstance(part.outcome, Classification) and name == "probabilities":
            values = [value and list(value.values()) for value in values]
        elif isinstance(part.outcome, Retrieval) and name == "answers":
            values = [value and [{"answer": a, "confidence": c} for a, c in value.items()] for value in values]
        yield values

"""Rows of any table as they come, column → value: Parquet, CSV, JSONL."""

import csv
import io
import json
import random
import sys
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any, TextIO

import pyarrow as pa

from potstill.data.formats import Source, opened, parquet_file
from potstill.data.read import find_files
from potstill.errors import UserError

BATCH_ROWS = 64
STDIN = Path("-")
# A row's number within its file, from 1, and its columns.
Numbered = tuple[int, dict[str, Any]]


def sample(location: str, most: int, seed: int) -> tuple[list[dict[str, Any]], int]:
    """At most so many rows of all files at a location, each as likely as any (Vitter 1985), and how many there are.

    Which rows are taken depends on their number and the seed alone. Memory doesn't grow with the rows.

    Raises:
        UserError: nothing is there, or a row can't be read; names the file.
    """
    draw = random.Random(seed)  # noqa: S311 - no secret
    kept: list[dict[str, Any]] = []
    seen = 0
    for file in find_files(location):
        for _, row in _named(file):
            seen += 1
            if len(kept) < most:
                kept.append(row)
            elif (place := draw.randrange(seen)) < most:
                kept[place] = row
    return kept, seen


def _named(file: Source) -> Iterator[Numbered]:
    try:
        for batch in batches(file):
            yield from batch
    except UserError as error:
        told = str(error)
        raise UserError(told if told.startswith(str(file)) else f"{file}: {told}") from error


def batches(path: Source) -> Iterator[list[Numbered]]:
    """The rows of a file, or of JSONL on stdin (`-`), some at a time; one at a time where they come live.

    Raises:
        UserError: it can't be read, or one of its lines is no JSON object.
    """
    try:
        if path.suffix.lower() == ".parquet":
            yield from _parquet(path)
            return
        with nullcontext(sys.stdin) if path == STDIN else _text(path) as lines:
            # What follows a live stream must not wait until a batch is full.
            size = BATCH_ROWS if lines.seekable() else 1
            rows = enumerate(csv.DictReader(lines), start=1) if path.suffix.lower() == ".csv" else _objects(lines)
            yield from _in_batches(rows, size)
    except (OSError, pa.ArrowException, csv.Error, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or str(error).splitlines()[0]
        raise UserError(f"{path}: can't be read: {why}") from error


def _text(path: Source) -> TextIO:
    return io.TextIOWrapper(opened(path), encoding="utf-8-sig", newline="")


def _parquet(path: Source) -> Iterator[list[Numbered]]:
    number = 0
    with parquet_file(path) as file:
        for table in file.iter_batches(BATCH_ROWS):
            yield [(number + i, row) for i, row in enumerate(table.to_pylist(), start=1)]
            number += table.num_rows


def _objects(lines: TextIO) -> Iterator[Numbered]:
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise UserError(f"item {number}: not valid JSON: {error}") from error
        if not isinstance(row, dict):
            raise UserError(f"item {number}: expected an object {{…}}, found a {type(row).__name__}")
        yield number, row


def _in_batches(rows: Iterable[Numbered], size: int) -> Iterator[list[Numbered]]:
    batch: list[Numbered] = []
    for row in rows:
        batch.append(row)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch

"""Parquet, CSV and JSONL, one file at a time: each becomes a stream of tables with the same string columns."""

import csv
import difflib
import io
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, Literal

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from potstill.bucket import RemoteFile
from potstill.errors import UserError

SUFFIXES = (".parquet", ".csv", ".jsonl", ".ndjson")
BATCH_ROWS = 8192
# A CSV row can't be longer than a block, and pyarrow reads some 32 blocks ahead: 1 MiB keeps memory low.
CSV_BLOCK_BYTES = 1 << 20
# Keys may be left out of single JSON lines, so a column exists when any of the first lines has it.
JSON_LINES_FOR_COLUMNS = 1000
TEXT, LABEL, FEATURE = "text_", "label_", "feature_"
# A file on this machine, or an object in a bucket.
Source = Path | RemoteFile
Kind = Literal["text", "name", "number", "share", "date"]
EXPECTED: dict[Kind, str] = {
    "text": "text",
    "name": "text, a whole number or a boolean",
    "number": "a number, or text that can be read as one",
    "share": "a number or a boolean, or text that can be read as one",
    "date": "a date, or text that can be read as one",
}
COUNTABLE, FRACTIONAL, TRUE_OR_FALSE = ("name", "number", "share"), ("number", "share"), ("name", "share")


@dataclass(frozen=True)
class Columns:
    """Source columns that are read: the texts, the label, and those that the recipe names besides.

    Attributes:
        text: one or more; several are joined.
        label: of the tasks, one each. Where there are several, a file may lack some of the texts and labels.
        split: whose values never cross the split; none: each row for itself.
        time: by which the rows are divided.
        group: whose rows are compared with each other.
        weight: says how much a row counts.
        holds: what each label is: a name, a number, a share of yes, or free text.
        features: columns besides text → what they hold.
        pair: whether the last text is set apart from the others.
        bands: of each label, the numbers that divide it into classes; none: it is taken as it is.
        scales: of each label, which numbers may be divided into bands.
        missing: texts that stand for a missing feature.
    """

    text: tuple[str, ...]
    label: tuple[str, ...]
    split: str | None = None
    time: str | None = None
    group: str | None = None
    weight: str | None = None
    holds: tuple[Kind, ...] = ("name",)
    features: Mapping[str, Kind] = field(default_factory=dict)
    pair: bool = False
    bands: tuple[tuple[float, ...], ...] = ((),)
    scales: tuple[str, ...] = ("log",)
    missing: tuple[str, ...] = ()

    @property
    def number(self) -> bool:
        """Whether the one label is a number."""
        return len(self.label) == 1 and self.holds[0] in FRACTIONAL and not self.bands[0]

    @property
    def closed(self) -> bool:
        """Whether the one label is a class: numbers and texts come in any number, and any may be new."""
        return len(self.label) == 1 and self.classes[0]

    @property
    def classes(self) -> tuple[bool, ...]:
        """Whether each label is a class."""
        return tuple(kind == "name" or bool(ends) for kind, ends in zip(self.holds, self.bands, strict=True))

    @property
    def several(self) -> bool:
        """Whether there is more than one task."""
        return len(self.label) > 1

    def sources(self) -> dict[str, str]:
        """Our name of each column (`text_0` …, `label_0` …, `split` …) → its name in the source."""
        named = {f"{TEXT}{i}": name for i, name in enumerate(self.text)}
        named |= {f"{LABEL}{i}": name for i, name in enumerate(self.label)}
        named |= {FEATURE + name: name for name in self.features}
        others = {"split": self.split, "time": self.time, "group": self.group, "weight": self.weight}
        return named | {ours: theirs for ours, theirs in others.items() if theirs is not None}

    def kinds(self) -> dict[str, Kind]:
        """Our name of each column → what it may hold."""
        kinds: dict[str, Kind] = {ours: "text" if ours.startswith(TEXT) else "name" for ours in self.sources()}
        kinds |= {f"{LABEL}{i}": kind for i, kind in enumerate(self.holds)} | {"time": "date", "weight": "number"}
        return kinds | {FEATURE + name: kind for name, kind in self.features.items()}


def opened(path: Source) -> BinaryIO:
    """A source's bytes, to be read from any place on."""
    return path.open("rb") if isinstance(path, Path) else path.open_bytes()


@contextmanager
def parquet_file(path: Source) -> Iterator[pq.ParquetFile]:
    """A Parquet file, of which nothing is fetched ahead.

    Arrow would do that in threads of its own. What one of them still holds of a Python file when Python ends aborts the
    process, after its work is done.
    """
    with opened(path) as content, pq.ParquetFile(content, pre_buffer=False) as file:
        yield file


def read_tables(path: Source, columns: Columns) -> Iterator[pa.Table]:
    """Stream a file as tables of at most some thousand rows: `text_0` …, `label_0` … and what else is asked.

    All are strings: numbers and booleans become their digits or `true`/`false`. Nulls stay null.

    Raises:
        UserError: the file is empty, broken or not UTF-8, a column is missing or of the wrong type.
    """
    _refuse_empty(path)
    if path.suffix.lower() == ".parquet":
        return _read_parquet(path, columns)
    if path.suffix.lower() == ".csv":
        return _read_csv(path, columns)
    return _read_json_lines(path, columns)


def names_in(path: Source) -> list[str]:
    """Names of a file's columns.

    Raises:
        UserError: it can't be read.
    """
    _refuse_empty(path)
    try:
        if path.suffix.lower() == ".parquet":
            with parquet_file(path) as file:
                return list(file.schema_arrow.names)
        return _csv_names(path) if path.suffix.lower() == ".csv" else _json_names(path)
    except (pa.ArrowException, csv.Error, UnicodeDecodeError, OSError) as error:
        raise UserError(f"{path}: can't be read: {_short(error)}") from error


def _refuse_empty(path: Source) -> None:
    try:
        size = path.stat().st_size if isinstance(path, Path) else path.size_bytes
    except OSError as error:
        raise UserError(f"{path}: can't be read: {error.strerror}") from error
    if size == 0:
        raise UserError(f"{path}: the file is empty (0 bytes)")


def found_in(path: Source, names: Sequence[str], columns: Columns) -> dict[str, str]:
    """Those of the columns that a file has, ours → theirs.

    A row of several tasks needs one text and one label only; features may be missing.

    Raises:
        UserError: it lacks one that it needs; names the nearest, and those that exist. Or it has one twice.
    """
    named = {ours: theirs for ours, theirs in columns.sources().items() if theirs in names}
    for ours, wanted in columns.sources().items():
        found = names.count(wanted)
        if found > 1:
            raise UserError(f"{path}: column {wanted!r} appears {found} times; give each column its own name")
        if found == 1 or (columns.several and _spare(ours, named)):
            continue
        nearest = difflib.get_close_matches(wanted, names, n=1, cutoff=0.5)
        hint = f"; did you mean {nearest[0]!r}?" if nearest else ""
        if len(names) == 1 and any(mark in names[0] for mark in ";\t|"):
            hint = "; values must be separated by commas"
        role = ours.split("_")[0]
        raise UserError(f"{path}: no column {wanted!r} for the {role}{hint} (columns: {', '.join(names[:30])})")
    return named


def _spare(ours: str, named: Mapping[str, str]) -> bool:
    """Whether a file of several tasks may lack one of our columns."""
    if ours.startswith(FEATURE):
        return True
    return any(ours.startswith(kind) and any(name.startswith(kind) for name in named) for kind in (TEXT, LABEL))


def _short(error: BaseException) -> str:
    """The first line of a library's message, cut to a readable length."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0] if len(lines[0]) <= 200 else f"{lines[0][:200]}…"


# Parquet


def _read_parquet(path: Source, columns: Columns) -> Iterator[pa.Table]:
    kinds = columns.kinds()
    try:
        with parquet_file(path) as file:
            named = found_in(path, file.schema_arrow.names, columns)
            for batch in file.iter_batches(BATCH_ROWS, columns=sorted(set(named.values())), use_threads=False):
                found = {
                    ours: _strings(batch.column(theirs), kinds[ours], f"{path}: {ours.split('_')[0]} column {theirs!r}")
                    for ours, theirs in named.items()
                }
                yield _completed(found, columns)
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{path}: can't be read as Parquet (cut short or corrupt?): {_short(error)}") from error


def _completed(found: dict[str, pa.Array], columns: Columns) -> pa.Table:
    """All columns, those that the file lacks as nulls."""
    lacking = pa.nulls(len(next(iter(found.values()))), pa.string())
    return pa.table({ours: found.get(ours, lacking) for ours in columns.sources()})


def _strings(array: pa.Array, kind: Kind, where: str) -> pa.Array:
    """A Parquet column as valid UTF-8 strings, if its type is one that the kind may have."""
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    found = array.type
    if pa.types.is_floating(found) and kind in COUNTABLE:
        array = pc.if_else(pc.is_nan(array), None, array)
        if kind in FRACTIONAL:
            return array.cast(pa.float64()).cast(pa.string())
        if not pc.all(pc.is_finite(array), min_count=0).as_py():
            raise UserError(f"{where} holds infinite numbers; expected names or whole numbers")
        # pandas turns whole numbers into floats as soon as one is missing.
        if not pc.all(pc.equal(pc.floor(array), array), min_count=0).as_py():
            raise UserError(f"{where} holds fractions; expected names or whole numbers")
        return array.cast(pa.int64()).cast(pa.string())
    textual = pa.types.is_string(found) or pa.types.is_large_string(found) or pa.types.is_string_view(found)
    countable = pa.types.is_integer(found) or (pa.types.is_boolean(found) and kind in TRUE_OR_FALSE)
    dated = pa.types.is_temporal(found) and kind == "date"
    exact = pa.types.is_decimal(found) and kind in FRACTIONAL
    if not (textual or pa.types.is_null(found) or dated or exact or (countable and kind in COUNTABLE)):
        raise UserError(f"{where} holds {found}; expected {EXPECTED[kind]}")
    array = array.cast(pa.string())
    array.validate(full=True)
    return array


# CSV


def _read_csv(path: Source, columns: Columns) -> Iterator[pa.Table]:
    try:
        named = found_in(path, _csv_names(path), columns)
        content = opened(path)
        reader = pyarrow.csv.open_csv(
            content,
            # One thread, so that errors name the row.
            read_options=pyarrow.csv.ReadOptions(block_size=CSV_BLOCK_BYTES, use_threads=False),
            parse_options=pyarrow.csv.ParseOptions(newlines_in_values=True),
            convert_options=pyarrow.csv.ConvertOptions(
                include_columns=sorted(set(named.values())),
                column_types=dict.fromkeys(named.values(), pa.string()),
                strings_can_be_null=False,
            ),
        )
        with content, reader:
            for batch in reader:
                yield _completed({ours: batch.column(theirs) for ours, theirs in named.items()}, columns)
    except (pa.ArrowException, csv.Error, UnicodeDecodeError, OSError) as error:
        problem = _short(error)
        if "straddl" in problem:
            problem = "a row is longer than 1 MiB; is a quotation mark left open?"
        raise UserError(_bad_utf8(path) or f"{path}: not a valid CSV: {problem}") from error


def _csv_names(path: Source) -> list[str]:
    with io.TextIOWrapper(opened(path), encoding="utf-8-sig", newline="") as file:
        return next((names for names in csv.reader(file) if names), [])


def _bad_utf8(path: Source) -> str | None:
    """Where a file stops being UTF-8, in words; None when it is UTF-8 throughout."""
    offset = 0
    with opened(path) as file:
        for number, line in enumerate(file, start=1):
            try:
                line.decode()
            except UnicodeDecodeError as error:
                where = f"line {number} holds 0x{line[error.start]:02x} at byte {offset + error.start}"
                return f"{path}: not UTF-8: {where}; save the file as UTF-8"
            offset += len(line)
    return None


# JSONL


def _read_json_lines(path: Source, columns: Columns) -> Iterator[pa.Table]:
    # Line by line, because pyarrow's reader refuses a label that is a number in one block and text in the next,
    # and names no line when something is wrong.
    named, kinds = columns.sources(), columns.kinds()
    try:
        names = _json_names(path)
        if names:
            found_in(path, names, columns)
        records = _json_objects(path)
        while chunk := list(islice(records, BATCH_ROWS)):
            yield pa.table(
                {
                    ours: pa.array(
                        [_string(record.get(theirs), kinds[ours], f"{path}:{n}: {theirs}") for n, record in chunk],
                        pa.string(),
                    )
                    for ours, theirs in named.items()
                }
            )
    except OSError as error:
        raise UserError(f"{path}: can't be read: {error.strerror}") from error


def _json_names(path: Source) -> list[str]:
    seen: dict[str, None] = {}
    for _, record in islice(_json_objects(path), JSON_LINES_FOR_COLUMNS):
        seen |= dict.fromkeys(record)
    return list(seen)


def _json_objects(path: Source) -> Iterator[tuple[int, dict[str, Any]]]:
    """Each line's number, from 1, and its object; blank lines are skipped."""
    with opened(path) as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                record = json.loads(line.decode("utf-8-sig" if number == 1 else "utf-8"))
            except UnicodeDecodeError as error:
                raise UserError(
                    f"{path}:{number}: not UTF-8: 0x{line[error.start]:02x}; save the file as UTF-8"
                ) from error
            except json.JSONDecodeError as error:
                hint = "; one object a line, not a list of them" if line.lstrip().startswith(b"[") else ""
                raise UserError(f"{path}:{number}: not valid JSON: {error.msg} (column {error.colno}){hint}") from error
            except (RecursionError, ValueError) as error:
                raise UserError(f"{path}:{number}: not valid JSON: {_short(error)}") from error
            if not isinstance(record, dict):
                raise UserError(f"{path}:{number}: expected an object {{…}} a line, found a {type(record).__name__}")
            yield number, record


def _string(value: Any, kind: Kind, where: str) -> str | None:
    """A JSON value as a string, if its type is one that the kind may have."""
    if isinstance(value, str):
        if not value.isascii() and any("\ud800" <= sign <= "\udfff" for sign in value):
            raise UserError(f"{where}: half of a surrogate pair, which is no text; mend or drop the line")
        return value
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if kind in TRUE_OR_FALSE and isinstance(value, bool):
        return "true" if value else "false"
    if kind in COUNTABLE and not isinstance(value, bool):
        if isinstance(value, int) or (isinstance(value, float) and value.is_integer()):
            return str(int(value))
        if kind in FRACTIONAL and isinstance(value, float):
            return repr(value)
    raise UserError(f"{where}: expected {EXPECTED[kind]}, found {json.dumps(value)[:80]}")

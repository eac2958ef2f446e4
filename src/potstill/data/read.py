"""Where the rows are: a file, a folder or a glob becomes one stream of batches, in the order of file names."""

import bisect
import difflib
import functools
import glob
import itertools
import math
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from potstill.bucket import find_objects, is_remote
from potstill.data.formats import FEATURE, LABEL, SUFFIXES, TEXT, Columns, Kind, Source, names_in, read_tables
from potstill.data.item_weeks import check_sales
from potstill.errors import UserError
from potstill.inputs import is_missing, join_texts, name_of
from potstill.metrics import meanings_of
from potstill.outcomes import Classification, Outcome, Rate, Retrieval, Value, fits, join_label
from potstill.recipe import SEVERAL, Data, Task
from potstill.store import resolve

SOURCE = "source"


@dataclass(frozen=True)
class Batch:
    """Some rows that stand one after the other in a file.

    Attributes:
        file: path of the file.
        first_row: number of the batch's first row within the file, from 1; a CSV's header is no row.
        table: string columns `text`, `label` (of several tasks joined) and what else the recipe names; nulls where the
            source has none.
    """

    file: str
    first_row: int
    table: pa.Table


def columns_of(data: Data, tasks: dict[str, Task]) -> Columns:
    """The source columns that a recipe reads.

    Raises:
        UserError: a column that tells the outcome is to be an input too, or the task names what isn't there.
    """
    for name, task in tasks.items():
        _check_task(data, f"tasks.{name}", task)
    labels = tuple(task.label for task in tasks.values())
    twice = [label for label in labels if labels.count(label) > 1]
    if twice:
        raise UserError(f"column {twice[0]!r} is the label of two tasks")
    given = data.features
    kinds: list[tuple[Kind, list[str]]] = [
        ("number", given.numeric),
        ("date", given.dates),
        ("name", given.categorical),
    ]
    features = {name: kind for kind, names in kinds for name in names}
    holds: dict[str, Kind] = {
        Classification.kind: "name",
        Rate.kind: "share",
        Value.kind: "number",
        Retrieval.kind: "text",
    }
    return Columns(
        tuple(data.text),
        labels,
        split=data.split.by,
        time=data.split.time,
        group=data.group,
        weight=next(iter(tasks.values())).weighing if len(tasks) == 1 else None,
        holds=tuple("number" if task.bands else holds[task.kind] for task in tasks.values()),
        features=features,
        pair=data.pair,
        bands=tuple(tuple(task.bands) for task in tasks.values()),
        scales=tuple(task.scale for task in tasks.values()),
        missing=tuple(given.missing),
    )


def unlabelled(columns: Columns) -> Columns:
    """The columns of rows without a label: texts and features."""
    return Columns(
        columns.text,
        (),
        holds=(),
        features=columns.features,
        pair=columns.pair,
        bands=(),
        scales=(),
        missing=columns.missing,
    )


def _check_task(data: Data, where: str, task: Task) -> None:
    for column, what in ((task.label, "the label"), (task.of, "a rate's tries"), (task.weight, "the weight")):
        if column in (*data.text, *data.features.names):
            role = "the text" if column in data.text else "a feature"
            raise UserError(f"column {column!r} can't be both {role} and {what}; see data and tasks")
    for knob, names in (("reference", task.reference), ("season", [task.season] if task.season else [])):
        for name in names:
            if name not in data.features.numeric:
                raise UserError(f"{where}.{knob}: {name!r} is not among data.features.numeric")
    _refuse_unknown_metric(data, where, task)


def _refuse_unknown_metric(data: Data, where: str, task: Task) -> None:
    kinds: dict[str, Outcome] = {
        Classification.kind: Classification(()),
        Rate.kind: Rate(bid=task.bid, grouped=data.group is not None),
        Retrieval.kind: Retrieval(),
        Value.kind: Value(0, 1, task.bins, task.scale, task.smoothing, task.service_level),
    }
    known = [name for name, meaning in meanings_of(kinds[task.kind]).items() if meaning.may_decide]
    if task.decides is not None and task.decides not in known:
        raise UserError(f"{where}.decides: {task.decides!r} can't decide here; one of these can: {', '.join(known)}")


def sources_of(data: Data) -> dict[str, str]:
    """Where the rows come from: `source`, or `train`, `test` and perhaps `validation` → location."""
    if data.source is not None:
        return {SOURCE: data.source}
    given = {"train": data.train, "validation": data.validation, "test": data.test}
    return {name: location for name, location in given.items() if location is not None}


def find_files(location: str) -> list[Source]:
    """The files behind a path, a folder (searched through) or a glob, here or in a bucket, or behind several of these.

    Those of each are in order of names.

    In folders and globs, other kinds of files are passed over; in folders hidden ones (`.x`, `_x`) too.

    Raises:
        UserError: nothing is there, nothing of a kind that can be read, or it isn't a local path.
    """
    return [file for place in location.split(SEVERAL) for file in _files_at(resolve(place))]


def _files_at(location: str) -> list[Source]:
    if is_remote(location):
        return _objects_at(location)
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", location):
        raise UserError(f"{location}: only local files and s3:// are read, with folders and globs; copy the data here")
    path = Path(location)
    try:
        if path.is_file():
            if path.suffix.lower() not in SUFFIXES:
                raise UserError(f"{path}: unknown kind of file; expected one of {', '.join(SUFFIXES)}")
            return [path]
        # Path.glob takes no absolute pattern.
        matches = [path] if path.is_dir() else [Path(name) for name in glob.glob(location, recursive=True)]  # noqa: PTH207
        if not matches:
            raise UserError(f"{location}: no such file, folder or match (from {Path.cwd()})")
        files = {file for match in matches for file in (_inside(match) if match.is_dir() else [match])}
    except OSError as error:
        raise UserError(f"{location}: can't be read: {error.strerror}") from error
    readable: list[Source] = [*sorted(file for file in files if file.suffix.lower() in SUFFIXES)]
    if not readable:
        raise UserError(f"{location}: holds no file ending in {', '.join(SUFFIXES)}")
    return readable


def _objects_at(location: str) -> list[Source]:
    found = find_objects(location)
    if not found:
        raise UserError(f"{location}: no such object, folder or match")
    within = location.rstrip("/")
    readable: list[Source] = [
        file for file in found if file.suffix.lower() in SUFFIXES and not _is_hidden(str(file), within)
    ]
    if not readable:
        raise UserError(f"{location}: holds no object ending in {', '.join(SUFFIXES)}")
    return readable


def _is_hidden(file: str, within: str) -> bool:
    """Whether an object below a folder is one of those that writers of datasets leave."""
    below = file.removeprefix(within) if file.startswith(f"{within}/") else ""
    return any(part.startswith((".", "_")) for part in below.split("/"))


def _inside(folder: Path) -> list[Path]:
    """Files anywhere below a folder, without the hidden ones that writers of datasets leave."""
    return [
        file
        for file in folder.rglob("*")
        if file.is_file() and not any(part.startswith((".", "_")) for part in file.relative_to(folder).parts)
    ]


def stream_batches(location: str, columns: Columns) -> Iterator[Batch]:
    """Stream all rows behind a location; memory holds one batch at a time.

    Raises:
        UserError: see `find_files` and `potstill.data.formats.read_tables`.
    """
    for path in find_files(location):
        row = 1
        for table in read_tables(path, columns):
            yield Batch(str(path), row, _joined(_as_served(table, columns), columns))
            row += table.num_rows


def stream_texts(location: str, text: Sequence[str], pair: bool) -> Iterator[str]:
    """The joined text of each row behind a location, the last column set apart if it is of a pair; empty ones left out.

    Raises:
        UserError: see `stream_batches`.
    """
    columns = Columns(tuple(text), ())
    for path in find_files(location):
        for table in read_tables(path, columns):
            for row in zip(*(table[name].to_pylist() for name in columns.sources()), strict=True):
                if joined := join_texts(row, pair):
                    yield joined


def _as_served(table: pa.Table, columns: Columns) -> pa.Table:
    """The table with its names, and what stands for a missing feature, read as a service reads them."""
    kinds = columns.kinds()
    for place, ours in enumerate(table.column_names):
        read: Callable[[str], str | None] | None = name_of if kinds[ours] == "name" else None
        if ours.startswith(FEATURE) and columns.missing:
            read = functools.partial(_present, kind=kinds[ours], missing=columns.missing)
        if read is not None:
            found = [None if value is None else read(value) for value in table[ours].to_pylist()]
            table = table.set_column(place, ours, pa.array(found, pa.string()))
    return table


def _present(value: str, kind: Kind, missing: Sequence[str]) -> str | None:
    """A feature, none where it stands for a missing one."""
    if is_missing(value, missing):
        return None
    return name_of(value) if kind == "name" else value


def _joined(table: pa.Table, columns: Columns) -> pa.Table:
    """The table with its text columns as one, `text`, and its labels likewise, `label`."""

    def joined(prefix: str, join: Callable[[Sequence[str]], str]) -> tuple[list[str], pa.Array]:
        names = [ours for ours in columns.sources() if ours.startswith(prefix)]
        if not names:
            return names, pa.nulls(table.num_rows, pa.string())
        if len(names) == 1:
            return names, table[names[0]]
        rows = zip(*(table[name].to_pylist() for name in names), strict=True)
        return names, pa.array([join(row) for row in rows], pa.string())

    for i, (bands, scale) in enumerate(zip(columns.bands, columns.scales, strict=True)):
        if bands:
            found = [label and _band(label, bands, scale) for label in table[f"{LABEL}{i}"].to_pylist()]
            place = table.column_names.index(f"{LABEL}{i}")
            table = table.set_column(place, f"{LABEL}{i}", pa.array(found, pa.string()))
    texts, text = joined(TEXT, lambda row: join_texts(row, columns.pair))
    labels, label = joined(LABEL, lambda row: join_label([(value or "").strip() for value in row]))
    rest = table.drop_columns([*texts, *labels])
    return pa.table({"text": text, "label": label} | {name: rest[name] for name in rest.column_names})


def band_names(bands: Sequence[float]) -> list[str]:
    """Names of the classes into which numbers divide a number, the lowest first; a class holds its lower end."""
    between = [f"{low:.10g} to {high:.10g}" for low, high in itertools.pairwise(bands)]
    return [f"below {bands[0]:.10g}", *between, f"from {bands[-1]:.10g}"]


def _band(label: str, bands: Sequence[float], scale: str) -> str:
    """The class of a number; what is none, or not on the scale, stays as it is, to be set aside."""
    try:
        number = float(label)
    except ValueError:
        return label
    fit = math.isfinite(number) and bool(fits(number, scale))
    return band_names(bands)[bisect.bisect_right(bands, number)] if fit else label


def refuse_unknown_never(data: Data) -> None:
    """Refuse a column in `data.never` that no file has: misspelt, it would guard nothing.

    Raises:
        UserError: names the column and the nearest that there is.
    """
    if not data.never:
        return
    known = {name for location in sources_of(data).values() for file in find_files(location) for name in names_in(file)}
    for name in data.never:
        if name not in known:
            raise UserError(f"data.never: no file has a column {name!r}{_nearest(name, known)}")


def _nearest(name: str, known: Iterable[str]) -> str:
    nearest = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"; did you mean {nearest[0]!r}?" if nearest else ""


def check_source(data: Data, tasks: dict[str, Task]) -> None:
    """A cheap look before any work: every location exists, and its first file opens and has the columns.

    Raises:
        UserError: what is wrong, in one line.
    """
    columns = columns_of(data, tasks)
    refuse_unknown_never(data)
    if data.out_of_scope:
        next(stream_texts(data.out_of_scope, data.text, data.pair), None)
    if data.unlabelled:
        next(stream_batches(data.unlabelled, unlabelled(columns)), None)
    for location in sources_of(data).values():
        files = find_files(location)
        if data.item_weeks:
            check_sales(files[0], data.item_weeks)
        elif columns.several:
            _refuse_lacking(location, files, columns)
        else:
            next(read_tables(files[0], columns), None)


def _refuse_lacking(location: str, files: Sequence[Source], columns: Columns) -> None:
    """Refuse files of which none has one of the columns: each may lack some, but a misspelt name is in none."""
    known = {name for file in files for name in names_in(file)}
    for ours, theirs in columns.sources().items():
        if ours.startswith((TEXT, LABEL, FEATURE)) and theirs not in known:
            raise UserError(f"{location}: no file has a column {theirs!r}{_nearest(theirs, known)}")
    for file in files:
        next(read_tables(file, columns), None)

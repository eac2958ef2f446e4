"""The `dataset/` folder: Parquet shards of each split, `schema.json`, and the rows that were set aside."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from potstill.data.digest import input_key, shuffle_order
from potstill.data.formats import FEATURE
from potstill.errors import UserError
from potstill.inputs import Features
from potstill.metrics import Truth
from potstill.outcomes import Outcome, Part, Retrieval, outcome_of

SCHEMA_FILE = "schema.json"
REJECTED_FILE = "rejected.parquet"
REJECTED_SCHEMA = pa.schema(
    [
        pa.field("file", pa.string(), nullable=False),
        pa.field("row", pa.int64(), nullable=False),
        pa.field("reason", pa.string(), nullable=False),
        ("text", pa.string()),
        ("label", pa.string()),
    ]
)
ROW_GROUP_ROWS = 16_384
OUT_OF_SCOPE = "out_of_scope"
# Rows without a label, for a student to learn the teacher's view of.
UNLABELLED = "unlabelled"
# Rows by which a retrieval is judged, at most.
MOST_CHOICES = 5_000


@dataclass(frozen=True)
class Schema:
    """What a dataset holds.

    Attributes:
        task: name of the task in the recipe.
        outcome: the family of outcomes and, for classes, their fixed order.
        text: source columns of the texts.
        label: source columns of the labels, one a task.
        features: the columns besides text, with what training knows of them.
        reference: numeric features whose mean is a plain forecast; none: the training rows' distribution is.
        group: source column of the groups; none: rows aren't compared.
        weight: source column of the weights; none: all count alike.
        rows: split → number of rows.
        rejected: reason → number of rows set aside.
        digest: the dataset digest, 64 hexadecimal digits.
        out_of_scope: number of texts that no label fits.
        pair: whether the last text column is set apart from the others.
        season: numeric feature with the value one season before; none: there is none.
        unlabelled: number of rows without a label, beside the splits.
        apart: stored column whose equal values belong together: the one that divides, the group, or the text.
    """

    task: str
    outcome: Outcome
    text: tuple[str, ...]
    label: tuple[str, ...]
    features: Features
    reference: tuple[str, ...]
    group: str | None
    weight: str | None
    rows: dict[str, int]
    rejected: dict[str, int]
    digest: str
    out_of_scope: int = 0
    pair: bool = False
    season: str | None = None
    unlabelled: int = 0
    apart: str = "text"

    def of(self, part: Part) -> "Schema":
        """The same of one task."""
        return replace(self, task=part.task or self.task, outcome=part.outcome)


@dataclass(frozen=True)
class Rows:
    """Some rows of one split.

    Attributes:
        row: digests `[rows]`.
        text: `[rows]`.
        value: labels as the outcome's values `[rows]`; of several tasks `[rows, tasks]`; NaN where there is none.
        features: column → value, of each row.
        weight: how much each row counts `[rows]`; none: all alike.
        group: name of each row's group; none: rows aren't compared.
        answer: the label as text, where it is to be found among many; none otherwise.
        apart: what equal rows mustn't be told apart by folds; none: their text.
    """

    row: list[str]
    text: list[str]
    value: npt.NDArray[np.float64]
    features: list[dict[str, Any]]
    weight: npt.NDArray[np.float64] | None = None
    group: list[str] | None = None
    answer: list[str] | None = None
    apart: list[str] | None = None

    def __len__(self) -> int:
        return len(self.row)

    def first(self, count: int) -> "Rows":
        """The first so many rows; answers are then to be found among theirs."""
        return self.at(list(range(min(count, len(self)))))

    def spread(self, count: int) -> "Rows":
        """So many rows at most, evenly spread: files are often in the order of their labels."""
        return self.at(np.linspace(0, len(self) - 1, min(count, len(self))).astype(int).tolist())

    def judged(self) -> "Rows":
        """The rows by which models are judged: all or, since choosing among n answers takes n² figures, the first."""
        return self if self.answer is None else self.first(MOST_CHOICES)

    def labelled(self) -> "Rows":
        """The rows that have a label for any task."""
        return self.at(np.flatnonzero(np.isfinite(self.value).reshape(len(self), -1).any(axis=1)).tolist())

    def of(self, part: Part) -> "Rows":
        """The rows that have a label for a task, with that label alone."""
        if part.place is None:
            return self
        chosen = self.at(np.flatnonzero(np.isfinite(part.values(self.value))).tolist())
        return replace(chosen, value=part.values(chosen.value))

    def fold(self, folds: int, seed: int) -> npt.NDArray[np.int64]:
        """Number of each row's fold `[rows]`, from 0; rows that belong together share one."""
        contents = map(input_key, self.text) if self.apart is None else map(str.encode, self.apart)
        order = shuffle_order(seed, contents)
        return (order % np.uint64(folds)).astype(np.int64)

    def outside(self, fold: int, folds: int, seed: int) -> "Rows":
        """The rows of all other folds."""
        return self.at(np.flatnonzero(self.fold(folds, seed) != fold).tolist())

    def with_pool(self, pool: "Rows") -> "Rows":
        """These rows and, after them, those of a pool without labels; a pool row counts as one on the mean."""
        weight = None if self.weight is None else np.append(self.weight, np.full(len(pool), self.weight.mean()))
        return Rows(
            row=[*self.row, *pool.row],
            text=[*self.text, *pool.text],
            value=np.concatenate([self.value, pool.value]),
            features=[*self.features, *pool.features],
            weight=weight,
        )

    def at(self, rows: Sequence[int]) -> "Rows":
        """Some rows, by their places."""
        answer = None if self.answer is None else [self.answer[i] for i in rows]
        return Rows(
            row=[self.row[i] for i in rows],
            text=[self.text[i] for i in rows],
            value=self.value[rows] if answer is None else Retrieval().encode(answer),
            features=[self.features[i] for i in rows],
            weight=None if self.weight is None else self.weight[rows],
            group=None if self.group is None else [self.group[i] for i in rows],
            answer=answer,
            apart=None if self.apart is None else [self.apart[i] for i in rows],
        )

    def records(self, column: str) -> list[Mapping[str, Any]]:
        """Rows as a service gets them: column → value. Texts are joined already, so they stand in the first column."""
        return [{column: text, **features} for text, features in zip(self.text, self.features, strict=True)]

    @property
    def catalogue(self) -> list[str]:
        """The different answers, in alphabetical order."""
        return sorted(set(self.answer or []))

    @property
    def truth(self) -> Truth:
        """What predictions of these rows are held against."""
        groups = None if self.group is None else np.unique(self.group, return_inverse=True)[1]
        return Truth(self.value, self.weight, groups)


def write_schema(dataset: Path, schema: Schema) -> None:
    """Write `schema.json` into a dataset folder."""
    values = {**{field.name: getattr(schema, field.name) for field in fields(schema)}, "outcome": schema.outcome.spec()}
    values |= {"features": schema.features.spec()}
    text = json.dumps(values, ensure_ascii=False, indent=2)
    (dataset / SCHEMA_FILE).write_text(text + "\n", encoding="utf-8")


def read_schema(dataset: Path) -> Schema:
    """Read `schema.json`.

    Raises:
        UserError: the folder is no dataset.
    """
    try:
        values = json.loads((dataset / SCHEMA_FILE).read_text(encoding="utf-8"))
        known = {field.name: values[field.name] for field in fields(Schema)}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{dataset}: not a dataset: {SCHEMA_FILE} is missing or broken") from error
    known |= {"outcome": outcome_of(known["outcome"]), "features": Features.from_spec(known["features"])}
    return Schema(**known | {name: tuple(known[name]) for name in ("text", "label", "reference")})


def read_rows(dataset: Path, split: str, schema: Schema) -> Rows:
    """All rows of a split, or those without labels, in the order in which they are stored."""
    return _rows(pq.read_table(dataset / split, columns=_stored(schema, split), use_threads=False), schema)


def read_span(dataset: Path, split: str, schema: Schema, span: range) -> Rows:
    """Rows of a split by their places, in the order in which they are stored.

    Only the row groups that hold them are read, so time and memory don't grow with the split.
    """
    folder = dataset / split
    # All shards but the last hold as many rows as the first.
    size = pq.read_metadata(_shard(folder, 0)).num_rows
    tables = []
    for number in range(span.start // size, -(-span.stop // size)):
        start = number * size
        inside = range(max(span.start - start, 0), min(span.stop - start, size))
        tables.append(_read_inside(_shard(folder, number), inside, _stored(schema, split)))
    return _rows(pa.concat_tables(tables), schema)


def _read_inside(shard: Path, span: range, columns: list[str]) -> pa.Table:
    """Rows of one shard by their places in it."""
    with pq.ParquetFile(shard) as file:
        sizes = [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)]
        ends = np.cumsum(sizes)
        first, last = np.searchsorted(ends, [span.start, span.stop - 1], side="right").tolist()
        table = file.read_row_groups(range(first, last + 1), columns=columns, use_threads=False)
    return table.slice(span.start - int(ends[first] - sizes[first]), len(span))


def _shard(folder: Path, number: int) -> Path:
    return folder / f"part-{number:05d}.parquet"


def write_texts(dataset: Path, texts: Sequence[str]) -> None:
    """Write the texts that no label fits."""
    (dataset / OUT_OF_SCOPE).mkdir()
    pq.write_table(pa.table({"text": texts}), dataset / OUT_OF_SCOPE / "part-00000.parquet", compression="zstd")


def read_texts(dataset: Path) -> list[str]:
    """The texts that no label fits; none where the recipe names none."""
    folder = dataset / OUT_OF_SCOPE
    texts: list[str] = pq.read_table(folder, use_threads=False)["text"].to_pylist() if folder.is_dir() else []
    return texts


def _stored(schema: Schema, split: str) -> list[str]:
    """The columns of a shard that a model needs."""
    own = ["row", "text", *(FEATURE + name for name in schema.features.names)]
    told = ["label", *(name for name in ("weight", "group") if getattr(schema, name)), schema.apart]
    return own if split == UNLABELLED else list(dict.fromkeys([*own, *told]))


def _rows(table: pa.Table | pa.RecordBatch, schema: Schema) -> Rows:
    known = {
        "row": table.column("row").to_pylist(),
        "text": table.column("text").to_pylist(),
        "features": _records(table, schema.features.names),
    }
    if "label" not in table.schema.names:
        tasks = () if len(schema.label) == 1 else (len(schema.label),)
        return Rows(**known, value=np.full((table.num_rows, *tasks), np.nan))
    labels = table.column("label").to_pylist()
    return Rows(
        **known,
        value=schema.outcome.encode(labels),
        weight=table.column("weight").to_numpy() if schema.weight else None,
        group=table.column("group").to_pylist() if schema.group else None,
        answer=labels if isinstance(schema.outcome, Retrieval) else None,
        apart=None if schema.apart == "text" else table.column(schema.apart).to_pylist(),
    )


def _records(table: pa.Table | pa.RecordBatch, names: tuple[str, ...]) -> list[dict[str, Any]]:
    columns = [table.column(FEATURE + name).to_pylist() for name in names]
    return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)] or [{}] * table.num_rows


class ShardWriter:
    """Writes tables one after the other into `part-00000.parquet` … of a folder, so many rows each."""

    def __init__(self, folder: Path, schema: pa.Schema, shard_rows: int) -> None:
        self._folder = folder
        self._schema = schema
        self._shard_rows = shard_rows
        self._file: pq.ParquetWriter | None = None
        self._shards = 0
        self._room = 0
        folder.mkdir(parents=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._shards == 0:
            self._next_shard()  # an empty split can still be read
        self._close()

    def write(self, table: pa.Table) -> None:
        """Append a table, starting new shards as they fill."""
        while table.num_rows:
            if self._room == 0:
                self._next_shard()
            part = table.slice(0, self._room)
            assert self._file is not None  # noqa: S101 - _next_shard opened it
            self._file.write_table(part, row_group_size=ROW_GROUP_ROWS)
            self._room -= part.num_rows
            table = table.slice(part.num_rows)

    def _next_shard(self) -> None:
        self._close()
        self._file = pq.ParquetWriter(_shard(self._folder, self._shards), self._schema, compression="zstd")
        self._shards += 1
        self._room = self._shard_rows

    def _close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

"""One look at all rows: what is wrong with each by itself, and what is needed to compare it with the others."""

import datetime
import math
from array import array
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from potstill.data.digest import KEY_BYTES, input_key, shuffle_order
from potstill.data.formats import FEATURE, Columns
from potstill.data.read import band_names, stream_batches
from potstill.data.split import TRAIN
from potstill.errors import UserError
from potstill.inputs import LARGEST, number, read_date
from potstill.outcomes import Classification, Rate, Retrieval, fits, split_label
from potstill.recipe import Task

NO_LABEL = -1


class Reason(IntEnum):
    """Why a row is set aside; the first that holds, in this order."""

    KEPT = 0
    EMPTY_TEXT = 1
    EMPTY_LABEL = 2
    EMPTY_GROUP = 3
    LABEL_NOT_A_NUMBER = 4
    LABEL_NOT_FINITE = 5  # or beyond float32
    LABEL_NOT_ABOVE_ZERO = 6  # on a log scale
    LABEL_BELOW_ZERO = 7  # of a count or a rate
    LABEL_ABOVE_ITS_TRIES = 8  # of a rate: more than one, or more than its tries
    WEIGHT_NOT_ABOVE_ZERO = 9  # or none, or not finite
    FEATURE_NOT_A_NUMBER = 10
    FEATURE_NOT_A_DATE = 11
    TIME_NOT_A_DATE = 12
    DUPLICATE = 13  # same text, same label, further up
    CONFLICTING_LABEL = 14  # same text, another class, further up
    ALSO_IN_TEST = 15  # the text stands in the given test rows: training or validating on it would leak
    ALSO_IN_VALIDATION = 16  # likewise, a training row in the given validation rows
    GROUP_ALSO_IN_TEST = 17  # the row's group stands in the given test rows
    GROUP_ALSO_IN_VALIDATION = 18  # likewise, a training row's group in the given validation rows
    UNKNOWN_LABEL = 19  # a given validation or test row whose class no training row has
    ALONE_IN_ITS_GROUP = 20  # nothing to compare it with

    @property
    def words(self) -> str:
        """The reason as people read it."""
        return self.name.lower().replace("_", " ")


# What is wrong with a row by itself.
FLAWS = [*range(Reason.EMPTY_TEXT, Reason.DUPLICATE), Reason.UNKNOWN_LABEL, Reason.ALONE_IN_ITS_GROUP]


@dataclass(frozen=True)
class Survey:
    """All rows in compact columns: no text stays in memory, only 50 bytes a row (while judging, some 100 more).

    Attributes:
        key: `[rows, 2]`, equal for equal texts.
        label: `[rows]`, index into `names`, NO_LABEL where the row has none.
        apart: `[rows]`, seeded digest of what mustn't cross the split: a value of the column that divides, or the
            row's group; the same for all where there is neither.
        group: `[rows]`, seeded digest of the row's group; the same for all where rows aren't compared.
        time: `[rows]`, seconds; NaN where rows aren't divided by time.
        role: `[rows]`, index into SPLITS of the files that the row came from; TRAIN when the division isn't given.
        reason: `[rows]`, a Reason.
        names: labels in alphabetical order.
    """

    key: npt.NDArray[np.uint64]
    label: npt.NDArray[np.int64]
    apart: npt.NDArray[np.uint64]
    group: npt.NDArray[np.uint64]
    time: npt.NDArray[np.float64]
    role: npt.NDArray[np.uint8]
    reason: npt.NDArray[np.uint8]
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.label)

    @property
    def kept(self) -> npt.NDArray[np.bool_]:
        """Rows `[rows]` that aren't set aside."""
        return np.equal(self.reason, Reason.KEPT)

    def counts(self) -> dict[str, int]:
        """Rows set aside for each reason, in words, the commonest first."""
        found = Counter(int(code) for code in self.reason[~self.kept])
        return {Reason(code).words: count for code, count in found.most_common()}


@dataclass(frozen=True)
class Labels:
    """The labels of one task.

    Attributes:
        column: their name in the source.
        closed: whether they are classes, not numbers or texts of which any may be new.
        share: whether they are shares of yes.
        label: `[rows]`, index into `names`, NO_LABEL where the row has none.
        names: labels in alphabetical order.
    """

    column: str
    closed: bool
    share: bool
    label: npt.NDArray[np.int64]
    names: tuple[str, ...]


def labels_of(rows: Survey, columns: Columns) -> list[Labels]:
    """Each task's labels by themselves."""
    closed, shares = columns.classes, [kind == "share" for kind in columns.holds]
    if not columns.several:
        return [Labels(columns.label[0], closed[0], shares[0], rows.label, rows.names)]
    joined = [split_label(name) for name in rows.names] or [[None] * len(columns.label)]
    found = []
    for column, shut, share, own in zip(columns.label, closed, shares, zip(*joined, strict=True), strict=True):
        names = tuple(sorted({label for label in own if label}))
        index = {name: place for place, name in enumerate(names)}
        place = np.array([*(index.get(label, NO_LABEL) if label else NO_LABEL for label in own), NO_LABEL])
        # NO_LABEL, as an index, points to the last.
        found.append(Labels(column, shut, share, place[rows.label], names))
    return found


def survey(locations: Mapping[int, str], columns: Columns, tasks: Sequence[Task], seed: int) -> Survey:
    """Read all rows once, keeping digests and numbers only, and mark rows without text, usable label or group.

    Args:
        locations: where the rows of each role (index into SPLITS) are.
        columns: which columns to read.
        tasks: say what a usable label is, in the order of the columns' labels.
        seed: makes the order of groups.

    Raises:
        UserError: a location can't be read or holds no rows, or no text holds a letter.
    """
    keys, labels, times = bytearray(), array("q"), array("d")
    apart, groups = array("Q"), array("Q")
    roles, reasons = array("B"), array("B")
    index: dict[str, int] = {}
    worded = False
    for role, location in locations.items():
        before = len(labels)
        for batch in stream_batches(location, columns):
            texts, names, weights, groupings = (strip(batch.table, n) for n in ("text", "label", "weight", "group"))
            divisions = strip(batch.table, "split") if columns.split else groupings
            worded = worded or any(sign.isalpha() for text in texts for sign in text)
            features = feature_values(batch.table, columns)
            for text, values, group, weight, name in zip(texts, features, groupings, weights, names, strict=True):
                keys += input_key(text, (*values, group))
                # Of tries, 1 of 10 and 1 of 20 are two labels.
                name = f"{name} of {weight}" if name and tasks[0].of else name
                labels.append(index.setdefault(name, len(index)) if name else NO_LABEL)
            apart.extend(shuffle_order(seed, map(str.encode, divisions)).tolist())
            groups.extend(shuffle_order(seed, map(str.encode, groupings)).tolist())
            moments = [_seconds(value) for value in strip(batch.table, "time")]
            times.extend(moments)
            roles.extend([role] * len(texts))
            rows = zip(texts, names, weights, divisions, groupings, moments, features, strict=True)
            reasons.extend(_flaw(_Row(*row), columns, tasks) for row in rows)
        if len(labels) == before:
            raise UserError(f"{location}: no rows, only column names")
    result = Survey(
        key=np.frombuffer(keys, dtype=np.uint64).reshape(-1, KEY_BYTES // 8),
        label=_alphabetical(labels, index),
        apart=np.array(apart, dtype=np.uint64),
        group=np.array(groups, dtype=np.uint64),
        time=np.array(times, dtype=np.float64),
        role=np.array(roles, dtype=np.uint8),
        reason=np.array(reasons, dtype=np.uint8),
        names=tuple(sorted(index)),
    )
    if not worded and np.any(result.reason != Reason.EMPTY_TEXT):
        raise UserError(
            f"{locations[TRAIN]}: text column {', '.join(columns.text)!r} holds no words, only numbers or signs"
        )
    return result


def strip(table: pa.Table, column: str) -> list[str]:
    """A column's values without white space at their ends; empty for null, or where there is no such column."""
    if column not in table.column_names:
        return [""] * table.num_rows
    return [(value or "").strip() for value in table[column].to_pylist()]


def feature_values(table: pa.Table, columns: Columns) -> list[tuple[str, ...]]:
    """The features of each row as text, in the order of `columns`; empty where missing."""
    return list(zip(*(strip(table, FEATURE + name) for name in columns.features), strict=True)) or [()] * table.num_rows


def _seconds(moment: str) -> float:
    """A date as seconds, NaN where it can't be read."""
    try:
        found = read_date(moment, "time")
    except ValueError:
        return math.nan
    return math.nan if found is None else found.replace(tzinfo=found.tzinfo or datetime.UTC).timestamp()


class _Row(NamedTuple):
    """A row as the survey sees it; texts are stripped, and empty where there is none."""

    text: str
    label: str
    weight: str
    division: str
    group: str
    moment: float
    features: tuple[str, ...]


def _flaw(row: _Row, columns: Columns, tasks: Sequence[Task]) -> Reason:
    if not row.text:
        return Reason.EMPTY_TEXT
    if not row.label:
        return Reason.EMPTY_LABEL
    if (columns.split and not row.division) or (columns.group and not row.group):
        return Reason.EMPTY_GROUP
    if columns.weight and not _above_zero(row.weight):
        return Reason.WEIGHT_NOT_ABOVE_ZERO
    labels = zip(split_label(row.label) if columns.several else [row.label], tasks, strict=True)
    odd = next((why for label, task in labels if label and (why := _odd_label(label, row.weight, task))), Reason.KEPT)
    late = Reason.TIME_NOT_A_DATE if columns.time and math.isnan(row.moment) else Reason.KEPT
    return odd or odd_feature(row.features, columns) or late


def _above_zero(weight: str) -> bool:
    try:
        return 0 < float(weight) <= LARGEST
    except ValueError:
        return False


# What to do about a reason, beyond mending the rows.
ADVICE: Mapping[Reason, str] = {
    Reason.FEATURE_NOT_A_NUMBER: "list what stands for a missing value under data.features.missing",
    Reason.FEATURE_NOT_A_DATE: "write dates as in 2026-11-24 or 2026-11-24T09:30",
    Reason.TIME_NOT_A_DATE: "write times as in 2026-11-24 or 2026-11-24T09:30",
    Reason.ALONE_IN_ITS_GROUP: "data.group must name rows that are compared with each other",
    Reason.UNKNOWN_LABEL: "add training rows of that class",
}


def in_words(reason: Reason, features: tuple[str, ...], columns: Columns, value: bool = False) -> str:
    """A row's reason, with the column (and the value) where a feature can't be read."""
    odd = _unreadable(features, columns) if reason in {Reason.FEATURE_NOT_A_NUMBER, Reason.FEATURE_NOT_A_DATE} else None
    if odd is None:
        return reason.words
    found = features[list(columns.features).index(odd)]
    return f"{reason.words}: {odd} {found!r}" if value else f"{reason.words}: {odd}"


def find_row(location: str, columns: Columns, place: int, reason: Reason) -> tuple[str, str]:
    """Where the row at a place of a location is (`file: row 7`, from 1), and what is wrong with it."""
    for batch in stream_batches(location, columns):
        if place < batch.table.num_rows:
            features = feature_values(batch.table.slice(place, 1), columns)[0]
            return f"{batch.file}: row {batch.first_row + place:,}", in_words(reason, features, columns, value=True)
        place -= batch.table.num_rows
    raise UserError(f"{location}: the files changed while they were read; run again when they are at rest")


def odd_feature(features: tuple[str, ...], columns: Columns) -> Reason:
    """What is wrong with a row's features, if anything."""
    odd = _unreadable(features, columns)
    if odd is None:
        return Reason.KEPT
    return Reason.FEATURE_NOT_A_NUMBER if columns.features[odd] == "number" else Reason.FEATURE_NOT_A_DATE


def _unreadable(features: tuple[str, ...], columns: Columns) -> str | None:
    """Name of the first feature that can't be read."""
    for value, (name, kind) in zip(features, columns.features.items(), strict=True):
        try:
            if kind == "number":
                number(value, name)
            elif kind == "date":
                read_date(value, name)
        except ValueError:
            return name
    return None


def label_value(label: str, weight: str, task: Task) -> float:
    """A label as its family's number; of a rate the share of yes. Raises ValueError where it is none."""
    if task.kind != Rate.kind:
        return float(label)
    return _yes(label) / float(weight) if task.of else _yes(label)


def share_of(name: str) -> float:
    """The share of yes that a label of a rate means: `1`, `true` or, of tries, `3 of 20`."""
    yes, _, tries = name.partition(" of ")
    return _yes(yes) / float(tries or 1)


def _yes(label: str) -> float:
    return float({"true": "1", "false": "0"}.get(label.lower(), label))


def _odd_label(label: str, weight: str, task: Task) -> Reason:
    if label in band_names(task.bands) if task.bands else task.kind in {Classification.kind, Retrieval.kind}:
        return Reason.KEPT
    try:
        value = label_value(label, weight, task)
    except ValueError:
        return Reason.LABEL_NOT_A_NUMBER
    if not abs(value) <= LARGEST:
        return Reason.LABEL_NOT_FINITE
    if task.kind == Rate.kind:
        return Reason.LABEL_ABOVE_ITS_TRIES if value > 1 else Reason.LABEL_BELOW_ZERO if value < 0 else Reason.KEPT
    if fits(value, task.scale):
        return Reason.KEPT
    return Reason.LABEL_NOT_ABOVE_ZERO if task.scale == "log" else Reason.LABEL_BELOW_ZERO


def _alphabetical(labels: "array[int]", index: dict[str, int]) -> npt.NDArray[np.int64]:
    """Renumber labels, first seen first, in alphabetical order: nothing may depend on the order of rows."""
    place = np.empty(len(index) + 1, dtype=np.int64)
    place[-1] = NO_LABEL  # where NO_LABEL, used as an index, points
    for rank, name in enumerate(sorted(index)):
        place[index[name]] = rank
    renumbered: npt.NDArray[np.int64] = place[np.array(labels, dtype=np.int64)]
    return renumbered

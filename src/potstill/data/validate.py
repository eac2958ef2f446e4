"""Which rows are fit to learn from: each row set aside gets one reason, and data that can't be used is refused."""

import datetime
import math
from array import array
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from potstill.data.digest import KEY_BYTES, input_key, shuffle_order
from potstill.data.formats import FEATURE, Columns
from potstill.data.read import band_names, stream_batches
from potstill.data.split import SPLITS, TEST, TRAIN, VALIDATION, Splits
from potstill.errors import UserError
from potstill.inputs import number, read_date
from potstill.outcomes import Classification, Rate, Retrieval, Value, split_label
from potstill.recipe import Task

NO_LABEL = -1
NAMES_SHOWN = 5


class Reason(IntEnum):
    """Why a row is set aside; the first that holds, in this order."""

    KEPT = 0
    EMPTY_TEXT = 1
    EMPTY_LABEL = 2
    EMPTY_GROUP = 3
    LABEL_NOT_A_NUMBER = 4
    LABEL_NOT_FINITE = 5
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
        label: `[rows]`, index into `names`, NO_LABEL where the row has none.
        names: labels in alphabetical order.
    """

    column: str
    closed: bool
    label: npt.NDArray[np.int64]
    names: tuple[str, ...]


def labels_of(rows: Survey, columns: Columns) -> list[Labels]:
    """Each task's labels by themselves."""
    closed = columns.classes
    if not columns.several:
        return [Labels(columns.label[0], closed[0], rows.label, rows.names)]
    joined = [split_label(name) for name in rows.names] or [[None] * len(columns.label)]
    found = []
    for column, shut, own in zip(columns.label, closed, zip(*joined, strict=True), strict=True):
        names = tuple(sorted({label for label in own if label}))
        index = {name: place for place, name in enumerate(names)}
        place = np.array([*(index.get(label, NO_LABEL) if label else NO_LABEL for label in own), NO_LABEL])
        # NO_LABEL, as an index, points to the last.
        found.append(Labels(column, shut, place[rows.label], names))
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
    return odd or _odd_feature(row.features, columns) or late


def _above_zero(weight: str) -> bool:
    try:
        return 0 < float(weight) < math.inf
    except ValueError:
        return False


def _odd_feature(features: tuple[str, ...], columns: Columns) -> Reason:
    for value, (name, kind) in zip(features, columns.features.items(), strict=True):
        try:
            if kind == "number":
                number(value, name)
            elif kind == "date":
                read_date(value, name)
        except ValueError:
            return Reason.FEATURE_NOT_A_NUMBER if kind == "number" else Reason.FEATURE_NOT_A_DATE
    return Reason.KEPT


def label_value(label: str, weight: str, task: Task) -> float:
    """A label as its family's number; of a rate the share of yes. Raises ValueError where it is none."""
    if task.kind != Rate.kind:
        return float(label)
    value = float({"true": "1", "false": "0"}.get(label.lower(), label))
    return value / float(weight) if task.of else value


def _odd_label(label: str, weight: str, task: Task) -> Reason:
    if task.bands and label not in band_names(task.bands):
        return Reason.LABEL_NOT_A_NUMBER
    if task.kind in {Classification.kind, Retrieval.kind}:
        return Reason.KEPT
    try:
        value = label_value(label, weight, task)
    except ValueError:
        return Reason.LABEL_NOT_A_NUMBER
    if not math.isfinite(value):
        return Reason.LABEL_NOT_FINITE
    if task.kind == Rate.kind and value > 1:
        return Reason.LABEL_ABOVE_ITS_TRIES
    if task.kind == Value.kind and task.scale == "log" and value <= 0:
        return Reason.LABEL_NOT_ABOVE_ZERO
    signed = task.kind == Value.kind and task.scale == "linear"
    return Reason.LABEL_BELOW_ZERO if value < 0 and not signed else Reason.KEPT


def _alphabetical(labels: "array[int]", index: dict[str, int]) -> npt.NDArray[np.int64]:
    """Renumber labels, first seen first, in alphabetical order: nothing may depend on the order of rows."""
    place = np.empty(len(index) + 1, dtype=np.int64)
    place[-1] = NO_LABEL  # where NO_LABEL, used as an index, points
    for rank, name in enumerate(sorted(index)):
        place[index[name]] = rank
    renumbered: npt.NDArray[np.int64] = place[np.array(labels, dtype=np.int64)]
    return renumbered


def judge(rows: Survey, given: bool, columns: Columns) -> Survey:
    """Mark duplicates, contradictions and leaks, so that what is kept can be learnt and measured honestly.

    Of rows with one text the first is kept; where labels are no classes, the first with each, for one title may well
    have two prices; of several tasks, all whose labels are for other tasks than those before. Between given
    splits test comes before validation and validation before training: the test rows stay whole, and what would leak
    into them is taken from the others.

    Args:
        rows: the survey.
        given: the division comes with the files.
        columns: say whether labels are numbers, and what may not stand in two splits or alone.
    """
    reason = rows.reason.copy()
    labels = labels_of(rows, columns)
    _mark_repeats(rows, reason)
    if not columns.closed and not columns.several:
        _allow_other_labels(rows, reason)
    if columns.several:
        _allow_other_tasks(rows, labels, reason)
    if given and columns.split:
        for held, lower, why in (
            (TEST, (TRAIN, VALIDATION), Reason.GROUP_ALSO_IN_TEST),
            (VALIDATION, (TRAIN,), Reason.GROUP_ALSO_IN_VALIDATION),
        ):
            kept = reason == Reason.KEPT
            held_groups = rows.apart[kept & (rows.role == held)]
            reason[kept & np.isin(rows.role, lower) & np.isin(rows.apart, held_groups)] = why
    for own in labels if given else []:
        if own.closed:
            kept = reason == Reason.KEPT
            taught = [NO_LABEL, *np.unique(own.label[kept & (rows.role == TRAIN)])]
            reason[kept & (rows.role != TRAIN) & ~np.isin(own.label, taught)] = Reason.UNKNOWN_LABEL
    if columns.group:
        _mark_alone(rows, reason)
    return replace(rows, reason=reason)


def _mark_alone(rows: Survey, reason: npt.NDArray[np.uint8]) -> None:
    """Give rows without another of their group in the same files their reason, in place."""
    kept = np.flatnonzero(reason == Reason.KEPT)
    place = np.stack([rows.group[kept], rows.role[kept].astype(np.uint64)], axis=1)
    _, inverse, sizes = np.unique(place, axis=0, return_inverse=True, return_counts=True)
    reason[kept[sizes[inverse.ravel()] == 1]] = Reason.ALONE_IN_ITS_GROUP


def _mark_repeats(rows: Survey, reason: npt.NDArray[np.uint8]) -> None:
    """Give all but one of the rows with the same text their reason, in place."""
    candidates = np.flatnonzero(reason == Reason.KEPT)
    if not len(candidates):
        return
    key, role = rows.key[candidates], rows.role[candidates]
    # Stable: rows with one text and one role stay in the order of the source.
    order = np.lexsort((TEST - role, key[:, 1], key[:, 0]))
    key, candidates = key[order], candidates[order]
    first = np.concatenate([[True], (key[1:] != key[:-1]).any(axis=1)])
    winner = candidates[first][np.cumsum(first) - 1]
    loser, winner = candidates[~first], winner[~first]
    same_label = rows.label[loser] == rows.label[winner]
    why = np.where(same_label, Reason.DUPLICATE, Reason.CONFLICTING_LABEL)
    leaks = rows.role[loser] != rows.role[winner]
    leaked = np.where(rows.role[winner] == TEST, Reason.ALSO_IN_TEST, Reason.ALSO_IN_VALIDATION)
    reason[loser] = np.where(leaks, leaked, why)


def _allow_other_labels(rows: Survey, reason: npt.NDArray[np.uint8]) -> None:
    """Take back what made a text with another label a contradiction; of equal labels the first is kept, in place."""
    reason[reason == Reason.CONFLICTING_LABEL] = Reason.KEPT
    kept = np.flatnonzero(reason == Reason.KEPT)
    order = kept[np.lexsort((kept, rows.label[kept], rows.key[kept, 1], rows.key[kept, 0]))]
    key, label = rows.key[order], rows.label[order]
    again = (key[1:] == key[:-1]).all(axis=1) & (label[1:] == label[:-1])
    reason[order[1:][again]] = Reason.DUPLICATE


def _allow_other_tasks(rows: Survey, labels: list[Labels], reason: npt.NDArray[np.uint8]) -> None:
    """Take back what made a text with labels for other tasks a contradiction, in place."""
    told = np.stack([own.label != NO_LABEL for own in labels], axis=1)
    repeated = np.flatnonzero(reason == Reason.CONFLICTING_LABEL)
    keys = {rows.key[i].tobytes() for i in repeated}
    seen = {
        key: told[i].copy() for i in np.flatnonzero(reason == Reason.KEPT) if (key := rows.key[i].tobytes()) in keys
    }
    for i in repeated:
        before = seen[rows.key[i].tobytes()]
        if not (before & told[i]).any():
            before |= told[i]
            reason[i] = Reason.KEPT


def refuse_flawed(rows: Survey, most: float, locations: Mapping[int, str]) -> None:
    """Refuse data of which more than a share can't be used: then something is wrong at its source.

    What merely stands twice, or would leak into the test, is no flaw.

    Args:
        rows: the survey, judged.
        most: the share that may be.
        locations: where the rows of each role came from, for messages.

    Raises:
        UserError: names the first such row, counted over the files of its location.
    """
    flawed = np.isin(rows.reason, FLAWS)
    if np.mean(flawed) <= most:
        return
    first = int(flawed.argmax())
    role = int(rows.role[first])
    place = first - int(np.argmax(rows.role == role)) + 1
    why = ", ".join(f"{count:,} {word}" for word, count in replace(rows, reason=rows.reason * flawed).counts().items())
    raise UserError(
        f"{locations[role]}: {flawed.sum():,} of {len(rows):,} rows can't be used: {why}; the first is row {place:,}; "
        f"mend them, or raise data.most_flawed above {most:g}"
    )


def refuse_unusable(rows: Survey, columns: Columns, locations: Mapping[int, str]) -> None:
    """Refuse data from which nothing can be learnt, whatever the division.

    Numbers need two different ones; classes also two rows each.

    Args:
        rows: the survey, judged.
        columns: their names in the source.
        locations: where the rows of each role came from, for messages.

    Raises:
        UserError: no rows are left (at one of the locations), there are fewer than two classes, or a class has one row.
    """
    reasons = ", ".join(f"{count:,} {why}" for why, count in rows.counts().items())
    for role, location in locations.items():
        if not np.any(rows.kept & (rows.role == role)):
            raise UserError(f"{location}: all rows were rejected ({len(rows):,} rows read, of these {reasons})")
    for labels in labels_of(rows, columns):
        _refuse_labels(labels, rows, f"{locations[TRAIN]}: label column {labels.column!r}", reasons)


def _refuse_labels(labels: Labels, rows: Survey, where: str, reasons: str) -> None:
    told = labels.label[rows.kept]
    sizes = np.bincount(told[told != NO_LABEL], minlength=len(labels.names))
    classes = [labels.names[i] for i in np.flatnonzero(sizes)]
    note = f" (after setting aside {reasons})" if reasons else ""
    if len(classes) < 2:
        what = "class" if labels.closed else "label"
        found = f"one {what}, {classes[0]!r}" if classes else "no label"
        raise UserError(f"{where} has {found}{note}; at least two are needed to learn from")
    if not labels.closed:
        return
    single = [labels.names[i] for i in np.flatnonzero(sizes == 1)]
    if single:
        raise UserError(
            f"{where}: {_plural(len(single), 'class')} with one row only: {_listed(single)}{note}; "
            "add rows or drop them, because one row can't be both learnt from and tested on"
        )


def refuse_division(rows: Survey, split: Splits, columns: Columns, location: str) -> None:
    """Refuse a division that leaves a split empty, or a class without a row to learn from.

    Args:
        rows: the survey, judged.
        split: index into SPLITS of each kept row `[kept]`.
        columns: their names in the source.
        location: where the divided rows came from, for messages.

    Raises:
        UserError: names the split or the classes, and what to change.
    """
    divider = columns.split or columns.time or columns.group
    values = rows.time if columns.time else rows.apart
    found = len(np.unique(values[rows.kept]))
    for which in (TRAIN, VALIDATION, TEST):
        if np.any(split == which):
            continue
        if divider:
            why = f"column {divider!r} has {_plural(found, 'value')}, which don't fill every split"
            raise UserError(f"{location}: {why}: {SPLITS[which]} is left empty; choose another data.split")
        raise UserError(f"{location}: {len(split):,} rows are too few: {SPLITS[which]} is left empty; add rows")
    for labels in labels_of(rows, columns):
        label = labels.label[rows.kept]
        untaught = np.setdiff1d(label, [NO_LABEL, *label[split == TRAIN]])
        if len(untaught) and labels.closed:
            names = _listed([labels.names[i] for i in untaught])
            by = f"divided by {divider!r}, " if divider else ""
            raise UserError(
                f"{location}: {by}training has no row of {_plural(len(untaught), 'class')} of {labels.column!r}: "
                f"{names}; choose another data.split.seed or data.split.by"
            )
        for which in (TRAIN, VALIDATION, TEST):
            if np.all(label[split == which] == NO_LABEL):
                raise UserError(f"{location}: {SPLITS[which]} has no row with a {labels.column!r}; add rows")


def refuse_backwards(rows: Survey, split: Splits, columns: Columns, location: str) -> None:
    """Refuse a division in which what is learnt from lies after, or in the same moment as, what it is judged by.

    Args:
        rows: the survey, judged.
        split: index into SPLITS of each row `[rows]`, another number where it is set aside.
        columns: their names in the source.
        location: where the first rows came from, for messages.

    Raises:
        UserError: names the two splits and their moments.
    """
    for earlier, later in ((TRAIN, VALIDATION), (VALIDATION, TEST)):
        last, first = rows.time[split == earlier].max(), rows.time[split == later].min()
        if last >= first:
            spans = f"{SPLITS[earlier]} runs to {_moment(last)}, {SPLITS[later]} begins at {_moment(first)}"
            raise UserError(
                f"{location}: time column {columns.time!r} runs backwards: {spans}; divide the files by time"
            )


def _moment(seconds: float) -> str:
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).isoformat(sep=" ", timespec="seconds")


def _listed(names: list[str]) -> str:
    shown = ", ".join(repr(name if len(name) <= 40 else f"{name[:40]}…") for name in names[:NAMES_SHOWN])
    more = len(names) - NAMES_SHOWN
    return f"{shown} and {more:,} more" if more > 0 else shown


def _plural(count: int, word: str) -> str:
    ending = "es" if word.endswith("s") else "s"
    return f"{count:,} {word}" if count == 1 else f"{count:,} {word}{ending}"

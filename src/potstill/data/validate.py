"""Which rows are fit to learn from: each row set aside gets one reason, and data that can't be used is refused."""

import datetime
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from potstill.data.formats import Columns
from potstill.data.split import SPLITS, TEST, TRAIN, VALIDATION, Splits
from potstill.data.survey import ADVICE, FLAWS, NO_LABEL, Labels, Reason, Survey, find_row, labels_of, share_of
from potstill.errors import UserError

NAMES_SHOWN = 5


def judge(rows: Survey, given: bool, columns: Columns) -> Survey:
    """Mark duplicates, contradictions and leaks, so that what is kept can be learnt and measured honestly.

    Of rows with one text the first is kept, where labels are texts the first with each; where they are numbers, all: a
    text shown a thousand times was clicked on so often, and one title may well have two prices. Of several tasks those
    are kept that have a label more and contradict none. Between given
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
    if columns.number:
        reason[np.isin(reason, [Reason.DUPLICATE, Reason.CONFLICTING_LABEL])] = Reason.KEPT
    elif not columns.closed and not columns.several:
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
    """Take back what made a text with labels for further tasks a contradiction, if it contradicts none, in place."""
    told = np.stack([own.label for own in labels], axis=1)
    repeated = np.flatnonzero(reason == Reason.CONFLICTING_LABEL)
    keys = {rows.key[i].tobytes() for i in repeated}
    seen = {
        key: told[i].copy() for i in np.flatnonzero(reason == Reason.KEPT) if (key := rows.key[i].tobytes()) in keys
    }
    for i in repeated:
        before, here = seen[rows.key[i].tobytes()], told[i]
        new = (before == NO_LABEL) & (here != NO_LABEL)
        if new.any() and (new | (here == NO_LABEL) | (here == before)).all():
            before[new] = here[new]
            reason[i] = Reason.KEPT


def refuse_flawed(rows: Survey, most: float, locations: Mapping[int, str], columns: Columns) -> None:
    """Refuse data of which more than a share can't be used: then something is wrong at its source.

    What merely stands twice, or would leak into the test, is no flaw.

    Args:
        rows: the survey, judged.
        most: the share that may be.
        locations: where the rows of each role came from.
        columns: their names in the source.

    Raises:
        UserError: names the first such row, and what to do about it.
    """
    flawed = np.isin(rows.reason, FLAWS)
    if np.mean(flawed) <= most:
        return
    first = int(flawed.argmax())
    role, reason = int(rows.role[first]), Reason(rows.reason[first])
    where, what = find_row(locations[role], columns, first - int(np.argmax(rows.role == role)), reason)
    why = ", ".join(f"{count:,} {word}" for word, count in replace(rows, reason=rows.reason * flawed).counts().items())
    advice = f"; {ADVICE[reason]}" if reason in ADVICE else ""
    raise UserError(
        f"{where}: {what}: {flawed.sum():,} of {len(rows):,} rows can't be used ({why}) and data.most_flawed allows "
        f"{most:.0%}{advice}"
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
            advice = "; ".join(ADVICE[code] for code in map(Reason, np.unique(rows.reason)) if code in ADVICE)
            hint = f"; {advice}" if advice else ""
            raise UserError(f"{location}: all rows were rejected ({len(rows):,} rows read, of these {reasons}){hint}")
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
            if labels.share:
                _refuse_one_sided(labels, label[split == which], f"{location}: {SPLITS[which]}")


def _refuse_one_sided(labels: Labels, here: npt.NDArray[np.int64], where: str) -> None:
    """Refuse a split of a rate that is all yes or all no: nothing can be learnt of it, and no order measured."""
    shares = [share_of(labels.names[i]) for i in np.unique(here[here != NO_LABEL])]
    if max(shares) == 0 or min(shares) == 1:
        what = "yes" if max(shares) == 0 else "no"
        raise UserError(f"{where} has no {what} in {labels.column!r}; add rows, or choose another data.split")


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

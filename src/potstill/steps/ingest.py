"""Ingest: labelled rows in, a clean, divided dataset with a digest out."""

import difflib
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from potstill import store
from potstill.data.dataset import (
    OUT_OF_SCOPE,
    REJECTED_FILE,
    REJECTED_SCHEMA,
    UNLABELLED,
    Schema,
    ShardWriter,
    write_schema,
    write_texts,
)
from potstill.data.digest import DatasetDigest, input_key, row_digest, shuffle_order
from potstill.data.formats import FEATURE, Columns
from potstill.data.item_weeks import item_weeks
from potstill.data.pool import Judged, judge_pool
from potstill.data.read import (
    SOURCE,
    Batch,
    columns_of,
    find_files,
    refuse_unknown_never,
    sources_of,
    stream_batches,
    stream_texts,
)
from potstill.data.split import SPLITS, TRAIN, Splits, split_by_group, split_by_label, split_by_time
from potstill.data.survey import (
    ADVICE,
    NO_LABEL,
    Labels,
    Reason,
    Survey,
    feature_values,
    in_words,
    label_value,
    labels_of,
    share_of,
    strip,
    survey,
)
from potstill.data.validate import judge, refuse_backwards, refuse_division, refuse_flawed, refuse_unusable
from potstill.errors import UserError
from potstill.inputs import Features, learn_category, number
from potstill.outcomes import Classification, Outcome, Rate, Retrieval, Single, Together, Value, join_label, split_label
from potstill.recipe import Data, Task

WEEKS_FILE, LEFT_OUT_FILE = "item_weeks.parquet", "left_out.parquet"
REJECTED = 255  # in place of a split
FEATURE_TYPES = {"number": pa.float64(), "date": pa.string(), "name": pa.string()}


def ingest(data: Data, tasks: dict[str, Task], dataset: Path) -> dict[str, float]:
    """Read, validate, divide and write the rows; the source is read more than once, so that no text stays in memory.

    Args:
        data: where the rows are and how they are divided.
        tasks: what is predicted, and from which column.
        dataset: folder to write: train, validation and test as Parquet shards, `schema.json`, `rejected.parquet`.

    Returns:
        Number of rows read, rejected and in each split, and of outcomes.

    Raises:
        UserError: the rows can't be read, nothing can be learnt from them, or the folder can't be written.
    """
    # A pipeline's backend may hand a mapping over in any order.
    tasks = dict(sorted(tasks.items()))
    columns = columns_of(data, tasks)
    with store.writing(dataset) as draft:
        refuse_unknown_never(data)
        data = _prepared(data, draft)
        locations = {_role(name): location for name, location in sources_of(data).items()}
        found = survey(locations, columns, list(tasks.values()), data.split.seed)
        rows = judge(found, given=data.source is None, columns=columns)
        refuse_unusable(rows, columns, locations)
        refuse_flawed(rows, data.most_flawed, locations, columns)
        split = divide(rows, data, columns)
        outcome = outcome_for(tasks, columns, rows, split)
        features = features_for(data, columns, split)
        counts = {name: int(np.sum(split == which)) for which, name in enumerate(SPLITS)}
        outside = out_of_scope(data, columns, rows)
        if outside:
            write_texts(draft, outside)
        digest, pool = _write(draft, data, list(tasks.values()), columns, rows, split, outcome, features, outside)
        schema = Schema(
            task=", ".join(tasks),
            outcome=outcome,
            text=columns.text,
            label=columns.label,
            features=features,
            reference=tuple(name for task in tasks.values() for name in task.reference),
            group=columns.group,
            weight=columns.weight,
            rows=counts,
            rejected=rows.counts(),
            digest=digest,
            out_of_scope=len(outside),
            pair=columns.pair,
            season=next((task.season for task in tasks.values() if task.season), None),
            unlabelled=pool.get(Reason.KEPT, 0),
            apart="split" if columns.split else "group" if columns.group else "text",
        )
        write_schema(draft, schema)
    _report(rows, counts, outcome)
    for code in map(Reason, np.unique(rows.reason)):
        if code in ADVICE:
            print(f"{code.words}: {ADVICE[code]}")
    if outside:
        print(f"{len(outside):,} texts out of scope, to measure refusal")
    if data.unlabelled:
        _report_pool(pool)
    return {
        "rows_read": float(len(rows)),
        "rows_rejected": float(np.sum(~rows.kept)),
        **{f"rows_{name}": float(count) for name, count in counts.items()},
        **({"rows_unlabelled": float(pool[Reason.KEPT])} if data.unlabelled else {}),
        "outcomes": float(len(outcome)),
    }


def _prepared(data: Data, draft: Path) -> Data:
    """The same, with a source that holds the rows to learn from, made first where the recipe says so.

    What was made stays beside the splits, and so do the sales that were left out, each with its reason.
    """
    if data.item_weeks is None or data.source is None:
        return data
    table, left_out = item_weeks(find_files(data.source), data.item_weeks)
    table.to_parquet(draft / WEEKS_FILE, index=False)
    left_out.to_parquet(draft / LEFT_OUT_FILE, index=False)
    print(f"{len(table):,} weeks of {table['item'].nunique():,} items made of single sales")
    if len(left_out):
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in left_out["reason"].value_counts().items())
        print(f"left out {len(left_out):,} sales: {reasons} (see {LEFT_OUT_FILE})")
    return data.model_copy(update={"source": str(draft / WEEKS_FILE), "item_weeks": None})


def outcome_for(tasks: dict[str, Task], columns: Columns, rows: Survey, split: Splits) -> Outcome:
    """What the tasks' labels mean: classes, or bins over the numbers of the training rows."""
    each = {
        name: _outcome(task, columns, labels, split)
        for (name, task), labels in zip(tasks.items(), labels_of(rows, columns), strict=True)
    }
    return Together(tuple(each.items())) if columns.several else next(iter(each.values()))


def _outcome(task: Task, columns: Columns, labels: Labels, split: Splits) -> Single:
    told = labels.label != NO_LABEL
    if task.kind == Classification.kind:
        return _classes(task, [labels.names[i] for i in np.unique(labels.label[told & (split != REJECTED)])])
    if task.kind == Retrieval.kind:
        return Retrieval(task.tau, decides=task.decides)
    taught = labels.label[told & (split == TRAIN)]
    if task.kind == Rate.kind:
        return Rate(_prior(labels.names, taught), task.bid, columns.group is not None, task.decides)
    numbers = np.array([labels.names[i] for i in taught], dtype=np.float64)
    knobs = (task.bins, task.scale, task.smoothing, task.service_level, task.head, task.decides)
    return Value.from_values(numbers, *knobs)


def _classes(task: Task, names: Sequence[str]) -> Classification:
    unknown = sorted(set(task.replies) - set(names))
    if unknown:
        near = difflib.get_close_matches(unknown[0], names, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise UserError(f"tasks: replies: no row has the label {unknown[0]!r}{hint}")
    return Classification.from_labels(names, task.decides, task.replies, task.refuse)


def _prior(names: Sequence[str], taught: npt.NDArray[np.int64]) -> float:
    """Share of yes among the tries of the training rows."""
    counts = np.bincount(taught, minlength=len(names))
    seen = np.flatnonzero(counts).tolist()
    tries = np.array([float(names[i].partition(" of ")[2] or 1) for i in seen]) * counts[seen]
    return float(np.average([share_of(names[i]) for i in seen], weights=tries))


def features_for(data: Data, columns: Columns, split: Splits) -> Features:
    """The columns besides text; what is known of categories comes from the training rows alone."""
    given = data.features
    values: dict[str, Counter[str]] = {name: Counter() for name in given.categorical}
    start = 0
    for batch in _again(data, columns, len(split)) if values else ():
        kept = split[start : start + batch.table.num_rows] == TRAIN
        start += len(kept)
        for name, counts in values.items():
            counts.update(strip(batch.table.filter(pa.array(kept)), FEATURE + name))
    known = tuple(learn_category(name, counts) for name, counts in values.items())
    for category in known:
        found = sum(map(bool, values[category.name]))
        if len(category.values) < found:
            print(f"{category.name}: {len(category.values):,} of {found:,} values are common enough to be told apart")
    return Features(tuple(given.numeric), tuple(given.dates), known, tuple(given.missing))


def out_of_scope(data: Data, columns: Columns, rows: Survey) -> list[str]:
    """The texts that no label fits, each once, without those that a kept row has."""
    if data.out_of_scope is None:
        return []
    known = {key.tobytes() for key in rows.key[rows.kept]}
    texts = dict.fromkeys(stream_texts(data.out_of_scope, columns.text, columns.pair))
    return [text for text in texts if input_key(text, [""]) not in known]


def _role(name: str) -> int:
    return TRAIN if name == SOURCE else SPLITS.index(name)


def divide(rows: Survey, data: Data, columns: Columns) -> Splits:
    """The split of each row `[rows]`: index into SPLITS, or REJECTED.

    Given splits are taken as they are; validation, when it isn't given, is cut from the training rows.

    Raises:
        UserError: a split is left empty, or training without a class.
    """
    split = np.where(rows.kept, rows.role, REJECTED).astype(np.uint8)
    if data.source is not None or data.validation is None:
        pool = split == TRAIN
        test = data.split.test if data.source is not None else 0.0
        if columns.time:
            split[pool] = split_by_time(rows.time[pool], data.split.validation, test)
        elif columns.split or columns.group:
            split[pool] = split_by_group(rows.apart[pool], data.split.validation, test)
        else:
            keys = [key.tobytes() for key in rows.key[pool]]
            order = shuffle_order(data.split.seed, keys)
            if not columns.closed:
                # A text that occurs with several labels, or for several tasks, must not cross.
                split[pool] = split_by_group(order, data.split.validation, test)
            else:
                split[pool] = split_by_label(rows.label[pool], order, data.split.validation, test)
    first = next(iter(sources_of(data).values()))
    refuse_division(rows, split[rows.kept], columns, first)
    if columns.time:
        refuse_backwards(rows, split, columns, first)
    return split


def _write(
    draft: Path,
    data: Data,
    tasks: Sequence[Task],
    columns: Columns,
    rows: Survey,
    split: Splits,
    outcome: Outcome,
    features: Features,
    outside: Sequence[str],
) -> tuple[str, Counter[Reason]]:
    """Last pass: write each row to its place; returns the dataset digest, and how many of the pool had which flaw."""
    others = [name for name, there in ((OUT_OF_SCOPE, outside), (UNLABELLED, data.unlabelled)) if there]
    digest, pool = DatasetDigest((*SPLITS, *others)), Counter[Reason]()
    if outside:
        digest.add(OUT_OF_SCOPE, [row_digest(text, "") for text in outside])
    named = columns.sources()
    names = ("row", "text", "label", *(name for name in ("split", "time", "group", "weight") if name in named))
    types = dict.fromkeys(names, pa.string()) | ({"label": pa.float64()} if columns.number else {})
    types |= {"weight": pa.float64()} if columns.weight else {}
    fields = [pa.field(name, kind, nullable=False) for name, kind in types.items()]
    fields += [pa.field(FEATURE + name, FEATURE_TYPES[kind]) for name, kind in columns.features.items()]
    start = 0
    with ExitStack() as stack:
        shards = [stack.enter_context(ShardWriter(draft / name, pa.schema(fields), data.shard_rows)) for name in SPLITS]
        rejected = stack.enter_context(pq.ParquetWriter(draft / REJECTED_FILE, REJECTED_SCHEMA, compression="zstd"))
        for batch in _again(data, columns, len(rows)):
            here = slice(start, start + batch.table.num_rows)
            start = here.stop
            for which, name in enumerate(SPLITS):
                table = _clean(batch.table.filter(pa.array(split[here] == which)), fields, columns, tasks)
                digest.add(name, table["row"].to_pylist())
                shards[which].write(table)
            if not rows.kept[here].all():
                # What was made on the way lies beside the splits.
                file = batch.file.removeprefix(f"{draft}/")
                rejected.write_table(_set_aside(batch, file, rows.reason[here], columns))
        if data.unlabelled:
            judged = judge_pool(data.unlabelled, columns, rows, split, outside)
            pool = _write_pool(draft, data, columns, judged, digest, rejected)
    return digest.hexdigest({"outcome": outcome.spec(), "features": features.spec(), "pair": columns.pair}), pool


def _write_pool(
    draft: Path,
    data: Data,
    columns: Columns,
    judged: Iterable[Judged],
    digest: DatasetDigest,
    rejected: pq.ParquetWriter,
) -> Counter[Reason]:
    """Write the rows without a label beside the splits, and why others are left out."""
    found: Counter[Reason] = Counter()
    fields = [pa.field(name, pa.string(), nullable=False) for name in ("row", "text")]
    fields += [pa.field(FEATURE + name, FEATURE_TYPES[kind]) for name, kind in columns.features.items()]
    with ShardWriter(draft / UNLABELLED, pa.schema(fields), data.shard_rows) as shards:
        for batch, reason in ((part.batch, part.reason) for part in judged):
            found.update(map(Reason, reason.tolist()))
            kept = batch.table.filter(pa.array(reason == Reason.KEPT))
            made = {name: strip(kept, name) for name in ("text", *(FEATURE + name for name in columns.features))}
            rows = zip(made["text"], feature_values(kept, columns), strict=True)
            made["row"] = [row_digest(text, "", values) for text, values in rows]
            table = pa.table(_typed(made, fields), schema=pa.schema(fields))
            digest.add(UNLABELLED, table["row"].to_pylist())
            shards.write(table)
            if reason.any():
                rejected.write_table(_set_aside(batch, batch.file, reason, columns))
    return found


def _again(data: Data, columns: Columns, expected: int) -> Iterator[Batch]:
    """All batches in the order of the first pass.

    Raises:
        UserError: there are more or fewer rows than the first time.
    """
    seen = 0
    for location in sources_of(data).values():
        for batch in stream_batches(location, columns):
            seen += batch.table.num_rows
            if seen > expected:
                break
            yield batch
    if seen != expected:
        raise UserError("data: the files changed while they were read; run again when they are at rest")


def _clean(table: pa.Table, fields: list[pa.Field], columns: Columns, tasks: Sequence[Task]) -> pa.Table:
    """Rows as they are stored: ends stripped, numbers as numbers, missing features null, with their digests."""
    made: dict[str, list[Any]] = {field.name: strip(table, field.name) for field in fields}
    weights = strip(table, "weight")
    # A group or a weight tells two rows apart too: they are compared with others, and count otherwise.
    known = zip(*(made[name] for name in ("group", "weight") if name in made), strict=True)
    told = list(known) or [()] * table.num_rows
    rows = zip(made["text"], made["label"], feature_values(table, columns), told, strict=True)
    made["row"] = [row_digest(text, label, (*values, *others)) for text, label, values, others in rows]
    if columns.number:
        pairs = zip(made["label"], weights, strict=True)
        made["label"] = [repr(label_value(label, weight, tasks[0])) for label, weight in pairs]
    if columns.several:
        made["label"] = [_as_stored(label, tasks) for label in made["label"]]
    return pa.table(_typed(made, fields), schema=pa.schema(fields))


def _typed(made: dict[str, list[Any]], fields: list[pa.Field]) -> dict[str, list[Any]]:
    """Texts as the fields have them: numbers as numbers, null where a feature is missing."""
    for field in fields:
        if field.type == pa.float64():
            found = (number(value, field.name) for value in made[field.name])
            made[field.name] = [None if math.isnan(value) else value for value in found]
        elif field.nullable:
            made[field.name] = [value or None for value in made[field.name]]
    return made


def _as_stored(joined: str, tasks: Sequence[Task]) -> str:
    """Labels of several tasks with numbers as numbers."""
    labels = zip(split_label(joined), tasks, strict=True)
    return join_label([_number_or_name(label or "", task) for label, task in labels])


def _number_or_name(label: str, task: Task) -> str:
    return label if not label or task.kind == Classification.kind else repr(label_value(label, "", task))


def _set_aside(batch: Batch, file: str, reason: npt.NDArray[np.uint8], columns: Columns) -> pa.Table:
    """The rejected rows of a batch, as the source has them, with file, row and reason."""
    where = np.flatnonzero(reason)
    chosen = batch.table.take(pa.array(where))
    codes = zip(reason[where], feature_values(chosen, columns), strict=True)
    return pa.table(
        {
            "file": [file] * len(where),
            "row": where + batch.first_row,
            "reason": [in_words(Reason(code), features, columns) for code, features in codes],
            "text": chosen["text"],
            "label": chosen["label"],
        },
        schema=REJECTED_SCHEMA,
    )


def _report(rows: Survey, counts: dict[str, int], outcome: Outcome) -> None:
    aside = ", ".join(f"{count:,} {why}" for why, count in rows.counts().items())
    if aside:
        print(f"rejected {np.sum(~rows.kept):,} of {len(rows):,} rows: {aside} (see {REJECTED_FILE})")
    division = ", ".join(f"{counts[name]:,} {name}" for name in SPLITS)
    print(f"{np.sum(rows.kept):,} rows: {division}; {len(outcome)} outcomes")


def _report_pool(pool: Counter[Reason]) -> None:
    left_out = ", ".join(f"{count:,} {why.words}" for why, count in pool.most_common() if why != Reason.KEPT)
    print(f"{pool[Reason.KEPT]:,} rows without a label" + (f"; left out: {left_out}" if left_out else ""))

"""Rows without a label: of use only for what a teacher says of them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from potstill.data.digest import input_key
from potstill.data.formats import Columns
from potstill.data.read import Batch, stream_batches, unlabelled
from potstill.data.split import TEST, VALIDATION
from potstill.data.survey import Reason, Survey, feature_values, odd_feature, strip


@dataclass(frozen=True)
class Judged:
    """Some rows of the pool, and why each is left out `[rows]`, a Reason."""

    batch: Batch
    reason: npt.NDArray[np.uint8]


def judge_pool(
    location: str, columns: Columns, rows: Survey, split: npt.NDArray[np.uint8], outside: Sequence[str]
) -> Iterator[Judged]:
    """Stream the pool. What has no text, or stands further up or among the rows that a model is judged by, is left out.

    Args:
        location: where the pool is.
        columns: of the labelled rows.
        rows: the labelled rows.
        split: index into SPLITS of each, or REJECTED.
        outside: texts that no label fits, by which refusal is measured.

    Raises:
        UserError: the location can't be read.
    """
    known = {key.tobytes(): int(which) for key, which in zip(rows.key[rows.kept], split[rows.kept], strict=True)}
    seen = {input_key(text, [""]) for text in outside}
    for batch in stream_batches(location, unlabelled(columns)):
        texts = strip(batch.table, "text")
        reason = np.empty(len(texts), dtype=np.uint8)
        for i, (text, values) in enumerate(zip(texts, feature_values(batch.table, columns), strict=True)):
            key = input_key(text, (*values, ""))
            flaw = odd_feature(values, columns) if text else Reason.EMPTY_TEXT
            reason[i] = flaw or _repeated(known.get(key), key in seen)
            seen.add(key)
        yield Judged(batch, reason)


def _repeated(labelled: int | None, seen: bool) -> Reason:
    leaks = {TEST: Reason.ALSO_IN_TEST, VALIDATION: Reason.ALSO_IN_VALIDATION}
    if labelled in leaks:
        return leaks[labelled]
    return Reason.KEPT if labelled is None and not seen else Reason.DUPLICATE

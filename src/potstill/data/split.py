"""Which rows train, which validate, which test: decided by content and seed, never by the order of rows."""

import numpy as np
import numpy.typing as npt

SPLITS = ("train", "validation", "test")
TRAIN, VALIDATION, TEST = range(3)

Splits = npt.NDArray[np.uint8]


def split_by_label(
    label: npt.NDArray[np.int64], order: npt.NDArray[np.uint64], validation: float, test: float
) -> Splits:
    """Divide rows so that each class keeps its share in each split (stratified).

    Every class has a row in training; if `test` > 0, a class of two or more rows has one in test. Rounding is
    carried from class to class, so that the shares also hold over many small classes.

    Args:
        label: class of each row `[rows]`; classes are numbered in an order that doesn't depend on the rows' order.
        order: shuffled position of each row `[rows]`, unique within a class.
        validation: share of rows for validation, 0 to 1.
        test: share of rows for test, 0 to 1; 0 leaves test empty.

    Returns:
        Index into SPLITS for each row `[rows]`.
    """
    split = np.full(len(label), TRAIN, dtype=np.uint8)
    by_class = np.lexsort((order, label))
    starts = np.flatnonzero(np.diff(label[by_class], prepend=-1))
    carry_test = carry_validation = 0.0
    for rows in np.split(by_class, starts[1:]):
        size = len(rows)
        wish, carry_test = _round(test * size + carry_test)
        # A class that test doesn't hold can't be judged.
        testing = min(max(wish, 1 if test > 0 else 0), size - 1)
        wish, carry_validation = _round(validation * size + carry_validation)
        validating = min(wish, size - 1 - testing)
        split[rows[:testing]] = TEST
        split[rows[testing : testing + validating]] = VALIDATION
    return split


def _round(value: float) -> tuple[int, float]:
    """The nearest whole number and what it leaves over (-0.5 to 0.5)."""
    whole = int(np.floor(value + 0.5))
    return whole, value - whole


def split_by_group(group: npt.NDArray[np.uint64], validation: float, test: float) -> Splits:
    """Divide rows so that no group crosses, with shares of rows as near as whole groups allow.

    Groups are taken in shuffled order while they fit; then one more if that comes nearer to the share: a split is
    off by at most half its largest group. Each split has a group where there are enough of them.

    Args:
        group: seeded digest of each row's group `[rows]`: its value is the group's place in the shuffle.
        validation: share of rows for validation, 0 to 1.
        test: share of rows for test, 0 to 1; 0 leaves test empty.

    Returns:
        Index into SPLITS for each row `[rows]`.
    """
    _, inverse, sizes = np.unique(group, return_inverse=True, return_counts=True)
    assigned = np.full(len(sizes), TRAIN, dtype=np.uint8)
    wanted = [(which, share) for which, share in ((TEST, test), (VALIDATION, validation)) if share > 0]
    for i, (which, share) in enumerate(wanted):
        free = np.flatnonzero(assigned == TRAIN)
        others = len(wanted) - i  # splits that still need a group, training among them
        chosen = _fill(sizes[free], share * len(group), len(free) - others)
        assigned[free[chosen]] = which
    return assigned[inverse]


def split_by_time(time: npt.NDArray[np.float64], validation: float, test: float) -> Splits:
    """Divide rows by time: the last ones test, those before them validate, the first ones train.

    Rows of one moment stay together; each split gets the moments whose end comes nearest to its share.

    Args:
        time: of each row `[rows]`.
        validation: share of rows for validation, 0 to 1.
        test: share of rows for test, 0 to 1; 0 leaves test empty.

    Returns:
        Index into SPLITS for each row `[rows]`.
    """
    moments, inverse, sizes = np.unique(time, return_inverse=True, return_counts=True)
    before = np.concatenate([[0], np.cumsum(sizes)]) / len(time)
    starts = [int(np.abs(before - start).argmin()) for start in (1 - test - validation, 1 - test)]
    place = np.arange(len(moments))
    assigned = np.where(place >= starts[0], VALIDATION, TRAIN).astype(np.uint8)
    if test > 0:
        assigned[place >= starts[1]] = TEST
    return assigned[inverse]


def _fill(sizes: npt.NDArray[np.int64], target: float, at_most: int) -> list[int]:
    """Indices of at most so many groups whose sizes add up to about the target; at least one if any is allowed."""
    chosen: list[int] = []
    total = 0
    for i, size in enumerate(sizes):
        if len(chosen) < at_most and total + size <= target:
            chosen.append(i)
            total += int(size)
    if len(chosen) < at_most:
        rest = np.setdiff1d(np.arange(len(sizes)), chosen)
        nearest = rest[np.argmin(np.abs(total + sizes[rest] - target))]
        if not chosen or abs(total + sizes[nearest] - target) < abs(total - target):
            chosen.append(int(nearest))
    return chosen

"""Splits partition the rows, keep shares and groups, and don't depend on the order of rows."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from potstill.data.split import TEST, TRAIN, VALIDATION, split_by_group, split_by_label, split_by_time

SHARES = st.tuples(st.floats(0.05, 0.4), st.floats(0.05, 0.4))
CLASS_SIZES = st.lists(st.integers(2, 40), min_size=2, max_size=12)
GROUP_SIZES = st.lists(st.integers(1, 30), min_size=3, max_size=40)


def labelled(sizes, seed=0):
    random = np.random.default_rng(seed)
    label = random.permutation(np.repeat(np.arange(len(sizes)), sizes))
    return label, random.permutation(len(label)).astype(np.uint64)


def grouped(sizes, seed=0):
    random = np.random.default_rng(seed)
    names = random.integers(0, 2**64, size=len(sizes), dtype=np.uint64, endpoint=False)
    return random.permutation(np.repeat(names, sizes))


def test_ten_rows_of_two_classes_divide_as_counted_by_hand():
    label = np.array([0] * 10 + [1] * 10)
    order = np.arange(20, dtype=np.uint64)[::-1].copy()

    split = split_by_label(label, order, validation=0.1, test=0.2)

    # The order is reversed: the last two of each class test, the one before validates.
    assert split.tolist() == ([TRAIN] * 7 + [VALIDATION] + [TEST] * 2) * 2


def test_a_class_of_two_rows_trains_and_tests_and_one_of_three_trains_too():
    label, order = labelled([2, 3, 100])

    split = split_by_label(label, order, validation=0.1, test=0.2)

    assert sorted(split[label == 0]) == [TRAIN, TEST]
    assert set(split[label == 1]) >= {TRAIN, TEST}


@given(CLASS_SIZES, SHARES)
def test_each_class_keeps_its_shares_to_within_a_row(sizes, shares):
    validation, test = shares
    label, order = labelled(sizes)

    split = split_by_label(label, order, validation, test)

    for which, size in enumerate(sizes):
        own = split[label == which]
        assert len(own) == size
        assert np.sum(own == TRAIN) >= 1
        assert np.sum(own == TEST) >= 1
        assert abs(np.sum(own == TEST) - test * size) <= 1
        assert np.sum(own == VALIDATION) <= validation * size + 1


@given(st.integers(2, 60), st.floats(0.1, 0.4), st.floats(0.01, 0.4))
def test_shares_hold_over_many_small_classes(classes, test, validation):
    label, order = labelled([10] * classes)

    split = split_by_label(label, order, validation, test)

    assert abs(np.sum(split == TEST) - test * len(label)) <= 1
    assert abs(np.sum(split == VALIDATION) - validation * len(label)) <= 1


@given(CLASS_SIZES, SHARES, st.randoms())
def test_stratified_split_follows_rows_when_they_are_shuffled(sizes, shares, random):
    label, order = labelled(sizes)
    shuffled = np.array(random.sample(range(len(label)), len(label)))

    split = split_by_label(label, order, *shares)

    assert split_by_label(label[shuffled], order[shuffled], *shares).tolist() == split[shuffled].tolist()


def test_only_validation_is_cut_when_no_test_is_asked():
    label, order = labelled([10, 20])

    split = split_by_label(label, order, validation=0.1, test=0.0)

    assert np.bincount(split).tolist() == [27, 3]


@given(GROUP_SIZES, SHARES)
def test_no_group_crosses_and_every_split_has_one(sizes, shares):
    group = grouped(sizes)

    split = split_by_group(group, *shares)

    assert set(split) == {TRAIN, VALIDATION, TEST}
    assert all(len(set(split[group == name])) == 1 for name in np.unique(group))


@given(st.lists(st.integers(1, 30), min_size=40, max_size=200), SHARES)
def test_group_shares_are_off_by_half_the_largest_group_at_most(sizes, shares):
    validation, test = shares
    group = grouped(sizes)

    split = split_by_group(group, validation, test)

    for which, share in ((VALIDATION, validation), (TEST, test)):
        assert abs(np.sum(split == which) - share * len(group)) <= max(sizes) / 2


@given(GROUP_SIZES, SHARES, st.randoms())
def test_group_split_follows_rows_when_they_are_shuffled(sizes, shares, random):
    group = grouped(sizes)
    shuffled = np.array(random.sample(range(len(group)), len(group)))

    split = split_by_group(group, *shares)

    assert split_by_group(group[shuffled], *shares).tolist() == split[shuffled].tolist()


@pytest.mark.parametrize("groups", [1, 2])
def test_too_few_groups_leave_a_split_empty_rather_than_cross(groups):
    split = split_by_group(grouped([5] * groups), validation=0.1, test=0.2)

    assert len(set(split)) < 3


def test_a_giant_group_trains():
    group = np.array([1] * 80 + [2] * 10 + [3] * 10, dtype=np.uint64)

    split = split_by_group(group, validation=0.1, test=0.1)

    assert [int(np.sum(split == which)) for which in (TRAIN, VALIDATION, TEST)] == [80, 10, 10]


@given(st.lists(st.integers(0, 25), min_size=30, max_size=200), SHARES)
def test_time_splits_put_the_past_before_the_future_and_tear_no_moment(moments, shares):
    time = np.array(moments, dtype=float)

    split = split_by_time(time, *shares)

    for moment in set(moments):
        assert len(set(split[time == moment])) == 1
    for earlier, later in ((TRAIN, VALIDATION), (VALIDATION, TEST), (TRAIN, TEST)):
        if (split == earlier).any() and (split == later).any():
            assert time[split == earlier].max() < time[split == later].min()


def test_time_splits_keep_their_shares_where_moments_are_many():
    split = split_by_time(np.random.default_rng(0).permutation(1000).astype(float), validation=0.1, test=0.2)

    assert [int(np.sum(split == which)) for which in (TRAIN, VALIDATION, TEST)] == [700, 100, 200]


def test_without_a_test_share_the_last_rows_validate():
    split = split_by_time(np.arange(10.0), validation=0.3, test=0)

    assert split.tolist() == [TRAIN] * 7 + [VALIDATION] * 3

import json

import numpy as np

from potstill.drift.histogram import Histogram, commonest


def test_numbers_fall_into_tenths_and_what_was_never_seen_beyond_both_ends():
    learnt = Histogram.learn(np.arange(1.0, 101.0))
    assert learnt.counts == (0, 0, *[10] * 10, 0)
    assert learnt.count(np.array([np.nan, 0.5, 1.0, 10.0, 10.5, 100.0, 101.0])).tolist() == [
        *(1, 1, 2, 1, 0, 0, 0, 0, 0, 0, 0, 1),
        1,
    ]
    assert learnt.bins.names[:4] == ("missing", "below 1", "1 – 10", "10 – 20")
    assert learnt.bins.names[-1] == "above 100"


def test_a_column_of_one_number_still_tells_others_apart():
    learnt = Histogram.learn(np.array([0.0, 0.0, np.nan]))
    assert learnt.bins.names == ("missing", "below 0", "0", "above 0")
    assert learnt.counts == (1, 0, 2, 0)
    assert learnt.count(np.array([-1.0, 0.0, 3.0])).tolist() == [0, 1, 1, 1]


def test_of_a_column_that_was_always_missing_any_number_is_new():
    learnt = Histogram.learn(np.array([np.nan, np.nan]))
    assert (learnt.bins.names, learnt.counts) == (("missing", "any"), (2, 0))
    assert learnt.count(np.array([4.0, np.nan])).tolist() == [1, 1]


def test_names_without_a_bin_are_counted_together_and_missing_ones_apart():
    learnt = Histogram.learn(["red", "blue", "red", None], names=["red"])
    assert learnt.bins.names == ("red", "other", "missing")
    assert learnt.counts == (2, 1, 1)


def test_the_commonest_names_are_taken_and_equal_ones_in_order():
    names = [f"n{i:02d}" for i in range(40)]
    assert commonest([*names, "n39", "n39", None]) == [*names[:29], "n39"]


def test_what_is_written_counts_as_what_was_learnt():
    values = np.random.default_rng(0).lognormal(size=200)
    for learnt, others in (
        (Histogram.learn(values), values * 1.3),
        (Histogram.learn(["a", None], names=["a"]), ["a", "b"]),
    ):
        again = Histogram.from_spec(json.loads(json.dumps(learnt.spec())))
        assert again == learnt
        assert again.count(others).tolist() == learnt.count(others).tolist()

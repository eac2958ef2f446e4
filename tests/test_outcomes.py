import numpy as np
import pytest

from potstill.outcomes import Classification


def test_the_order_of_outcomes_depends_on_nothing_but_the_labels():
    assert Classification.from_labels(["b", "a", "b"]) == Classification.from_labels(["a", "b"])
    assert Classification.from_labels(["b", "a"]).names == ("a", "b")


def test_labels_survive_encoding_and_decoding():
    outcome = Classification(("no", "perhaps", "yes"))
    labels = ["yes", "no", "yes", "perhaps"]
    assert outcome.decode(np.eye(3)[outcome.encode(labels)]) == labels
    assert len(outcome) == 3


def test_an_unknown_label_is_refused():
    with pytest.raises(KeyError):
        Classification(("no", "yes")).encode(["maybe"])

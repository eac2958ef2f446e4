import json
from pathlib import Path

import numpy as np
import pytest
from tiny import write_edge

from potstill.compress.cascade import cascade, least_sure
from potstill.data.dataset import Rows
from potstill.edge import EdgeModel
from potstill.outcomes import Classification, Probabilities, Together

OUTCOME = Classification(("no", "yes"))
# How sure the smaller model is of "yes", and the larger one's answers: "no" to all.
SURE = np.array([0.95, 0.9, 0.8, 0.7, 0.6])
FIRST, SECOND = np.stack([1 - SURE, SURE], axis=1), np.tile([1.0, 0.0], (5, 1))


def lets(*right: bool):
    """Allows as many answers of the smaller model as come before the first wrong one."""
    return lambda mixed: all(right[i] for i in np.flatnonzero(mixed[:, 1] > 0.5))


def test_the_threshold_is_the_lowest_confidence_that_is_allowed():
    assert least_sure(OUTCOME, FIRST, SECOND, lets(True, True, True, False, True)) == pytest.approx(0.8)


def test_all_rows_stay_with_a_first_that_is_good_enough_everywhere():
    assert least_sure(OUTCOME, FIRST, SECOND, lets(*[True] * 5)) == pytest.approx(0.6)


def test_no_row_stays_with_a_first_that_is_wrong_where_it_is_surest():
    found = least_sure(OUTCOME, FIRST, SECOND, lets(False, True, True, True, True))
    assert found > 0.95
    assert not (found <= SURE).any()


def test_what_holds_by_luck_further_down_is_not_taken():
    def may(mixed: Probabilities) -> bool:
        return int((mixed[:, 1] > 0.5).sum()) in {0, 1, 5}

    assert least_sure(OUTCOME, FIRST, SECOND, may) == pytest.approx(0.95)


def test_of_several_tasks_the_least_sure_decides():
    both = Together((("a", OUTCOME), ("b", OUTCOME)))
    first = np.concatenate([FIRST, FIRST[::-1]], axis=1)
    second = np.concatenate([SECOND, SECOND], axis=1)
    # The pairs of confidences are (0.95, 0.6), (0.9, 0.7), (0.8, 0.8) and so on.
    found = least_sure(both, first, second, lambda mixed: int((mixed[:, 1] > 0.5).sum()) <= 1)
    assert found == pytest.approx(0.8)


def test_both_models_lie_in_one_folder_which_refuses_by_what_both_say(tmp_path: Path):
    first, second = (write_edge(tmp_path / name, good=good) for name, good in (("a", 2.0), ("b", 10.0)))
    card = json.loads((second / "card.json").read_text())
    card["outcome"] |= {"refuse": 0.5}
    (second / "card.json").write_text(json.dumps(card))
    texts = ["good", "kettle", "good bad"]
    rows = Rows(row=["1", "2", "3"], text=texts, value=np.array([1.0, 0.0, 1.0]), features=[{}, {}, {}])
    outcome = cascade(first, second, tmp_path / "both", 0.8, rows)
    made = EdgeModel(tmp_path / "both")
    # The confidences are 0.88 by the first, 0.5 and 0.9997 by the second. The first's word is just not refused.
    assert outcome == made.outcome
    assert made.outcome.threshold == pytest.approx(0.880797, abs=1e-6)
    assert [answer["in_scope"] for answer in made.answer(texts)] == [True, False, True]
    assert made.answer(["good"])[0]["confidence"] == pytest.approx(0.880797, abs=1e-6)
    assert (EdgeModel(first).card, EdgeModel(second).card) == (made.first.card, card)


def test_thresholds_settle_where_what_is_refused_goes_on(tmp_path: Path):
    # Of "good" the first says 0.88, the larger one 0.73; of "bad bad" and "bad bad bad" both say 0.98 and 0.998.
    first, second = (write_edge(tmp_path / name, good=good) for name, good in (("a", 2.0), ("b", 1.0)))
    card = json.loads((second / "card.json").read_text())
    card["outcome"] |= {"refuse": 0.75}
    (second / "card.json").write_text(json.dumps(card))
    texts = ["good", "kettle", "bad bad", "bad bad bad"]
    rows = Rows(row=list("1234"), text=texts, value=np.array([1.0, 0.0, 0.0, 0.0]), features=[{}] * 4)
    outcome = cascade(first, second, tmp_path / "both", 0.8, rows)
    made = EdgeModel(tmp_path / "both")
    confidences = made.probabilities(texts).max(axis=1)
    # The threshold is the share's place among the very confidences that it brings about.
    assert outcome.threshold == pytest.approx(float(np.quantile(confidences, 0.75)))
    refused = [text for text, sure in zip(texts, confidences, strict=True) if sure < outcome.threshold]
    assert all(made.answering(text) is not made.first for text in refused)

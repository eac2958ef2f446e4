import json
from pathlib import Path

import numpy as np
import pytest

from potstill.compress.settle import HIGHEST, LOWEST, settle, temperature, tempered
from potstill.data.dataset import Rows
from potstill.edge import EdgeModel
from potstill.metrics import Truth, metrics_of
from potstill.outcomes import Classification, Rate, Together, Value, side_by_side, softmax
from tests.tiny import write_edge


def drawn(logits: np.ndarray, seed: int = 7) -> np.ndarray:
    """Labels that come as often as the logits say."""
    chances = softmax(logits).cumsum(axis=1)
    return (np.random.default_rng(seed).random((len(logits), 1)) > chances).sum(axis=1).astype(float)


@pytest.mark.parametrize("true", [0.6, 1.0, 3.0])
def test_finds_the_temperature_by_which_a_model_is_too_sure(true: float):
    honest = np.random.default_rng(3).normal(size=(20_000, 5)) * 2
    targets = np.eye(5)[drawn(honest).astype(int)]
    assert temperature(honest * true, targets, None) == pytest.approx(true, rel=0.05)


def test_no_other_temperature_has_a_lower_cross_entropy():
    logits = np.random.default_rng(3).normal(size=(300, 4)) * 5
    targets = np.eye(4)[np.random.default_rng(4).integers(0, 4, 300)]
    weights = np.random.default_rng(5).random(300)

    def cost(t: float) -> float:
        return float(np.average(-np.log((softmax(logits / t) * targets).sum(axis=1)), weights=weights))

    found = temperature(logits, targets, weights)
    assert cost(found) <= min(cost(t) for t in np.geomspace(LOWEST, HIGHEST, 200)) + 1e-9


def test_a_model_that_is_always_right_or_knows_nothing_stays_within_bounds():
    logits = np.eye(3)[[0, 1, 2, 0]] * 10
    assert temperature(logits, np.eye(3)[[0, 1, 2, 0]], None) == LOWEST
    assert temperature(logits, np.eye(3)[[1, 2, 0, 1]], None) == HIGHEST


def test_bands_of_a_model_half_as_sure_again_as_right_hold_what_they_say_again():
    value = Value(low=0, high=64, bins=64, scale="linear", smoothing=0.75)
    rng = np.random.default_rng(7)
    centre = rng.uniform(20, 44, 4000)
    truth = Truth(rng.normal(centre, 3.0))
    # Two thirds of the true deviation are 1 / 2.25 of the variance.
    logits = -((np.arange(64)[None] + 0.5 - centre[:, None]) ** 2) / (2 * 2.0**2)
    settled = tempered(value, logits, truth)
    assert settled.temperature == pytest.approx(2.25, rel=0.1)
    before, after = (metrics_of(value, truth, side_by_side(o, logits)) for o in (value, settled))
    once = np.ones((1, 4000))
    assert before["coverage"](once)[0] < 0.64
    assert after["coverage"](once)[0] == pytest.approx(0.8, abs=0.03)


def test_each_task_has_a_temperature_of_its_own_from_the_rows_with_its_label():
    both = Together((("kind", Classification(("a", "b"))), ("mood", Classification(("c", "d")))))
    logits = np.random.default_rng(3).normal(size=(20_000, 4)) * 2
    values = np.full((20_000, 2), np.nan)
    values[:10_000, 0], values[10_000:, 1] = drawn(logits[:10_000, :2]), drawn(logits[10_000:, 2:])
    told = np.concatenate([logits[:, :2] * 2, logits[:, 2:] / 1.5], axis=1)
    found = [part.outcome.temperature for part in tempered(both, told, Truth(values)).parts]
    assert found == pytest.approx([2.0, 1 / 1.5], rel=0.07)


def test_a_rate_and_a_task_with_few_labels_keep_theirs():
    logits = np.random.default_rng(3).normal(size=(1000, 2)) * 9
    labels = np.random.default_rng(4).integers(0, 2, 1000).astype(float)
    assert tempered(Rate(), logits, Truth(labels)).temperature == 1
    classes = Classification(("a", "b"))
    assert tempered(classes, logits[:199], Truth(labels[:199])).temperature == 1
    assert tempered(classes, logits[:200], Truth(labels[:200])).temperature > 1


def test_the_card_takes_it_and_the_predictor_answers_by_it(tmp_path: Path):
    folder = write_edge(tmp_path / "edge")
    # One in three is wrong: at 2 to 1 of the odds, logits of 2 and 0 are too sure by 2 / log(2).
    texts, labels = ["good", "good", "good", "bad", "bad", "bad"] * 50, [1, 1, 0, 0, 0, 1] * 50
    rows = Rows([str(i) for i in range(300)], texts, np.array(labels, dtype=float), [{}] * 300)
    outcome = settle(folder, rows)
    assert outcome.temperature == pytest.approx(2 / np.log(2), rel=1e-6)
    assert json.loads((folder / "card.json").read_text())["outcome"]["temperature"] == outcome.temperature
    assert EdgeModel(folder).probabilities(["good"])[0] == pytest.approx([1 / 3, 2 / 3], rel=1e-6)

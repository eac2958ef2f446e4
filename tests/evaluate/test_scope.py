import numpy as np
import pytest
from sklearn.metrics import f1_score, roc_auc_score

from potstill.evaluate import scope
from potstill.outcomes import Classification, Together, Value, refusing


def test_figures_are_those_of_scikit_learn():
    random = np.random.default_rng(0)
    inside, outside = random.dirichlet([0.2, 0.2, 0.2], size=300), random.dirichlet([2.0, 2.0, 2.0], size=200)
    labels = random.integers(3, size=300)
    found = scope.figures(inside, labels, outside, 0.6)
    confidence = np.concatenate([inside.max(axis=1), outside.max(axis=1)])
    foreign = np.repeat([0, 1], [300, 200])
    assert found["scope_auroc"] == pytest.approx(roc_auc_score(foreign, -confidence))
    assert found["scope_f1"] == pytest.approx(f1_score(foreign, confidence < 0.6))
    assert found["scope_recall"] == pytest.approx((outside.max(axis=1) < 0.6).mean())
    assert found["refused"] == pytest.approx((inside.max(axis=1) < 0.6).mean())
    kept = inside.max(axis=1) >= 0.6
    assert found["accuracy_kept"] == pytest.approx((inside.argmax(axis=1) == labels)[kept].mean())


def test_without_texts_out_of_scope_there_is_only_what_is_refused_of_the_rest():
    inside = np.array([[0.9, 0.1], [0.4, 0.6], [0.5, 0.5]])
    found = scope.figures(inside, np.array([0, 1, 0]), None, 0.55)
    assert found == {"refused": pytest.approx(1 / 3), "accuracy_kept": 1.0}


def test_the_threshold_refuses_the_share_that_it_may_of_the_rows_that_chose_it():
    inside = np.random.default_rng(0).dirichlet([0.5, 0.5], size=1000)
    outcome = refusing(Classification(("a", "b"), refuse=0.05), inside, np.zeros(1000))
    assert isinstance(outcome, Classification)
    assert outcome.threshold is not None
    assert (inside.max(axis=1) < outcome.threshold).mean() == pytest.approx(0.05, abs=0.001)
    assert [a["in_scope"] for a in outcome.answers(np.array([[1.0, 0.0], [0.5, 0.5]]))] == [True, False]
    assert outcome.fields == ("label", "confidence", "probabilities", "in_scope")
    assert Classification.from_spec(outcome.spec()) == outcome


def test_of_several_tasks_only_those_that_refuse_get_a_threshold_by_their_own_rows():
    price = Value(0, 1, 8, "linear", 1.0)
    both = Together((("tone", Classification(("a", "b"), refuse=0.5)), ("price", price)))
    probabilities = np.concatenate([np.array([[0.9, 0.1], [0.7, 0.3], [0.5, 0.5]]), np.full((3, 8), 1 / 8)], axis=1)
    values = np.array([[0.0, np.nan], [1.0, np.nan], [np.nan, 0.5]])
    found = refusing(both, probabilities, values)
    assert isinstance(found, Together)
    assert found.tasks[0][1].threshold == pytest.approx(0.8)
    assert found.tasks[1][1] == price

"""The receiver operating characteristic: which share of the yeses is found, at which share of false alarms.

Fawcett 2006, "An introduction to ROC analysis".
"""

from dataclasses import dataclass

import numpy as np

from potstill.metrics import Truth
from potstill.outcomes import Classification, Floats, Probabilities, Rate, Single

# A curve of more points looks the same; each step between two is at most 2 / POINTS long.
POINTS = 200


@dataclass(frozen=True)
class Curve:
    """From no row taken for a yes to all: at each threshold the rows that score as much or more are."""

    false_positive_rate: list[float]
    true_positive_rate: list[float]
    threshold: list[float]


def roc_of(outcome: Single, truth: Truth, probabilities: Probabilities) -> Curve | None:
    """A family's curve; none where it knows no yes and no (values, answers to be found), or the rows hold but one.

    Of two classes the second is the yes. Of more each row is asked once a class whether it is of it (the
    micro-average of one against the rest). A rate's row with the value 0.3 counts as three parts yes, seven parts no.

    Args:
        outcome: the family.
        truth: labels and weights of the rows.
        probabilities: `[rows, outcomes]`.
    """
    weights = np.ones(len(truth)) if truth.weights is None else truth.weights
    if isinstance(outcome, Rate):
        shares, scores = truth.values[:, None], probabilities[:, 1:]
    elif isinstance(outcome, Classification):
        first = 1 if len(outcome) == 2 else 0
        shares = (truth.values[:, None] == np.arange(len(outcome))).astype(np.float64)[:, first:]
        scores = probabilities[:, first:]
    else:
        return None
    yes, no = (weights[:, None] * part for part in (shares, 1 - shares))
    if not (yes.any() and no.any()):
        return None
    return _thinned(roc(yes.ravel(), no.ravel(), scores.astype(np.float64).ravel()))


def roc(yes: Floats, no: Floats, scores: Floats) -> Curve:
    """The curve, a point for each score that occurs.

    Args:
        yes: how much of each row is a yes `[rows]`; some of one must be.
        no: how much of it is a no `[rows]`; likewise.
        scores: `[rows]`.
    """
    order = np.argsort(-scores, kind="stable")
    # The last row of each run of equal scores.
    ends = np.flatnonzero(np.diff(scores[order], append=-np.inf))
    thresholds = scores[order][ends]
    # Just above the greatest score, where nothing is taken yet: infinity is no JSON.
    thresholds = np.concatenate([[np.nextafter(thresholds[0], np.inf)], thresholds])
    found, alarms = (np.concatenate([[0.0], np.cumsum(counted[order])[ends]]) for counted in (yes, no))
    return Curve((alarms / alarms[-1]).tolist(), (found / found[-1]).tolist(), thresholds.tolist())


def _thinned(curve: Curve) -> Curve:
    """At most `POINTS` of a curve's points, evenly spread over its course, with both ends."""
    course = np.add(curve.false_positive_rate, curve.true_positive_rate)
    if len(course) <= POINTS:
        return curve
    kept = np.unique(np.searchsorted(course, np.linspace(0, course[-1], POINTS)))
    kept[-1] = len(course) - 1
    fields = (curve.false_positive_rate, curve.true_positive_rate, curve.threshold)
    return Curve(*(np.array(values)[kept].tolist() for values in fields))

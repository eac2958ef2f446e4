"""The quality of predictions, a family of outcomes at a time.

A metric takes how often each row counts, `[draws, rows]`, and gives one figure a draw `[draws]`: ones for the figure
on all rows, the counts of a resample for its bootstrap, so both come from the same code.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from potstill.outcomes import (
    HIGH,
    LOW,
    Classification,
    Floats,
    Outcome,
    Part,
    Probabilities,
    Rate,
    Retrieval,
    Single,
    Together,
    Value,
)

Labels = npt.NDArray[np.int64]
Metric = Callable[[Floats], Floats]
# Shares at which the pinball loss looks.
DECILES = tuple(i / 10 for i in range(1, 10))
# How far down a ranking a shop's page reaches.
PLACES = 10
# How many answers a person looks through.
FEW = 5
# Keeps logarithms finite where a model is certain.
TINY = 1e-12


@dataclass(frozen=True)
class Meaning:
    """How a metric is written, which way is up, and what it is good for.

    Attributes:
        title: as people read it.
        higher_is_better: which way is up.
        form: of a figure.
        zero_is_nothing: whether shares of it speak.
        may_decide: whether more (or less) is always better; not so where a figure is to hit a mark.
    """

    title: str
    higher_is_better: bool
    form: str = "{:.3f}"
    zero_is_nothing: bool = False
    may_decide: bool = True


# The first of a family is the one that decides, unless the recipe says otherwise.
MEANINGS: Mapping[str, Mapping[str, Meaning]] = {
    Classification.kind: {
        "macro_f1": Meaning("macro-F1", True, zero_is_nothing=True),
        "accuracy": Meaning("accuracy", True, zero_is_nothing=True),
    },
    Rate.kind: {
        "log_loss": Meaning("log loss", False, "{:.4f}"),
        "auc": Meaning("AUC", True),
        "calibration": Meaning("predicted / actual", True, may_decide=False),
    },
    Value.kind: {
        "mae_log": Meaning("MAE of log", False),
        "wape": Meaning("WAPE", False),
        "mae": Meaning("MAE", False, "{:,.4g}"),
        "mdape": Meaning("median APE", False, "{:.1%}"),
        "rmsle": Meaning("RMSLE", False),
        "r2": Meaning("R²", True),
        "pinball": Meaning("pinball", False, "{:,.4g}"),
        "coverage": Meaning("in 80 % band", True, "{:.1%}", may_decide=False),
    },
    Retrieval.kind: {
        "mrr": Meaning("MRR", True, zero_is_nothing=True),
        "recall_at_1": Meaning("recall@1", True, "{:.1%}", zero_is_nothing=True),
        "recall_at_5": Meaning("recall@5", True, "{:.1%}", zero_is_nothing=True),
    },
}
OF_A_BID = {"value_at_bid": Meaning("value at bid", True, "{:.3g}")}
OF_SERVICE = {
    "service": Meaning("service level", True, "{:.1%}", may_decide=False),
    "stock": Meaning("mean stock", False, "{:,.4g}", may_decide=False),
}
OF_GROUPS = {
    "pair_order": Meaning("pairs in order", True, "{:.1%}"),
    "ndcg_at_10": Meaning("NDCG@10", True),
    "mrr": Meaning("MRR", True),
    "recall_at_10": Meaning("recall@10", True),
}
# Over several tasks: the mean of what is best at 1 for each.
SKILL, OF_TASKS = "skill", Meaning("mean skill", True, zero_is_nothing=True)
# What a scale of values has no use for: factors where zero occurs, shares of the whole where signs do.
UNFIT: Mapping[str, tuple[str, ...]] = {
    "log": ("wape",),
    "count": ("mae_log", "mdape"),
    "linear": ("mae_log", "rmsle", "wape"),
}


@dataclass(frozen=True)
class Truth:
    """What predictions are held against.

    Attributes:
        values: labels as numbers `[rows]`, of several tasks `[rows, tasks]`, NaN where a row has none.
        weights: of the rows `[rows]`; none: all alike.
        groups: number of the group of each row `[rows]`, from 0 without gaps; none: rows aren't compared.
    """

    values: Floats
    weights: Floats | None = None
    groups: Labels | None = None

    def __len__(self) -> int:
        return len(self.values)

    def at(self, rows: Sequence[int]) -> "Truth":
        """The same of these rows, in this order."""
        weights = None if self.weights is None else self.weights[rows]
        return Truth(self.values[rows], weights, None if self.groups is None else self.groups[rows])

    def of(self, part: Part) -> tuple[Labels, "Truth"]:
        """The rows that have a label for a task, by their numbers, and the same of these."""
        told = np.flatnonzero(np.isfinite(part.values(self.values)))
        chosen = self.at(told.tolist())
        return told, Truth(part.values(chosen.values), chosen.weights, chosen.groups)


def meanings_of(outcome: Outcome) -> Mapping[str, Meaning]:
    """The family's metrics; the first is the one that decides. Those of several tasks bear the task's name."""
    if not isinstance(outcome, Together):
        return _meanings_of(outcome)
    each = {
        part.named(name): replace(meaning, title=f"{part.task} {meaning.title}")
        for part in outcome.parts
        for name, meaning in _meanings_of(part.outcome).items()
    }
    return {SKILL: OF_TASKS} | each


def _meanings_of(outcome: Single) -> Mapping[str, Meaning]:
    found = dict(MEANINGS[outcome.kind])
    if isinstance(outcome, Value):
        found = {name: meaning for name, meaning in found.items() if name not in UNFIT[outcome.scale]}
        found |= OF_SERVICE if outcome.service_level else {}
    if isinstance(outcome, Rate):
        found |= (OF_A_BID if outcome.bid else {}) | (OF_GROUPS if outcome.grouped else {})
    first = outcome.decides or next(iter(found))
    return {first: found[first]} | found


def primary(outcome: Outcome) -> str:
    """Name of the metric that decides."""
    return next(iter(meanings_of(outcome)))


def metrics_of(outcome: Outcome, truth: Truth, probabilities: Probabilities) -> dict[str, Metric]:
    """The family's metrics, ready to be asked about drawn rows; those of a task look at the rows with its label.

    Args:
        outcome: the family.
        truth: labels, weights and groups of the rows.
        probabilities: predictions `[rows, outcomes]`.
    """
    if not isinstance(outcome, Together):
        return _metrics_of(outcome, truth, probabilities)
    found: dict[str, Metric] = {}
    skills = []
    for part in outcome.parts:
        rows, told = truth.of(part)
        metrics = _metrics_of(part.outcome, told, probabilities[rows][:, part.columns])
        found |= {part.named(name): _on(rows, metric) for name, metric in metrics.items()}
        skills.append(_on(rows, _skill(part.outcome, told, metrics)))
    return {SKILL: lambda counts: np.mean([skill(counts) for skill in skills], axis=0)} | found


def _on(rows: Labels, metric: Metric) -> Metric:
    """The metric of some rows, asked about all."""
    return lambda counts: metric(counts[:, rows])


def _skill(outcome: Single, truth: Truth, metrics: Mapping[str, Metric]) -> Metric:
    """The deciding metric so that 1 is best: itself if more is better, else 1 less its share of a constant forecast's.

    The constant forecast is the distribution of these rows' own labels.
    """
    first = primary(outcome)
    metric = metrics[first]
    if meanings_of(outcome)[first].higher_is_better:
        return metric
    share = np.average(outcome.targets(truth.values), axis=0, weights=truth.weights)
    constant = _metrics_of(outcome, truth, np.tile(share, (len(truth), 1)))[first]
    return lambda counts: 1 - metric(counts) / np.maximum(constant(counts), TINY)


def _metrics_of(outcome: Single, truth: Truth, probabilities: Probabilities) -> dict[str, Metric]:
    weights = np.ones(len(truth)) if truth.weights is None else truth.weights
    if isinstance(outcome, Classification):
        found = _of_classes(truth.values.astype(np.int64), probabilities.argmax(axis=1), len(outcome))
    elif isinstance(outcome, Retrieval):
        found = _of_choices(truth.values.astype(np.int64), probabilities)
    elif isinstance(outcome, Rate):
        found = _of_rates(outcome, truth.values, probabilities[:, 1].astype(np.float64))
    else:
        found = _of_values(outcome, truth.values, probabilities)
    weighted = {name: _weighted(metric, weights) for name, metric in found.items()}
    if isinstance(outcome, Rate) and outcome.grouped:
        groups = np.zeros(len(truth), dtype=np.int64) if truth.groups is None else truth.groups
        weighted |= _of_groups(groups, truth.values, probabilities[:, 1].astype(np.float64))
    return {name: weighted[name] for name in _meanings_of(outcome)}


def score(outcome: Outcome, truth: Truth, probabilities: Probabilities) -> dict[str, float]:
    """Every metric of the family on all rows."""
    once = np.ones((1, len(truth)))
    return {name: float(metric(once)[0]) for name, metric in metrics_of(outcome, truth, probabilities).items()}


def better(outcome: Outcome, figure: float) -> float:
    """The deciding figure with a sign that makes more better."""
    return figure if meanings_of(outcome)[primary(outcome)].higher_is_better else -figure


def _weighted(metric: Metric, weights: Floats) -> Metric:
    return lambda counts: metric(counts * weights)


def _mean(weights: Floats, figures: Floats) -> Floats:
    """Weighted mean `[draws]` of figures `[rows]`."""
    found: Floats = weights @ figures / weights.sum(axis=1)
    return found


def _mean_of(figures: Floats) -> Metric:
    return lambda weights: _mean(weights, figures)


# ── classes ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def _of_classes(labels: Labels, guesses: Labels, outcomes: int) -> dict[str, Metric]:
    right = (labels == guesses).astype(np.float64)
    return {
        "macro_f1": lambda weights: macro_f1(weights, labels, guesses, outcomes),
        "accuracy": _mean_of(right),
    }


def macro_f1(weights: Floats, labels: Labels, guesses: Labels, outcomes: int) -> Floats:
    """Mean F1 `[draws]` over the outcomes that occur among the weighted labels; one never right counts as 0.

    Args:
        weights: `[draws, rows]`.
        labels: `[rows]`.
        guesses: `[rows]`.
        outcomes: how many classes there are.
    """

    def count(classes: Labels, counted: Floats) -> Floats:
        order = np.argsort(classes, kind="stable")
        starts = np.flatnonzero(np.diff(classes[order], prepend=-1))
        total = np.zeros((len(counted), outcomes))
        total[:, classes[order][starts]] = np.add.reduceat(counted[:, order], starts, axis=1)
        return total

    labelled, guessed = count(labels, weights), count(guesses, weights)
    right = count(labels, weights * (labels == guesses))
    f1 = np.divide(2 * right, labelled + guessed, out=np.zeros_like(right), where=labelled + guessed > 0)
    present = labelled > 0
    mean: Floats = (f1 * present).sum(axis=1) / present.sum(axis=1)
    return mean


# ── choices ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def _of_choices(labels: Labels, probabilities: Probabilities) -> dict[str, Metric]:
    own = probabilities[np.arange(len(labels)), labels][:, None]
    # Of equal ones the place in the middle: who can't tell answers apart hasn't found any.
    rank = 1 + (probabilities > own).sum(axis=1) + ((probabilities == own).sum(axis=1) - 1) / 2
    return {
        "mrr": _mean_of(1 / rank),
        "recall_at_1": _mean_of((rank <= 1).astype(np.float64)),
        "recall_at_5": _mean_of((rank <= FEW).astype(np.float64)),
    }


# ── rates ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def _of_rates(outcome: Rate, values: Floats, rates: Floats) -> dict[str, Metric]:
    safe = np.clip(rates, TINY, 1 - TINY)
    loss = -(values * np.log(safe) + (1 - values) * np.log1p(-safe))
    found: dict[str, Metric] = {
        "log_loss": _mean_of(loss),
        "auc": lambda weights: auc(weights, values, rates),
        "calibration": lambda weights: weights @ rates / np.maximum(weights @ values, TINY),
    }
    if outcome.bid:
        found["value_at_bid"] = _mean_of(np.where(rates > outcome.bid, values - outcome.bid, 0.0))
    return found


def auc(weights: Floats, values: Floats, scores: Floats) -> Floats:
    """Chance `[draws]` that a yes scores above a no; equal scores count half (Hanley & McNeil 1982).

    A row with the value 0.3 counts as three parts yes and seven parts no.

    Args:
        weights: `[draws, rows]`.
        values: share of yes `[rows]`.
        scores: `[rows]`.
    """
    order = np.argsort(scores, kind="stable")
    starts = np.flatnonzero(np.diff(scores[order], prepend=-np.inf))
    sorted_weights = weights[:, order]
    yes = np.add.reduceat(sorted_weights * values[order], starts, axis=1)
    no = np.add.reduceat(sorted_weights * (1 - values[order]), starts, axis=1)
    below = np.cumsum(no, axis=1) - no / 2
    pairs = yes.sum(axis=1) * no.sum(axis=1)
    unknown = np.full(len(pairs), np.nan)
    found: Floats = np.divide((yes * below).sum(axis=1), pairs, out=unknown, where=pairs > 0)
    return found


# ── groups ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class _Ranked:
    """Figures of single groups `[groups]`, and each group's first row."""

    first: Labels
    pairs: Floats
    in_order: Floats
    ndcg: Floats
    reciprocal: Floats
    recall: Floats


def _of_groups(groups: Labels, values: Floats, scores: Floats) -> dict[str, Metric]:
    """Figures over groups. Rows of one group are drawn together, so its first row tells how often it counts."""
    ranked = _rank(groups, values, scores)

    def mean_of(figures: Floats) -> Metric:
        known = np.isfinite(figures)
        return lambda counts: _mean(counts[:, ranked.first[known]], figures[known])

    def pair_order(counts: Floats) -> Floats:
        drawn = counts[:, ranked.first]
        found: Floats = drawn @ ranked.in_order / np.maximum(drawn @ ranked.pairs, TINY)
        return found

    return {
        "pair_order": pair_order,
        "ndcg_at_10": mean_of(ranked.ndcg),
        "mrr": mean_of(ranked.reciprocal),
        "recall_at_10": mean_of(ranked.recall),
    }


def _rank(groups: Labels, values: Floats, scores: Floats) -> _Ranked:
    # Equal scores are ordered by chance, but always the same: not by the rows' order, which may tell the label.
    chance = np.random.default_rng(0).permutation(len(scores))
    order = np.lexsort((chance, -scores, groups))
    starts = np.flatnonzero(np.diff(groups[order], prepend=-1))
    figures = np.array([_figures_of(values[rows], scores[rows]) for rows in np.split(order, starts[1:])]).T
    return _Ranked(order[starts], *figures)


def _figures_of(values: Floats, scores: Floats) -> tuple[float, float, float, float, float]:
    """Pairs, pairs in order, NDCG@10, reciprocal rank and recall@10 of one group, sorted by score, best first.

    The gain of a row is its value (Järvelin & Kekäläinen 2002). For the rank and the recall a row is relevant where
    its value is the group's highest. NaN for all but the pairs where the group's values are all alike.
    """
    upper, lower = np.triu_indices(len(values), 1)
    apart = values[upper] != values[lower]
    tied = scores[upper] == scores[lower]
    right = np.where(tied, 0.5, values[upper] > values[lower])[apart].sum()
    if not apart.any():
        return 0.0, 0.0, np.nan, np.nan, np.nan
    discounts = 1 / np.log2(np.arange(2, min(len(values), PLACES) + 2))
    ideal = np.sort(values)[::-1][:PLACES] @ discounts
    relevant = values == values.max()
    recall = relevant[:PLACES].sum() / relevant.sum()
    ndcg = values[:PLACES] @ discounts / ideal
    return float(apart.sum()), float(right), float(ndcg), 1 / (int(relevant.argmax()) + 1), float(recall)


# ── values ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def _of_values(outcome: Value, values: Floats, probabilities: Probabilities) -> dict[str, Metric]:
    median, mean = outcome.quantile(probabilities, 0.5), outcome.mean(probabilities)
    low, high = outcome.quantile(probabilities, LOW), outcome.quantile(probabilities, HIGH)
    distance, size = np.abs(values - median), np.abs(values)
    pinball = np.mean([_pinball(values, outcome.quantile(probabilities, share), share) for share in DECILES], axis=0)
    found: dict[str, Metric] = {
        "mae": _mean_of(distance),
        "r2": lambda weights: 1 - _mean(weights, (values - mean) ** 2) / _variance(weights, values),
        "pinball": _mean_of(pinball),
        "coverage": _mean_of(((low <= values) & (values <= high)).astype(np.float64)),
    }
    if outcome.scale != "linear":
        found["rmsle"] = lambda weights: np.sqrt(_mean(weights, (np.log1p(values) - np.log1p(median)) ** 2))
    if outcome.scale == "log":
        found["mae_log"] = _mean_of(np.abs(np.log(values) - np.log(median)))
    if outcome.scale == "count":
        found["wape"] = lambda weights: weights @ distance / np.maximum(weights @ size, TINY)
    else:
        found["mdape"] = lambda weights: _median(weights, distance / np.maximum(size, TINY))
    if outcome.service_level:
        level = outcome.quantile(probabilities, outcome.service_level)
        found["service"] = _mean_of((values <= level).astype(np.float64))
        found["stock"] = _mean_of(level)
    return found


def _variance(weights: Floats, values: Floats) -> Floats:
    mean = _mean(weights, values)
    spread: Floats = _mean(weights, values**2) - mean**2
    return np.maximum(spread, TINY)


def _median(weights: Floats, figures: Floats) -> Floats:
    """Weighted median `[draws]`: halfway between the two in the middle where there are two."""
    order = np.argsort(figures)
    below = np.cumsum(weights[:, order], axis=1)
    half = below[:, -1:] / 2
    lower, upper = (below < half).sum(axis=1), (below <= half).sum(axis=1)
    middle: Floats = (figures[order][lower] + figures[order][np.minimum(upper, len(figures) - 1)]) / 2
    return middle


def _pinball(values: Floats, quantile: Floats, share: float) -> Floats:
    """Loss of a quantile forecast, a row `[rows]` (Koenker & Bassett 1978): lowest where the share is right."""
    short = values - quantile
    return np.maximum(share * short, (share - 1) * short)

"""The contract: no registration without it. One clause that fails refuses the model, and says which."""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Self

from potstill.evaluate.quality import Interval
from potstill.metrics import Meaning
from potstill.recipe import Budget
from potstill.store import to_json


@dataclass(frozen=True)
class Measured:
    """What the contract looks at in a task, all of the edge model on the test rows.

    Attributes:
        metric: what "better" means here.
        retention: how much of the teacher's quality it keeps.
        agreement: share of rows with the teacher's answer.
        flips: share of rows whose answer quantisation changed.
        over_control: its metric minus the control's, paired.
        over_baseline: its metric minus the baseline's, paired.
    """

    metric: Meaning
    retention: float
    agreement: float
    flips: float
    over_control: Interval
    over_baseline: Interval


@dataclass(frozen=True)
class Cost:
    """What the edge model asks for, whatever its tasks.

    Attributes:
        latency_p95_ms: at batch 1 on one thread.
        size_mb: model and tokenizer, in 10^6 bytes.
    """

    latency_p95_ms: float
    size_mb: float


@dataclass(frozen=True)
class Rival:
    """The present champion on the same rows.

    Attributes:
        version: its version.
        metric: what "better" means here.
        over: the edge model's metric minus the champion's, paired.
    """

    version: str
    metric: Meaning
    over: Interval


@dataclass(frozen=True)
class Clause:
    """One condition, whether it held, and the same in words."""

    name: str
    passed: bool
    found: float | None
    required: float
    words: str


@dataclass(frozen=True)
class Comparison:
    """The new model against the champion on the same rows: the difference of the metric with its interval."""

    version: str
    better: bool
    difference: float
    low: float
    high: float


@dataclass(frozen=True)
class Verdict:
    """Whether a model may be registered, and why not."""

    accepted: bool
    reasons: tuple[str, ...]
    clauses: tuple[Clause, ...]
    champion: Comparison | None

    def to_json(self) -> str:
        """The verdict as JSON."""
        return to_json(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read what `to_json` wrote."""
        values = json.loads(text)
        champion = Comparison(**values["champion"]) if values["champion"] else None
        clauses = tuple(Clause(**clause) for clause in values["clauses"])
        return cls(values["accepted"], tuple(values["reasons"]), clauses, champion)


def judge(tasks: Mapping[str, Measured], cost: Cost, budget: Budget, champion: Rival | None) -> Verdict:
    """Hold every clause against what was measured. A figure that is not a number fails its clause.

    Args:
        tasks: the figures of each task, by its name; a single one's name is empty.
        cost: time and size.
        budget: the limits, the same for every task.
        champion: what there is to beat; none: nothing.
    """
    clauses = [
        replace(clause, name=f"{task} {clause.name}", words=f"{task} {clause.words}") if task else clause
        for task, measured in tasks.items()
        for clause in _of_task(measured, budget)
    ]
    clauses += [
        _at_most("latency", cost.latency_p95_ms, budget.latency_p95_ms, "answers within {:.2f} ms (p95)"),
        _at_most("size", cost.size_mb, budget.size_mb, "weighs {:.1f} MB"),
    ]
    reasons = tuple(clause.words for clause in clauses if not clause.passed)
    return Verdict(not reasons, reasons, tuple(clauses), _compared(champion) if champion else None)


def _of_task(measured: Measured, budget: Budget) -> tuple[Clause, ...]:
    metric = measured.metric
    kept = metric.title if metric.zero_is_nothing else f"gain in {metric.title} over the plain forecast"
    return (
        _at_least("retention", measured.retention, budget.retention, f"keeps {{:.1%}} of the teacher's {kept}"),
        _at_least("agreement", measured.agreement, budget.agreement, "gives the teacher's answer on {:.1%} of rows"),
        _at_most("flips", measured.flips, budget.flips, "quantisation changes the answer on {:.1%} of rows"),
        _not_worse("control", measured.over_control, metric, "control (no teacher)"),
        _not_worse("baseline", measured.over_baseline, metric, "baseline (no encoder)"),
    )


def _compared(champion: Rival) -> Comparison:
    over = champion.over
    return Comparison(champion.version, _better(over.value, champion.metric), over.value, over.low, over.high)


def _at_least(name: str, found: float, required: float, words: str) -> Clause:
    if math.isnan(found):
        why = "the teacher gains nothing over the plain forecast" if name == "retention" else "it can't be told"
        return Clause(name, False, None, required, f"{name}: {why}")
    passed = math.isfinite(found) and found >= required
    words = words if passed else _finer(words, found, required)
    return Clause(name, passed, found, required, f"{name}: {words.format(found)}; at least {_limit(words, required)}")


def _at_most(name: str, found: float, required: float, words: str) -> Clause:
    passed = math.isfinite(found) and found <= required
    words = words if passed else _finer(words, found, required)
    return Clause(name, passed, found, required, f"{name}: {words.format(found)}; at most {_limit(words, required)}")


def _better(difference: float, metric: Meaning) -> bool:
    return difference > 0 if metric.higher_is_better else difference < 0


def _not_worse(name: str, over: Interval, metric: Meaning, whom: str) -> Clause:
    """Fails where the whole interval of the difference lies on the wrong side of zero: worse, and not by chance."""
    best, side = (over.high, "below") if metric.higher_is_better else (over.low, "above")
    finite = all(math.isfinite(bound) for bound in (over.low, over.value, over.high))
    passed = finite and (best == 0 or _better(best, metric))
    value, low, high = (f"{bound:+.{_decimals(over)}f}" for bound in (over.value, over.low, over.high))
    around = f"95 % interval {low} to {high}"
    words = f"{name}: {value} {metric.title} against the {whom}, {around}; must not lie {side} 0"
    return Clause(name, passed, best, 0.0, words)


def _decimals(over: Interval) -> int:
    """So many that the width of an interval has two digits: a click rate's differences are small, and count."""
    width = over.high - over.low
    return min(max(3, 1 - math.floor(math.log10(width))), 8) if math.isfinite(width) and width > 0 else 3


def _finer(words: str, found: float, required: float) -> str:
    """More digits where rounding would make a miss read like a hit: not `15.0 MB; at most 15.0 MB`."""
    form = words[words.index("{") : words.index("}") + 1]
    return re.sub(r"\.\d", ".4", words) if form.format(found) == form.format(required) else words


def _limit(words: str, required: float) -> str:
    """The limit in the form in which the figure is written."""
    start = words.index("{")
    unit = words[words.index("}") + 1 :].split()[:1]
    return words[start : words.index("}") + 1].format(required) + ("" if "%" in words else f" {unit[0]}")

"""The contract: no registration without it. One clause that fails refuses the model, and says which."""

import json
import math
import re
from dataclasses import asdict, dataclass
from typing import Self

from potstill.evaluate.quality import Interval
from potstill.metrics import Meaning
from potstill.recipe import Budget


@dataclass(frozen=True)
class Measured:
    """What the contract looks at, all of the int8 student on the test rows.

    Attributes:
        metric: what "better" means here.
        retention: how much of the teacher's quality it keeps.
        agreement: share of rows with the teacher's answer.
        flips: share of rows whose answer int8 changed.
        latency_p95_ms: at batch 1 on one thread.
        size_mb: model and tokenizer, in 10^6 bytes.
        over_control: its metric minus the control's, paired.
        over_baseline: its metric minus the baseline's, paired.
        over_champion: its metric minus the champion's on the same rows, paired; none without a champion.
    """

    metric: Meaning
    retention: float
    agreement: float
    flips: float
    latency_p95_ms: float
    size_mb: float
    over_control: Interval
    over_baseline: Interval
    over_champion: Interval | None


@dataclass(frozen=True)
class Clause:
    """One condition, whether it held, and the same in words."""

    name: str
    passed: bool
    found: float
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
        return json.dumps(asdict(self), indent=1, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read what `to_json` wrote."""
        values = json.loads(text)
        champion = Comparison(**values["champion"]) if values["champion"] else None
        clauses = tuple(Clause(**clause) for clause in values["clauses"])
        return cls(values["accepted"], tuple(values["reasons"]), clauses, champion)


def judge(measured: Measured, budget: Budget, champion: str) -> Verdict:
    """Hold every clause against what was measured. A figure that is not a number fails its clause.

    Args:
        measured: the figures.
        budget: the limits.
        champion: version that `over_champion` speaks of.
    """
    metric = measured.metric
    kept = metric.title if metric.zero_is_nothing else f"gain in {metric.title} over the plain forecast"
    clauses = (
        _at_least("retention", measured.retention, budget.retention, f"keeps {{:.1%}} of the teacher's {kept}"),
        _at_least("agreement", measured.agreement, budget.agreement, "gives the teacher's answer on {:.1%} of rows"),
        _at_most("flips", measured.flips, budget.flips, "int8 changes the answer on {:.1%} of rows"),
        _at_most("latency", measured.latency_p95_ms, budget.latency_p95_ms, "answers within {:.2f} ms (p95)"),
        _at_most("size", measured.size_mb, budget.size_mb, "weighs {:.1f} MB"),
        _not_worse("control", measured.over_control, metric, "control (no teacher)"),
        _not_worse("baseline", measured.over_baseline, metric, "baseline (no encoder)"),
    )
    reasons = tuple(clause.words for clause in clauses if not clause.passed)
    over = measured.over_champion
    comparison = Comparison(champion, _better(over.value, metric), over.value, over.low, over.high) if over else None
    return Verdict(not reasons, reasons, clauses, comparison)


def _at_least(name: str, found: float, required: float, words: str) -> Clause:
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
    around = f"95 % interval {over.low:+.3f} to {over.high:+.3f}"
    words = f"{name}: {over.value:+.3f} {metric.title} against the {whom}, {around}; must not lie {side} 0"
    return Clause(name, passed, best, 0.0, words)


def _finer(words: str, found: float, required: float) -> str:
    """More digits where rounding would make a miss read like a hit: not `15.0 MB; at most 15.0 MB`."""
    form = words[words.index("{") : words.index("}") + 1]
    return re.sub(r"\.\d", ".4", words) if form.format(found) == form.format(required) else words


def _limit(words: str, required: float) -> str:
    """The limit in the form in which the figure is written."""
    start = words.index("{")
    unit = words[words.index("}") + 1 :].split()[:1]
    return words[start : words.index("}") + 1].format(required) + ("" if "%" in words else f" {unit[0]}")

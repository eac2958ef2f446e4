"""A plausible summary and its figures, for tests of what a person reads."""

import json
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from potstill.evaluate import figures
from potstill.evaluate.calibration import reliability
from potstill.evaluate.contract import Cost, Measured, Rival, Verdict, judge
from potstill.evaluate.quality import Interval
from potstill.metrics import MEANINGS, Meaning, Truth
from potstill.outcomes import Classification
from potstill.recipe import Budget


@dataclass(frozen=True)
class Figures:
    """All that the contract looks at in a model with one task."""

    metric: Meaning
    retention: float
    agreement: float
    flips: float
    latency_p95_ms: float
    size_mb: float
    over_control: Interval
    over_baseline: Interval
    over_champion: Interval | None


def held(found: Figures, budget: Budget, champion: str) -> Verdict:
    """The contract's verdict on such a model."""
    measured = Measured(
        found.metric, found.retention, found.agreement, found.flips, found.over_control, found.over_baseline
    )
    rival = Rival(champion, found.metric, found.over_champion) if found.over_champion else None
    return judge({"": measured}, Cost(found.latency_p95_ms, found.size_mb), budget, rival)


# Macro-F1, half its interval, p50 in ms, bytes.
MODELS = {
    "baseline": (0.842, 0.013, 0.21, 1_900_000),
    "control": (0.913, 0.010, 3.9, 41_200_000),
    "teacher": (0.934, 0.009, 9.8, 91_000_000),
    "student": (0.928, 0.009, 3.8, 41_200_000),
    "edge": (0.926, 0.009, 2.4, 11_300_000),
}

# Model, first loss, what it gains in macro-F1 over the student, epochs.
CURVES = (("teacher", 1.9, 0.012, 3), ("control", 1.4, -0.015, 6), ("student", 2.6, 0.0, 6))
COMPRESSION = [
    {
        "name": name,
        "kept": name != "dynamic_per_tensor" and lost < 0.01,
        "left_out": "loses 3.0%" if lost > 0.01 else "",
        "figure": figure,
        "lost": lost,
        "flips": flips,
        "p50_ms": p50,
        "mean_ms": p50 * 1.1,
        "size_bytes": size,
        "more": more,
    }
    for name, figure, lost, flips, p50, size, more in (
        ("export", 0.931, 0.0, 0.0, 3.9, 41_200_000, {}),
        ("trim", 0.930, 0.001, 0.002, 3.9, 24_900_000, {"pieces": 9123, "changed_tokens": 0.021}),
        ("sparse", 0.930, 0.0, 0.001, 3.9, 24_900_000, {"zeros": 0.3, "packed_share": 0.81}),
        ("static", 0.902, 0.03, 0.055, 2.3, 11_300_000, {}),
        ("dynamic", 0.929, 0.001, 0.004, 2.4, 11_300_000, {}),
        ("dynamic_per_tensor", 0.929, 0.001, 0.004, 2.3, 11_300_000, {}),
    )
]
# Figure, mean, median and 95th percentile in ms, bytes.
LEVELS = {
    "first": (0.874, 0.08, 0.07, 0.11, 900_000),
    "second": (0.926, 2.5, 2.4, 4.08, 11_300_000),
    "cascade": (0.924, 0.9, 0.09, 3.9, 12_200_000),
}
CASCADE = {
    "sure_from": 0.8125,
    "escalated": 0.31,
    "models": {
        name: dict(zip(("figure", "mean_ms", "p50_ms", "p95_ms", "size_bytes"), level, strict=True))
        for name, level in LEVELS.items()
    },
    "curve": {"escalated": [0, 0.5, 1], "figure": [0.874, 0.926, 0.926]},
}
TRIED = ("name", "figure", "retention", "p50_ms", "foreseen_ms", "p95_ms", "size_bytes", "limit_share", "keeps")
PLAN: dict[str, Any] = {
    "words": "student of 2 layers keeps time, size and retention of the budget: 98.9% of the teacher",
    "chosen": "student of 2 layers",
    "forms": 10,
    "fitting": 4,
    "limits": "81 GFLOP/s in float32, 20 GB/s, 9 µs to ask ONNX Runtime",
    "retention": 0.97,
    "latency_p95_ms": 5.0,
    "tried": [
        dict(zip(TRIED, one, strict=True))
        for one in (
            ("student of 2 layers", 0.925, 0.989, 2.4, 2.5, 4.1, 5_700_000, 0.74, True),
            ("student of 1 layer", 0.901, 0.965, 1.3, 1.2, 2.2, 4_100_000, 0.63, False),
            ("linear baseline", 0.842, None, 0.4, None, 0.6, 3_200_000, None, False),
        )
    ],
}
LADDER = [("teacher", "macro-F1 0.934", 9.8, 91_000_000), ("student", "macro-F1 0.931", 3.9, 41_200_000)]
DIGESTS = ("dataset", "teacher", "signals", "control", "student", "edge")


def model_figures(macro_f1: float, half: float, p50_ms: float, size_bytes: int) -> dict[str, float]:
    """All that the summary says about a model."""
    found = {
        "agreement": 0.957,
        "kl": 0.041,
        "ece": 0.02,
        "brier": 0.11,
        "latency_p50_ms": p50_ms,
        "latency_p95_ms": p50_ms * 1.7,
        "latency_mean_ms": p50_ms * 1.1,
        "size_bytes": size_bytes,
    }
    for name, value in (("macro_f1", macro_f1), ("accuracy", macro_f1 + 0.002), ("retention", macro_f1 / 0.934)):
        found |= {name: value, f"{name}_low": value - half, f"{name}_high": value + half}
    return found


def summary(outcomes: int, *, accepted: bool = True, champion: bool = False, names: list[str] | None = None) -> Any:
    """A summary as evaluate writes it and register completes it."""
    random = np.random.default_rng(0)
    names = names or (
        ["negative", "neutral", "positive"] if outcomes == 3 else [f"intent_{i}" for i in range(outcomes)]
    )
    confusion = random.poisson(0.15 if outcomes > 12 else 6, size=(outcomes, outcomes))
    np.fill_diagonal(confusion, random.integers(35, 41, size=outcomes) * (6 if outcomes <= 12 else 1))
    over = Interval(0.004, -0.003, 0.011) if champion else None
    measured = Figures(
        MEANINGS["classification"]["macro_f1"],
        0.991 if accepted else 0.951, 0.957, 0.008, 4.1, 11.3,
        Interval(0.013, 0.004, 0.022), Interval(0.084, 0.07, 0.098), over,
    )  # fmt: skip
    verdict = held(measured, Budget(latency_p95_ms=5, size_mb=15), "4")
    models = {name: model_figures(*figures_) for name, figures_ in MODELS.items()}
    if champion:
        models["champion"] = model_figures(0.922, 0.009, 2.5, 11_300_000)
    curve = [0.61, 0.83, 0.89, 0.91, 0.92, 0.921]
    return {
        "recipe": "review-sentiment",
        "model": "review-sentiment",
        "task": "sentiment",
        "outcome": Classification(tuple(names)).spec(),
        "metrics": {name: asdict(meaning) for name, meaning in MEANINGS["classification"].items()},
        "plain": {},
        "trivial": {"macro_f1": 0.2, "accuracy": 0.4},
        "rows": {"train": 9002, "validation": 1001, "test": 3080},
        "out_of_scope": 0,
        "rejected": {"empty text": 9, "the same text with another label": 3},
        "models": models,
        "compression": COMPRESSION,
        "cascade": None,
        "plan": None,
        "verdict": json.loads(verdict.to_json()),
        "version": "5" if accepted else None,
        "alias": "champion" if accepted else None,
        "dry_run": None,
        "confusion": {"sentiment": {"names": names, "counts": confusion.tolist()}},
        "curves": {
            model: [
                {"epoch": i + 1, "loss": start / (i + 1), "validation_macro_f1": f1 + gain, "validation_accuracy": f1}
                for i, f1 in enumerate(curve[:epochs])
            ]
            for model, start, gain, epochs in CURVES
        },
        "machine": {"cpu": "AMD EPYC", "instruction_set": "AVX2", "cores": 2},
        "versions": {"python": "3.11.2", "torch": "2.13.0", "transformers": "5.23.0", "onnxruntime": "1.32.0"},
        **{f"{name}_digest": f"{i}f" * 32 for i, name in enumerate(DIGESTS)},
    }


def drawn(found: Any) -> dict[str, str]:
    """The figures of a summary."""
    random = np.random.default_rng(0)
    labels = random.integers(3, size=800)
    probabilities = random.dirichlet([0.3, 0.3, 0.3], size=800)
    labels[:500] = probabilities[:500].argmax(axis=1)
    bins = reliability(probabilities, Truth(labels))
    return {
        "quality_latency": figures.quality_latency(found["models"], "macro_f1", "macro-F1"),
        "training_curves": figures.training_curves(found["curves"], "macro_f1", "macro-F1"),
        "ladder": figures.ladder(LADDER),
        "frontier": figures.frontier(PLAN["tried"], PLAN["retention"], PLAN["latency_p95_ms"], "macro-F1"),
        "escalation": figures.escalation(CASCADE["curve"], (0.31, 0.924), "macro-F1"),
        "confusion": figures.confusion(np.array(found["confusion"]["sentiment"]["counts"]), found["outcome"]["names"]),
        "reliability": figures.reliability_diagram(
            {"teacher": bins, "edge": bins[2:]}, said="confidence", came="accuracy"
        ),
    }

"""Evaluate: every model on the test rows, and the contract's verdict."""

import json
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from potstill.compress.pack import pack
from potstill.data.dataset import Rows, Schema, read_rows, read_schema
from potstill.edge import EdgeModel
from potstill.evaluate import calibration, contract, fidelity, figures, latency, quality
from potstill.evaluate.baseline import Baseline
from potstill.learn.model import load_model
from potstill.learn.signals import read_signals
from potstill.learn.student import HISTORY
from potstill.machine import describe, versions
from potstill.recipe import Budget, Evaluate
from potstill.store import writing

SUMMARY, VERDICT, FIGURES, PREDICTIONS = "summary.json", "verdict.json", "figures.json", "predictions.parquet"
Probabilities = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Inputs:
    """Folders to judge."""

    dataset: Path
    signals: Path
    teacher: Path
    control: Path
    student: Path
    edge: Path
    champion: Path | None


@dataclass(frozen=True)
class Candidate:
    """A model as the report shows it: how it answers, how long that takes, how large it is."""

    probabilities: Probabilities
    answer: Callable[[str], object]
    size_bytes: int


def evaluate(
    inputs: Inputs, budget: Budget, settings: Evaluate, names: dict[str, str], champion: str, evaluation: Path
) -> dict[str, float]:
    """Measure every model on the test rows, judge the int8 student, and write summary, verdict, figures, predictions.

    Args:
        inputs: what the steps before wrote.
        budget: the contract's limits.
        settings: how to measure.
        names: what the summary is to be known by: recipe, model, and digests.
        champion: version of `inputs.champion`.
        evaluation: the folder to write.

    Returns:
        The int8 student's figures.
    """
    schema = read_schema(inputs.dataset)
    rows = read_rows(inputs.dataset, "test", schema)
    with tempfile.TemporaryDirectory(prefix="potstill-") as scratch:
        candidates = _candidates(inputs, schema, rows, Path(scratch))
        print(f"measuring {len(candidates)} models on {len(rows):,} test rows")
        times = _latencies(candidates, _sample(rows.text, settings))
    guesses = {model: c.probabilities.argmax(axis=1) for model, c in candidates.items()}
    resampled = quality.resample(rows.label, guesses, len(schema.outcomes), settings.resamples, settings.seed)
    models = {
        model: _figures(candidate, candidates["teacher"], resampled[model], resampled["teacher"], rows, times[model])
        for model, candidate in candidates.items()
    }
    verdict = contract.judge(_measured(models, candidates, resampled), budget, champion)
    confusion = quality.confusion_matrix(rows.label, guesses["student_int8"], len(schema.outcomes))
    summary = {
        **names,
        "task": schema.task,
        "outcomes": list(schema.outcomes),
        "rows": schema.rows,
        "rejected": schema.rejected,
        "models": models,
        "verdict": json.loads(verdict.to_json()),
        "confusion": confusion.tolist(),
        "curves": _curves(inputs),
        "machine": describe(),
        "versions": versions(),
    }
    with writing(evaluation) as draft:
        (draft / SUMMARY).write_text(json.dumps(summary, indent=1, ensure_ascii=False), encoding="utf-8")
        (draft / VERDICT).write_text(verdict.to_json(), encoding="utf-8")
        drawn = _draw(summary, candidates, rows, confusion)
        (draft / FIGURES).write_text(json.dumps(drawn), encoding="utf-8")
        _write_predictions(draft / PREDICTIONS, rows, schema, candidates)
    print("accepted" if verdict.accepted else f"refused: {'; '.join(verdict.reasons)}")
    return {name: value for name, value in models["student_int8"].items() if value is not None}


def _candidates(inputs: Inputs, schema: Schema, rows: Rows, scratch: Path) -> dict[str, Candidate]:
    """Every model, opened anew. The teacher's answers come from its signals; its time, from the same graph format."""
    train, validation = (read_rows(inputs.dataset, split, schema) for split in ("train", "validation"))
    baseline = Baseline(train.text, train.label, validation.text, validation.label, len(schema.outcomes))
    teacher = pack(*load_model(inputs.teacher), scratch / "teacher", schema.text)
    control = pack(*load_model(inputs.control), scratch / "control", schema.text)
    found = {
        "baseline": Candidate(
            baseline.probabilities(rows.text), lambda text: baseline.probabilities([text]), baseline.size_bytes()
        ),
        "control": _from_edge(control, rows.text),
        "teacher": _from_edge(teacher, rows.text, fidelity.softmax(read_signals(inputs.signals, rows.row))),
        "student": _from_edge(inputs.edge / "float", rows.text),
        "student_int8": _from_edge(inputs.edge / "int8", rows.text),
    }
    if inputs.champion:
        found["champion"] = _rival(inputs.champion, rows.text, schema.outcomes)
    return found


def _from_edge(folder: Path, texts: Sequence[str], probabilities: Probabilities | None = None) -> Candidate:
    model = EdgeModel(folder, threads=1)
    if probabilities is None:
        probabilities = model.probabilities(texts).astype(np.float64)
    size_bytes = sum(file.stat().st_size for file in folder.iterdir())
    return Candidate(probabilities, lambda text: model.probabilities([text]), size_bytes)


def _rival(folder: Path, texts: Sequence[str], outcomes: tuple[str, ...]) -> Candidate:
    """The champion with its probabilities in our order of outcomes; an outcome that it does not know gets 0."""
    candidate = _from_edge(folder, texts)
    known = {name: i for i, name in enumerate(EdgeModel(folder).outcomes)}
    ours = np.zeros((len(texts), len(outcomes)))
    for i, name in enumerate(outcomes):
        if name in known:
            ours[:, i] = candidate.probabilities[:, known[name]]
    return Candidate(ours, candidate.answer, candidate.size_bytes)


def _sample(texts: list[str], settings: Evaluate) -> list[str]:
    """Test texts to time: all, or a seeded sample."""
    chosen = np.random.default_rng(settings.seed).permutation(len(texts))[: settings.latency_rows]
    return [texts[i] for i in chosen]


def _latencies(candidates: dict[str, Candidate], texts: list[str]) -> dict[str, latency.Latency]:
    return {model: latency.measure(candidate.answer, texts) for model, candidate in candidates.items()}


def _figures(
    candidate: Candidate,
    teacher: Candidate,
    own: quality.Resampled,
    teachers: quality.Resampled,
    rows: Rows,
    times: latency.Latency,
) -> dict[str, float]:
    accuracy = quality.interval(own.accuracy, own.accuracies)
    macro_f1 = quality.interval(own.macro_f1, own.macro_f1s)
    retention = quality.ratio(own, teachers)
    return {
        "accuracy": accuracy.value,
        "accuracy_low": accuracy.low,
        "accuracy_high": accuracy.high,
        "macro_f1": macro_f1.value,
        "macro_f1_low": macro_f1.low,
        "macro_f1_high": macro_f1.high,
        "retention": retention.value,
        "retention_low": retention.low,
        "retention_high": retention.high,
        "agreement": fidelity.agreement(teacher.probabilities, candidate.probabilities),
        "kl": fidelity.kl_divergence(teacher.probabilities, candidate.probabilities),
        "ece": calibration.expected_calibration_error(candidate.probabilities, rows.label),
        "brier": calibration.brier_score(candidate.probabilities, rows.label),
        "latency_p50_ms": times.p50_ms,
        "latency_p95_ms": times.p95_ms,
        "size_bytes": candidate.size_bytes,
    }


def _measured(
    models: dict[str, dict[str, float]], candidates: dict[str, Candidate], resampled: dict[str, quality.Resampled]
) -> contract.Measured:
    small = models["student_int8"]
    own = resampled["student_int8"]
    return contract.Measured(
        retention=small["retention"],
        agreement=small["agreement"],
        flips=fidelity.flips(candidates["student"].probabilities, candidates["student_int8"].probabilities),
        latency_p95_ms=small["latency_p95_ms"],
        size_mb=small["size_bytes"] / 1e6,
        over_control=quality.difference(own, resampled["control"]),
        over_baseline=quality.difference(own, resampled["baseline"]),
        over_champion=quality.difference(own, resampled["champion"]) if "champion" in resampled else None,
    )


def _curves(inputs: Inputs) -> dict[str, Any]:
    folders = {"teacher": inputs.teacher, "control": inputs.control, "student": inputs.student}
    return {name: json.loads((folder / HISTORY).read_text(encoding="utf-8")) for name, folder in folders.items()}


def _draw(
    summary: dict[str, Any], candidates: dict[str, Candidate], rows: Rows, confusion: npt.NDArray[np.int64]
) -> dict[str, str]:
    shown = ("teacher", "student_int8")
    return {
        "quality_latency": figures.quality_latency(summary["models"]),
        "training_curves": figures.training_curves(summary["curves"]),
        "confusion": figures.confusion(confusion, summary["outcomes"]),
        "reliability": figures.reliability_diagram(
            {model: calibration.reliability(candidates[model].probabilities, rows.label) for model in shown}
        ),
    }


def _write_predictions(path: Path, rows: Rows, schema: Schema, candidates: dict[str, Candidate]) -> None:
    """Each model's answer to each test row, so that any figure can be checked or cut another way."""
    answers = {model: schema.outcome.decode(c.probabilities) for model, c in candidates.items()}
    labels = [schema.outcomes[i] for i in rows.label]
    pq.write_table(pa.table({"row": rows.row, "text": rows.text, "label": labels, **answers}), path, compression="zstd")

"""Evaluate: every model on the test rows, and the contract's verdict."""

import json
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from potstill.compress.pack import pack
from potstill.data.dataset import Rows, Schema, read_rows, read_schema
from potstill.edge import EdgeModel, Row
from potstill.errors import UserError
from potstill.evaluate import calibration, contract, fidelity, figures, latency, quality
from potstill.evaluate.baseline import Baseline
from potstill.evaluate.trivial import reference, trivial
from potstill.learn.model import load_model
from potstill.learn.signals import read_signals
from potstill.learn.student import HISTORY
from potstill.machine import describe, versions
from potstill.metrics import Meaning, Metric, Truth, meanings_of, metrics_of, primary
from potstill.outcomes import Classification, Outcome, Probabilities, Rate, Value, softmax
from potstill.recipe import Budget, Evaluate
from potstill.store import writing

SUMMARY, VERDICT, FIGURES, PREDICTIONS = "summary.json", "verdict.json", "figures.json", "predictions.parquet"
TRIVIAL = "trivial"
# How a figure's axes are spread, by the scale of a value.
SCALES = {"log": "log", "count": "symlog", "linear": "linear"}


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
    answer: Callable[[Row], object]
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
        times = _latencies(candidates, _sample(_records(rows, schema), settings))
    outcome = schema.outcome
    predicted = {model: c.probabilities for model, c in candidates.items()} | {TRIVIAL: _trivial(inputs, schema, rows)}
    truth, plain_error = rows.truth, _plain_error(inputs, schema)
    metrics = {model: _metrics(outcome, truth, found, plain_error) for model, found in predicted.items()}
    resampled = quality.resample(metrics, truth, settings.resamples, settings.seed)
    models = {
        model: _figures(outcome, candidate, candidates["teacher"], resampled, model, truth)
        | {"latency_p50_ms": times[model].p50_ms, "latency_p95_ms": times[model].p95_ms}
        | {"size_bytes": candidate.size_bytes}
        for model, candidate in candidates.items()
    }
    verdict = contract.judge(_measured(outcome, models, candidates, resampled), budget, champion)
    summary = {
        **names,
        "task": schema.task,
        "outcome": outcome.spec(),
        "metrics": {name: asdict(meaning) for name, meaning in _meanings(outcome, plain_error).items()},
        "trivial": {name: found.value for name, found in resampled[TRIVIAL].items()},
        "rows": schema.rows,
        "rejected": schema.rejected,
        "models": models,
        "verdict": json.loads(verdict.to_json()),
        "confusion": _confusion(outcome, rows, candidates["student_int8"]),
        "curves": _curves(inputs),
        "machine": describe(),
        "versions": versions(),
    }
    with writing(evaluation) as draft:
        (draft / SUMMARY).write_text(json.dumps(summary, indent=1, ensure_ascii=False), encoding="utf-8")
        (draft / VERDICT).write_text(verdict.to_json(), encoding="utf-8")
        drawn = _draw(outcome, summary, candidates, rows)
        (draft / FIGURES).write_text(json.dumps(drawn), encoding="utf-8")
        _write_predictions(draft / PREDICTIONS, rows, schema, candidates)
    print("accepted" if verdict.accepted else f"refused: {'; '.join(verdict.reasons)}")
    return {name: value for name, value in models["student_int8"].items() if value is not None}


def _candidates(inputs: Inputs, schema: Schema, rows: Rows, scratch: Path) -> dict[str, Candidate]:
    """Every model, opened anew. The teacher's answers come from its signals; its time, from the same graph format."""
    records = _records(rows, schema)
    train, validation = (read_rows(inputs.dataset, split, schema) for split in ("train", "validation"))
    baseline = Baseline(train, validation, schema)
    teacher = pack(*load_model(inputs.teacher), scratch / "teacher", schema.text)
    control = pack(*load_model(inputs.control), scratch / "control", schema.text)
    found = {
        "baseline": Candidate(
            baseline.probabilities(records), lambda row: baseline.probabilities([row]), baseline.size_bytes()
        ),
        "control": _from_edge(control, records),
        "teacher": _from_edge(teacher, records, softmax(read_signals(inputs.signals, rows.row))),
        "student": _from_edge(inputs.edge / "float", records),
        "student_int8": _from_edge(inputs.edge / "int8", records),
    }
    if inputs.champion:
        found["champion"] = _rival(inputs.champion, records, schema.outcome)
    return found


def _records(rows: Rows, schema: Schema) -> list[Row]:
    """Rows as a service gets them: column → value. Texts are joined already, so they stand in the first column."""
    return [{schema.text[0]: text, **features} for text, features in zip(rows.text, rows.features, strict=True)]


def _from_edge(folder: Path, records: Sequence[Row], probabilities: Probabilities | None = None) -> Candidate:
    model = EdgeModel(folder, threads=1)
    if probabilities is None:
        probabilities = model.probabilities(records)
    size_bytes = sum(file.stat().st_size for file in folder.iterdir())
    return Candidate(probabilities, lambda row: model.probabilities([row]), size_bytes)


def _rival(folder: Path, records: Sequence[Row], outcome: Outcome) -> Candidate:
    """The champion with its probabilities over our outcomes."""
    candidate = _from_edge(folder, records)
    try:
        adopted = outcome.adopt(EdgeModel(folder).outcome, candidate.probabilities)
    except TypeError as error:
        raise UserError(f"the champion is of another kind: {error}; give the new model a name of its own") from error
    return Candidate(adopted, candidate.answer, candidate.size_bytes)


def _plain_error(inputs: Inputs, schema: Schema) -> float | None:
    """Mean absolute error of a plain forecast of values on the training rows; none where there is no such forecast."""
    if not schema.reference or not isinstance(schema.outcome, Value):
        return None
    train = read_rows(inputs.dataset, "train", schema)
    return float(np.mean(np.abs(train.value - reference(schema, train))))


def _metrics(
    outcome: Outcome, truth: Truth, probabilities: Probabilities, plain_error: float | None
) -> dict[str, Metric]:
    """The family's metrics and the mean absolute scaled error (Hyndman & Koehler 2006)."""
    found = metrics_of(outcome, truth, probabilities)
    if plain_error is None:
        return found
    error = found["mae"]
    return found | {"mase": lambda counts: error(counts) / plain_error}


def _meanings(outcome: Outcome, plain_error: float | None) -> dict[str, Meaning]:
    return {**meanings_of(outcome), **({} if plain_error is None else {"mase": Meaning("MASE", False)})}


def _trivial(inputs: Inputs, schema: Schema, rows: Rows) -> Probabilities:
    train, validation = (read_rows(inputs.dataset, split, schema) for split in ("train", "validation"))
    return trivial(schema, train, validation, rows)


def _sample(records: list[Row], settings: Evaluate) -> list[Row]:
    """Test rows to time: all, or a seeded sample."""
    chosen = np.random.default_rng(settings.seed).permutation(len(records))[: settings.latency_rows]
    return [records[i] for i in chosen]


def _latencies(candidates: dict[str, Candidate], records: list[Row]) -> dict[str, latency.Latency]:
    return {model: latency.measure(candidate.answer, records) for model, candidate in candidates.items()}


def _figures(
    outcome: Outcome,
    candidate: Candidate,
    teacher: Candidate,
    resampled: dict[str, dict[str, quality.Resampled]],
    model: str,
    truth: Truth,
) -> dict[str, float]:
    first = primary(outcome)
    own, teachers, trivial = (resampled[name][first] for name in (model, "teacher", TRIVIAL))
    gain = quality.gain_kept(own, teachers, trivial)
    intervals = {name: quality.interval(metric) for name, metric in resampled[model].items()}
    # What has no zero of its own has the trivial forecast's.
    whole = meanings_of(outcome)[first].zero_is_nothing
    intervals |= {"retention": quality.ratio(own, teachers) if whole else gain, "gain_kept": gain}
    figures: dict[str, float] = {}
    for name, found in intervals.items():
        figures |= {name: found.value, f"{name}_low": found.low, f"{name}_high": found.high}
    return figures | {
        "agreement": fidelity.agreement(outcome, teacher.probabilities, candidate.probabilities),
        "kl": fidelity.kl_divergence(teacher.probabilities, candidate.probabilities),
        **calibration.figures(outcome, candidate.probabilities, truth),
    }


def _measured(
    outcome: Outcome,
    models: dict[str, dict[str, float]],
    candidates: dict[str, Candidate],
    resampled: dict[str, dict[str, quality.Resampled]],
) -> contract.Measured:
    small = models["student_int8"]
    first = primary(outcome)
    own = resampled["student_int8"][first]

    def over(model: str) -> quality.Interval:
        return quality.difference(own, resampled[model][first])

    return contract.Measured(
        metric=meanings_of(outcome)[first],
        retention=small["retention"],
        agreement=small["agreement"],
        flips=fidelity.flips(outcome, candidates["student"].probabilities, candidates["student_int8"].probabilities),
        latency_p95_ms=small["latency_p95_ms"],
        size_mb=small["size_bytes"] / 1e6,
        over_control=over("control"),
        over_baseline=over("baseline"),
        over_champion=over("champion") if "champion" in resampled else None,
    )


def _curves(inputs: Inputs) -> dict[str, Any]:
    folders = {"teacher": inputs.teacher, "control": inputs.control, "student": inputs.student}
    return {name: json.loads((folder / HISTORY).read_text(encoding="utf-8")) for name, folder in folders.items()}


def _confusion(outcome: Outcome, rows: Rows, candidate: Candidate) -> list[list[int]] | None:
    """Counts `[label][answer]` of classes; none for values."""
    if not isinstance(outcome, Classification):
        return None
    guesses = candidate.probabilities.argmax(axis=1)
    counts: list[list[int]] = quality.confusion_matrix(rows.value.astype(np.int64), guesses, len(outcome)).tolist()
    return counts


def _draw(outcome: Outcome, summary: dict[str, Any], candidates: dict[str, Candidate], rows: Rows) -> dict[str, str]:
    """The report's pictures, by name: some for every kind of outcome, some for the kind at hand."""
    first = primary(outcome)
    title = meanings_of(outcome)[first].title
    shown = {model: candidates[model].probabilities for model in ("teacher", "student_int8")}
    drawn = {
        "quality_latency": figures.quality_latency(summary["models"], first, title),
        "training_curves": figures.training_curves(summary["curves"], first, title),
    }
    if isinstance(outcome, Classification):
        labels = rows.value.astype(np.int64)
        bins = {model: calibration.reliability(found, labels) for model, found in shown.items()}
        return drawn | {
            "confusion": figures.confusion(np.array(summary["confusion"]), outcome.names),
            "reliability": figures.reliability_diagram(bins, said="confidence", came="accuracy"),
        }
    if isinstance(outcome, Rate):
        bins = {model: calibration.rate_bins(found[:, 1], rows.truth) for model, found in shown.items()}
        return drawn | {"reliability": figures.reliability_diagram(bins, said="rate said", came="rate that came true")}
    shares = {model: calibration.quantile_shares(outcome, found, rows.value) for model, found in shown.items()}
    median = outcome.quantile(shown["student_int8"], 0.5)
    return drawn | {
        "forecasts": figures.forecasts(rows.value, median, scale=SCALES[outcome.scale]),
        "reliability": figures.quantile_diagram(shares),
    }


def _write_predictions(path: Path, rows: Rows, schema: Schema, candidates: dict[str, Candidate]) -> None:
    """Each model's answer to each test row, so that any figure can be checked or cut another way."""
    outcome = schema.outcome
    answers = {model: outcome.decode(c.probabilities) for model, c in candidates.items()}
    labels = [outcome.names[int(i)] for i in rows.value] if isinstance(outcome, Classification) else rows.value
    told = {name: found for name, found in (("group", rows.group), ("weight", rows.weight)) if found is not None}
    table = pa.table({"row": rows.row, "text": rows.text, "label": labels, **told, **answers})
    pq.write_table(table, path, compression="zstd")

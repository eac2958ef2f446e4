"""Evaluate: every model on the test rows, and the contract's verdict."""

import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from potstill.data.dataset import Rows, Schema, read_rows, read_schema, read_texts
from potstill.data.split import SPLITS
from potstill.edge import FIRST, Row
from potstill.evaluate import calibration, contract, fidelity, figures, latency, quality, scope
from potstill.evaluate.candidates import Candidate, Inputs, open_all, taught_probabilities
from potstill.evaluate.cascade import Cascade
from potstill.evaluate.judge import Judge
from potstill.evaluate.names import FIGURES, PREDICTIONS, SUMMARY, VERDICT, step_name
from potstill.evaluate.roc import roc_of
from potstill.evaluate.trivial import forecast, mean_of, of_all_tasks
from potstill.learn.student import HISTORY
from potstill.learn.teachers import member_folders, teacher_folders
from potstill.machine import describe, versions
from potstill.metrics import Meaning, Metric, Truth, meanings_of, metrics_of, primary, score
from potstill.outcomes import (
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
    parts_of,
    refusing,
)
from potstill.progress import Progress
from potstill.recipe import Budget, Evaluate
from potstill.steps.choose import PLAN
from potstill.steps.compress import SMALL, STEPS
from potstill.store import to_json, writing

TRIVIAL = "trivial"
# Errors of values over those that a plain forecast made on the training rows.
SCALED = {"mase": "MASE", "mase_seasonal": "seasonal MASE"}
# How a figure's axes are spread, by the scale of a value.
SCALES = {"log": "log", "count": "symlog", "linear": "linear"}


def evaluate(
    inputs: Inputs, budget: Budget, settings: Evaluate, names: dict[str, str], champion: str, evaluation: Path
) -> dict[str, float]:
    """Measure every model on the test rows, judge the edge model, and write summary, verdict, figures, predictions.

    Args:
        inputs: what the steps before wrote.
        budget: the contract's limits.
        settings: how to measure.
        names: what the summary is to be known by: recipe, model, and digests.
        champion: version of `inputs.champion`.
        evaluation: the folder to write.

    Returns:
        The edge model's figures, but for those that are no numbers.
    """
    schema = read_schema(inputs.dataset)
    splits = {split: read_rows(inputs.dataset, split, schema) for split in SPLITS}
    rows = splits["test"] = splits["test"].judged()
    if isinstance(schema.outcome, Retrieval):
        schema = replace(schema, outcome=schema.outcome.over(rows.catalogue))
    with tempfile.TemporaryDirectory(prefix="potstill-") as scratch:
        candidates = open_all(inputs, schema, splits, Path(scratch))
        print(f"measuring {len(candidates)} models on {len(rows):,} test rows")
        timed = _sample(rows.records(schema.text[0]), settings)
        times = {model: latency.measure(candidate.answer, timed) for model, candidate in candidates.items()}
        refusals = _refusals(inputs, schema, splits, candidates)
    predicted = {model: c.probabilities for model, c in candidates.items()} | {
        TRIVIAL: of_all_tasks(schema, *(splits[name] for name in SPLITS))
    }
    outcome, truth, errors = schema.outcome, rows.truth, _plain_errors(splits["train"], schema)
    metrics = {model: _metrics(outcome, truth, found, errors) for model, found in predicted.items()}
    resampled = quality.resample(metrics, truth, settings.resamples, settings.seed)
    models = {
        model: _figures(outcome, candidate, candidates["teacher"], resampled, model, truth)
        | {f"latency_{name}": getattr(times[model], name) for name in ("p50_ms", "p95_ms", "mean_ms")}
        | {"size_bytes": candidate.size_bytes}
        | refusals.get(model, {})
        for model, candidate in candidates.items()
    }
    cascade = _cascade(inputs.edge / SMALL, outcome, rows, schema)
    alone = cascade.second if cascade else candidates["edge"].probabilities
    quantised = candidates["student"].probabilities, alone
    verdict = contract.judge(
        _measured(outcome, models, quantised, resampled, truth),
        _cost(models["edge"]),
        budget,
        _champion(outcome, champion, resampled),
    )
    summary = {
        **names,
        **({"first_digest": cascade.first_digest} if cascade else {}),
        "task": schema.task,
        "outcome": outcome.spec(),
        "metrics": {name: asdict(meaning) for name, meaning in _meanings(outcome, errors).items()},
        "plain": {
            name: _once(_metrics(outcome, truth, found, errors), truth)
            for name, found in {**candidates["baseline"].views, **_seasonal(schema, splits)}.items()
        },
        "trivial": {name: found.value for name, found in resampled[TRIVIAL].items()},
        "rows": schema.rows,
        "out_of_scope": schema.out_of_scope,
        "rejected": schema.rejected,
        "models": models,
        "compression": json.loads((inputs.edge / STEPS).read_text(encoding="utf-8")),
        "cascade": cascade.figures(timed, times["edge"]) if cascade else None,
        "plan": _plan(inputs.edge / PLAN),
        "verdict": json.loads(verdict.to_json()),
        "confusion": _confusion(schema, truth, candidates["edge"]),
        "roc": _roc(schema, truth, candidates["edge"]),
        "curves": _curves(inputs, outcome),
        "machine": describe(),
        "versions": versions(),
    }
    with writing(evaluation) as draft:
        (draft / SUMMARY).write_text(to_json(summary), encoding="utf-8")
        (draft / VERDICT).write_text(verdict.to_json(), encoding="utf-8")
        drawn = _draw(inputs, outcome, summary, candidates, rows)
        (draft / FIGURES).write_text(json.dumps(drawn), encoding="utf-8")
        _write_predictions(draft / PREDICTIONS, rows, schema, candidates)
    print("accepted" if verdict.accepted else f"refused: {'; '.join(verdict.reasons)}")
    return {name: value for name, value in models["edge"].items() if np.isfinite(value)}


def _plan(path: Path) -> dict[str, Any] | None:
    """What was tried before this form was chosen, if the recipe didn't give it."""
    if not path.is_file():
        return None
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def _cascade(folder: Path, outcome: Outcome, rows: Rows, schema: Schema) -> Cascade | None:
    """The edge model's two models, if it is a cascade."""
    if not (folder / FIRST).is_dir():
        return None

    def figure(probabilities: Probabilities) -> float:
        return score(outcome, rows.truth, probabilities)[primary(outcome)]

    return Cascade(folder, rows.records(schema.text[0]), figure)


def _refusals(
    inputs: Inputs, schema: Schema, splits: dict[str, Rows], candidates: dict[str, Candidate]
) -> dict[str, dict[str, float]]:
    """What each model refuses, by a threshold of its own from the validation rows; empty where nothing may be."""
    if not any(isinstance(p.outcome, Classification) and p.outcome.refuse for p in parts_of(schema.outcome)):
        return {}
    column, texts = schema.text[0], read_texts(inputs.dataset)
    found: dict[str, dict[str, float]] = {}
    progress = Progress(len(candidates), "model")
    for done, (model, candidate) in enumerate(candidates.items()):
        progress.at(done, "refusals")
        known = candidate.ask(splits["validation"].records(column))
        outside = candidate.ask([{column: text} for text in texts]) if texts else None
        outcome = refusing(schema.outcome, known, splits["validation"].value)
        found[model] = {
            part.named(name): value
            for part in parts_of(outcome)
            for name, value in _refusal(part, candidate, splits["test"].truth, outside).items()
        }
    return found


def _refusal(part: Part, candidate: Candidate, truth: Truth, outside: Probabilities | None) -> dict[str, float]:
    if not isinstance(part.outcome, Classification) or part.outcome.threshold is None:
        return {}
    rows, told = truth.of(part)
    others = None if outside is None else outside[:, part.columns]
    inside = candidate.probabilities[rows][:, part.columns]
    return scope.figures(inside, told.values.astype(np.int64), others, part.outcome.threshold)


def _plain_errors(train: Rows, schema: Schema) -> dict[str, float]:
    """Mean absolute error of the plain forecasts of a value on the training rows, by the metric that it scales."""
    if not isinstance(schema.outcome, Value):
        return {}
    columns = {"mase": schema.reference, "mase_seasonal": (schema.season,) if schema.season else ()}
    errors = {
        name: float(np.average(np.abs(train.value - mean_of(names, train)), weights=train.weight))
        for name, names in columns.items()
        if names
    }
    return {name: error for name, error in errors.items() if error > 0}


def _seasonal(schema: Schema, splits: dict[str, Rows]) -> dict[str, Probabilities]:
    """The seasonal-naive forecast of the test rows; empty where the recipe names none."""
    if schema.season is None or not isinstance(schema.outcome, Value):
        return {}
    return {"seasonal naive": forecast(schema.outcome, [schema.season], splits["validation"], splits["test"])}


def _metrics(
    outcome: Outcome, truth: Truth, probabilities: Probabilities, plain_errors: Mapping[str, float]
) -> dict[str, Metric]:
    """The family's metrics and the mean absolute scaled errors (Hyndman & Koehler 2006)."""
    found = metrics_of(outcome, truth, probabilities)

    def scaled(error: float) -> Metric:
        return lambda counts: found["mae"](counts) / error

    return found | {name: scaled(error) for name, error in plain_errors.items()}


def _once(metrics: dict[str, Metric], truth: Truth) -> dict[str, float]:
    return {name: float(metric(np.ones((1, len(truth))))[0]) for name, metric in metrics.items()}


def _meanings(outcome: Outcome, plain_errors: Mapping[str, float]) -> dict[str, Meaning]:
    return {**meanings_of(outcome), **{name: Meaning(SCALED[name], False) for name in plain_errors}}


def _sample(records: Sequence[Row], settings: Evaluate) -> list[Row]:
    """Test rows to time: all, or a seeded sample."""
    chosen = np.random.default_rng(settings.seed).permutation(len(records))[: settings.latency_rows]
    return [records[i] for i in chosen]


def _figures(
    outcome: Outcome,
    candidate: Candidate,
    teacher: Candidate,
    resampled: dict[str, dict[str, quality.Resampled]],
    model: str,
    truth: Truth,
) -> dict[str, float]:
    """A model's figures: each metric, how much it keeps, and how alike it answers; of several tasks, of each too."""
    intervals = {name: quality.interval(metric) for name, metric in resampled[model].items()}
    likeness: dict[str, float] = {}
    parts = parts_of(outcome)
    for part in parts:
        rows, told = truth.of(part)
        own, theirs = (found.probabilities[rows][:, part.columns] for found in (candidate, teacher))
        intervals |= _kept(part.named, primary(part.outcome), part.outcome, resampled, model)
        alike = {
            "agreement": fidelity.agreement(part.outcome, theirs, own),
            "kl": fidelity.kl_divergence(theirs, own),
            **calibration.figures(part.outcome, own, told),
        }
        likeness |= {part.named(name): value for name, value in alike.items()}
    if isinstance(outcome, Together):
        intervals |= _kept(str, primary(outcome), outcome, resampled, model)
        means = {name: np.mean([likeness[part.named(name)] for part in parts]) for name in ("agreement", "kl")}
        likeness |= {name: float(mean) for name, mean in means.items()}
    figures: dict[str, float] = {}
    for name, found in intervals.items():
        figures |= {name: found.value, f"{name}_low": found.low, f"{name}_high": found.high}
    return figures | likeness


def _kept(
    named: Callable[[str], str],
    first: str,
    outcome: Outcome,
    resampled: dict[str, dict[str, quality.Resampled]],
    model: str,
) -> dict[str, quality.Interval]:
    """How much of the teacher's deciding metric a model keeps, and of its gain over the trivial forecast."""
    own, teachers, trivial = (resampled[name][named(first)] for name in (model, "teacher", TRIVIAL))
    meaning = meanings_of(outcome)[first]
    gain = quality.gain_kept(own, teachers, trivial, meaning.higher_is_better)
    # What has no zero of its own has the trivial forecast's.
    kept = quality.ratio(own, teachers) if meaning.zero_is_nothing else gain
    return {named("retention"): kept, named("gain_kept"): gain}


def _measured(
    outcome: Outcome,
    models: dict[str, dict[str, float]],
    quantised: tuple[Probabilities, Probabilities],
    resampled: dict[str, dict[str, quality.Resampled]],
    truth: Truth,
) -> dict[str, contract.Measured]:
    return {part.task: _measured_of(part, models, quantised, resampled, truth) for part in parts_of(outcome)}


def _measured_of(
    part: Part,
    models: dict[str, dict[str, float]],
    quantised: tuple[Probabilities, Probabilities],
    resampled: dict[str, dict[str, quality.Resampled]],
    truth: Truth,
) -> contract.Measured:
    first = primary(part.outcome)
    own = resampled["edge"][part.named(first)]
    rows, _ = truth.of(part)
    before, after = (found[rows][:, part.columns] for found in quantised)
    return contract.Measured(
        metric=meanings_of(part.outcome)[first],
        retention=models["edge"][part.named("retention")],
        agreement=models["edge"][part.named("agreement")],
        flips=fidelity.flips(part.outcome, before, after),
        over_control=quality.difference(own, resampled["control"][part.named(first)]),
        over_baseline=quality.difference(own, resampled["baseline"][part.named(first)]),
    )


def _cost(small: dict[str, float]) -> contract.Cost:
    return contract.Cost(small["latency_p95_ms"], small["size_bytes"] / 1e6)


def _champion(
    outcome: Outcome, version: str, resampled: dict[str, dict[str, quality.Resampled]]
) -> contract.Rival | None:
    if "champion" not in resampled:
        return None
    first = primary(outcome)
    over = quality.difference(resampled["edge"][first], resampled["champion"][first])
    return contract.Rival(version, meanings_of(outcome)[first], over)


def _curves(inputs: Inputs, outcome: Outcome) -> dict[str, Any]:
    folders = {}
    for number, member in enumerate(member_folders(inputs.teacher)):
        for folder in teacher_folders(member, outcome):
            task = folder.name if folder != member else ""
            folders[" ".join(filter(None, ("teacher", task, str(number + 1) if number else "")))] = folder
    folders |= {"control": inputs.control, "student": inputs.student}
    return {name: json.loads((folder / HISTORY).read_text(encoding="utf-8")) for name, folder in folders.items()}


def _confusion(schema: Schema, truth: Truth, candidate: Candidate) -> dict[str, dict[str, Any]]:
    """Of each task with classes their names and counts `[label][answer]`."""
    found = {}
    for part in parts_of(schema.outcome):
        if isinstance(part.outcome, Classification):
            rows, told = truth.of(part)
            guesses = candidate.probabilities[rows][:, part.columns].argmax(axis=1)
            counts = quality.confusion_matrix(told.values.astype(np.int64), guesses, len(part.outcome))
            found[part.task or schema.task] = {"names": part.outcome.names, "counts": counts.tolist()}
    return found


def _roc(schema: Schema, truth: Truth, candidate: Candidate) -> dict[str, dict[str, list[float]]]:
    """Of each task that has one its curve."""
    found = {}
    for part in parts_of(schema.outcome):
        rows, told = truth.of(part)
        curve = roc_of(part.outcome, told, candidate.probabilities[rows][:, part.columns])
        if curve is not None:
            found[part.task or schema.task] = asdict(curve)
    return found


def _draw(
    inputs: Inputs, outcome: Outcome, summary: dict[str, Any], candidates: dict[str, Candidate], rows: Rows
) -> dict[str, str]:
    """The report's pictures, by name: some for every kind of outcome, some for the kind at hand."""
    first = primary(outcome)
    title = meanings_of(outcome)[first].title
    drawn = {
        "quality_latency": figures.quality_latency(summary["models"], first, title),
        "training_curves": figures.training_curves(summary["curves"], first, title),
        "ladder": _ladder(inputs, summary),
    }
    if summary["cascade"]:
        told = summary["cascade"]
        here = told["escalated"], told["models"]["cascade"]["figure"]
        drawn["escalation"] = figures.escalation(told["curve"], here, title)
    if plan := summary["plan"]:
        drawn["frontier"] = figures.frontier(plan["tried"], plan["retention"], plan["latency_p95_ms"], title)
    for part in parts_of(outcome):
        told, truth = rows.truth.of(part)
        shown = {m: candidates[m].probabilities[told][:, part.columns] for m in ("teacher", "edge")}
        own = _draw_task(part.outcome, truth, shown, summary["confusion"].get(part.task or summary["task"]))
        drawn |= {part.named(name): figure for name, figure in own.items()}
    return drawn


def _ladder(inputs: Inputs, summary: dict[str, Any]) -> str:
    """From the teacher to the edge model on the validation rows, by the steps of compression that stayed."""
    judge, teacher = Judge(inputs.dataset, "validation"), summary["models"]["teacher"]
    taught = taught_probabilities(inputs.signals, judge.outcome, judge.all_rows, judge.rows)
    figure = judge.figures(taught)[judge.first]
    rungs = [("teacher", judge.words(figure), teacher["latency_p50_ms"], teacher["size_bytes"])]
    rungs += [
        (
            step_name(step["name"]),
            judge.words(np.nan if step["figure"] is None else step["figure"]),
            step["p50_ms"],
            step["size_bytes"],
        )
        for step in summary["compression"]
        if step["kept"]
    ]
    return figures.ladder(rungs)


def _draw_task(
    outcome: Single, truth: Truth, shown: dict[str, Probabilities], confusion: dict[str, Any] | None
) -> dict[str, str]:
    if confusion is not None:
        bins = {model: calibration.reliability(found, truth) for model, found in shown.items()}
        return {
            "confusion": figures.confusion(np.array(confusion["counts"]), confusion["names"]),
            "reliability": figures.reliability_diagram(bins, said="confidence", came="accuracy"),
        }
    if isinstance(outcome, Rate):
        bins = {model: calibration.rate_bins(found[:, 1], truth) for model, found in shown.items()}
        return {"reliability": figures.reliability_diagram(bins, said="rate said", came="rate that came true")}
    if isinstance(outcome, Retrieval):
        bins = {model: calibration.reliability(found, truth) for model, found in shown.items()}
        return {"reliability": figures.reliability_diagram(bins, said="confidence", came="found")}
    assert isinstance(outcome, Value)  # noqa: S101 - classes have a confusion
    shares = {model: calibration.quantile_shares(outcome, found, truth) for model, found in shown.items()}
    median = outcome.quantile(shown["edge"], 0.5)
    return {
        "forecasts": figures.forecasts(truth.values, median, scale=SCALES[outcome.scale]),
        "reliability": figures.quantile_diagram(shares),
    }


def _write_predictions(path: Path, rows: Rows, schema: Schema, candidates: dict[str, Candidate]) -> None:
    """Each model's answer to each test row, so that any figure can be checked or cut another way."""
    told = {name: found for name, found in (("group", rows.group), ("weight", rows.weight)) if found is not None}
    table: dict[str, Any] = {"row": rows.row, "text": rows.text, **told}
    for part in parts_of(schema.outcome):
        values = part.values(rows.value)
        table[part.named("label")] = _labels(part.outcome, values)
        for model, candidate in candidates.items():
            table[part.named(model)] = part.outcome.decode(candidate.probabilities[:, part.columns])
    pq.write_table(pa.table(table), path, compression="zstd")


def _labels(outcome: Single, values: Floats) -> Any:
    """Labels as the source has them; none where a row has none."""
    if isinstance(outcome, Classification | Retrieval):
        return [outcome.names[int(i)] if np.isfinite(i) else None for i in values]
    return values

"""Commands that put models to use: predict, serve, watch, drift."""

import functools
import json
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import click

from potstill.cli.shared import (
    backend_options,
    cluster_option,
    console_here,
    cores,
    images_option,
    root_option,
    set_option,
    track,
)
from potstill.errors import UserError

if TYPE_CHECKING:
    from potstill.cluster.client import Backend
    from potstill.cluster.package import Order
    from potstill.edge import EdgeModel

BATCH_LINES = 64
# What a CronJob can act on: neither a failure (1) nor bad input (2).
EXIT_DRIFTED = 3
# Drift, and nothing was done about it: worth another try.
EXIT_NOT_STARTED = 4


@click.command()
@click.argument("model")
@click.option("--input", "source", metavar="ROWS", help="Parquet: a file, a folder or a glob, here or as s3://….")
@click.option("--output", "target", metavar="FILE", help="Parquet file to write, here or as s3://….")
@click.option(
    "--threads",
    type=click.IntRange(1),
    default=cores(),
    show_default="one a core",
    help="With --input: how many work.",
)
@root_option
def predict(model: str, source: str | None, target: str | None, threads: int, root: Path) -> None:
    """Answer lines or JSONL from stdin with JSONL on stdout, or a Parquet table with another one.

    MODEL is a registered name, which means its champion, or NAME@ALIAS, or NAME/VERSION. A line that starts with {
    is JSON and must hold one of the model's text columns; its other fields are kept. Any other line is a text, of the
    first of them. A table keeps its columns and gains predicted_…, one a field of the answer.

    \b
    Example:
      echo "great camera, poor battery" | potstill predict review-sentiment
      potstill predict review-sentiment --input reviews.parquet --output scored.parquet
      potstill predict review-sentiment --input 's3://shop/reviews/*.parquet' --output s3://shop/scored.parquet
    """
    from potstill import registry
    from potstill.edge import EdgeModel

    if (source is None) != (target is None):
        raise UserError("--input and --output go together; without both, lines are read from stdin")
    track(root)
    with registry.fetched(model) as folder:
        if source and target:
            _score(folder, source, target, threads)
            return
        edge = EdgeModel(folder)
        for batch in _batches(sys.stdin):
            rows = [_row(number, line, edge.text_columns[0]) for number, line in batch]
            answers = _answers(edge, rows, [number for number, _ in batch])
            for row, answer in zip(rows, answers, strict=True):
                click.echo(json.dumps({**row, **answer}, ensure_ascii=False))


def _score(folder: Path, source: str, target: str, threads: int) -> None:
    from potstill.scoring import ERROR, score

    found = score(folder, source, target, threads)
    click.echo(f"{target}: {found.rows:,} rows", err=True)
    if found.refused:
        click.echo(f"{found.refused:,} of them have no answer; {ERROR} says why", err=True)


def _batches(lines: TextIO) -> Iterator[list[tuple[int, str]]]:
    """Non-empty lines with their numbers, some at a time; one at a time when a person types them."""
    size = 1 if lines.isatty() else BATCH_LINES
    batch: list[tuple[int, str]] = []
    for number, line in enumerate(lines, 1):
        if line.strip():
            batch.append((number, line.strip()))
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def _row(number: int, line: str, column: str) -> dict[str, Any]:
    """A line as a row; what is no JSON is the text of the column."""
    if not line.startswith("{"):
        return {column: line}
    try:
        row = json.loads(line)
    except ValueError as error:
        raise UserError(f"line {number}: starts like JSON, but is not: {error}") from error
    return dict(row)


def _answers(edge: "EdgeModel", rows: list[dict[str, Any]], numbers: list[int]) -> list[dict[str, Any]]:
    """The model's answers; a row that it can't read is named by its line."""
    try:
        return edge.answer(rows)
    except ValueError:
        for number, row in zip(numbers, rows, strict=True):
            try:
                edge.answer([row])
            except ValueError as error:
                raise UserError(f"line {number}: {error}; found {', '.join(row) or 'nothing'}") from error
        raise


@click.command()
@click.argument("model")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on; 0.0.0.0 for all.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=8080, show_default=True, help="0 takes any that is free."
)
@click.option(
    "--workers",
    type=click.IntRange(1),
    default=cores(),
    show_default="one a core",
    help="Processes that answer.",
)
@click.option(
    "--batch",
    "batch_rows",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="Rows that wait together and may go through the model together.",
)
@click.option(
    "--wait-ms", type=click.FloatRange(0, 1000), default=0.0, show_default=True, help="How long a row waits for others."
)
@click.option("--rows", type=click.IntRange(1), default=256, show_default=True, help="Rows of a request, at most.")
@click.option(
    "--body-kb", type=click.IntRange(1), default=1000, show_default=True, help="Size of a request, at most, in kB."
)
@click.option(
    "--timeout-s", type=click.FloatRange(0.01), default=10.0, show_default=True, help="Time of a request, at most."
)
@click.option(
    "--poll-s", type=click.FloatRange(0.1), default=2.0, show_default=True, help="How often to look for a new version."
)
@root_option
def serve(
    model: str,
    host: str,
    port: int,
    workers: int,
    batch_rows: int,
    wait_ms: float,
    rows: int,
    body_kb: int,
    timeout_s: float,
    poll_s: float,
    root: Path,
) -> None:
    """Answer over HTTP: a page at /, POST /predict, the Open Inference Protocol at /v2, /docs, /metrics.

    MODEL is a registered name, which means its champion, or NAME@ALIAS, or NAME/VERSION, or a folder with an edge
    model. When the alias moves, the new version takes over without a lost request; one that can't be opened does not.

    \b
    Example:
      potstill serve review-sentiment --port 8080
      curl -d '{"rows": ["great camera"]}' -H 'content-type: application/json' http://127.0.0.1:8080/predict
    """
    from potstill.serve.limits import Limits
    from potstill.serve.server import Address, is_folder, serve

    if not all(map(math.isfinite, (wait_ms, timeout_s, poll_s))):
        raise UserError("--wait-ms, --timeout-s and --poll-s must be finite")
    if wait_ms and batch_rows == 1:
        raise UserError("--wait-ms: a row that goes alone waits for no other; give --batch too")
    if not is_folder(model):
        track(root)
    limits = Limits(body_bytes=body_kb * 1000, rows=rows, time_s=timeout_s, batch_rows=batch_rows, wait_ms=wait_ms)
    serve(model, Address(host, port, workers), limits, poll_s)


@click.command()
@click.argument("model")
@click.argument("stream", type=click.Path(path_type=Path, allow_dash=True), default="-")
@click.option("--time", "time_column", default="time", show_default=True, help="Column with the moment, ISO 8601.")
@click.option("--bad", default="negative", show_default=True, help="The class that counts as bad news.")
@click.option("--topic", help="Column with the topic; without it the stream is one topic.")
@click.option("--topic-model", help="Registered model that tells the topic of each text.")
@click.option("--surge", default=3.0, show_default=True, help="By how much the odds of bad news rise in a surge.")
@click.option("--baseline", default=200, show_default=True, help="First items of a topic, which tell its usual share.")
@click.option("--false-alarm", default=5000, show_default=True, help="Items of a topic between false alarms.")
@root_option
def watch(
    model: str,
    stream: Path,
    time_column: str,
    bad: str,
    topic: str | None,
    topic_model: str | None,
    surge: float,
    baseline: int,
    false_alarm: int,
    root: Path,
) -> None:
    """Read a stream of texts with times and alert when the share of bad news in a topic surges.

    STREAM is a JSONL or Parquet file, or - for JSONL on stdin, in the order of its times. Each alert is a line of JSON
    on stdout; what was read is told on stderr at the end.

    \b
    Example:
      tail -f news.jsonl | potstill watch finance-opinion --topic company
    """
    from contextlib import ExitStack

    from potstill import registry
    from potstill.edge import EdgeModel
    from potstill.stream import Scorer, alerts
    from potstill.watch import Design

    if surge <= 1 or baseline < 20 or false_alarm < 100:
        raise UserError("--surge must be above 1, --baseline at least 20 and --false-alarm at least 100")
    track(root)
    with ExitStack() as stack:
        opinion = EdgeModel(stack.enter_context(registry.fetched(model)))
        topics = EdgeModel(stack.enter_context(registry.fetched(topic_model))) if topic_model else None
        scorer = Scorer(opinion, bad, time_column, topic, topics)
        for alert in alerts(stream, scorer, Design(baseline, surge, false_alarm)):
            click.echo(json.dumps(alert, ensure_ascii=False))
    click.echo(f"{scorer.items:,} items read, {len(scorer.seen):,} topics", err=True)
    young = sum(items <= baseline for items in scorer.seen.values())
    if young:
        click.echo(f"not watched yet: {young:,} topics with no more than {baseline:,} items (--baseline)", err=True)


@click.command()
@click.argument("model")
@click.option("--window", required=True, metavar="ROWS", help="Parquet, CSV or JSONL: a file, a folder or a glob.")
@click.option("--reference", metavar="ROWS", help="Training data to compare with, instead of the version's profile.")
@click.option(
    "--psi",
    type=click.FloatRange(0.01, 10),
    default=0.1,
    show_default=True,
    help="Stability index from which on a difference that is beyond chance counts as drift.",
)
@click.option("--report", type=click.Path(dir_okay=False, path_type=Path), help="HTML file to write.")
@click.option("--json", "told", type=click.Path(dir_okay=False, path_type=Path), help="JSON file to write.")
@click.option("--retrain", type=click.Path(path_type=Path), help="Recipe to start on the backend if they have drifted.")
@set_option
@functools.partial(backend_options, required=False)
@cluster_option
@images_option
@root_option
def drift(
    model: str,
    window: str,
    reference: str | None,
    psi: float,
    report: Path | None,
    told: Path | None,
    retrain: Path | None,
    overrides: tuple[str, ...],
    host: str | None,
    namespace: str | None,
    cluster: Path | None,
    images: Path | None,
    root: Path,
) -> None:
    """Compare production rows with what a model was trained on; exit with 3 if they have drifted.

    MODEL is a registered name, which means its champion, or NAME@ALIAS, or NAME/VERSION. Rows are as the model gets
    them. Answers that they bring in predicted_… are looked at, else the model is asked; labels tell its quality now.
    With --retrain a drift starts the recipe's pipeline on the backend, with what --set replaces, unless a run of it
    goes on; exit with 4 if it can't be started.

    \b
    Example:
      potstill drift review-sentiment --window last-week.parquet --report drift.html --json drift.json
      potstill drift review-sentiment --window last-week.parquet --psi 0.25 \\
        --retrain recipes/review-sentiment.yaml --set 'data.source=s3://shop/reviews/*.parquet' \\
        --host https://kubeflow.example.com/pipeline
    """
    from potstill import registry
    from potstill.drift.check import check
    from potstill.drift.report import drift_table, looked_at, render, verdict

    if overrides and not retrain:
        raise UserError("--set: replaces settings of the recipe that --retrain names, and there is none")
    # A mistake in the recipe is told today, not on the day of a drift.
    retraining = _retraining(retrain, overrides, host, namespace, cluster, images) if retrain else None
    track(root)
    with registry.fetched(model) as folder:
        result = check(model, folder, window, reference, psi)
    console_here().print(drift_table(result))
    click.echo(f"{looked_at(result)}\n\n{verdict(result)}")
    if told:
        _write("--json", told, result.to_json())
    if report:
        _write("--report", report, render(result))
        click.echo(f"\nnext:\n  open {report}")
    if not result.drifted:
        return
    if retraining:
        _retrain(*retraining)
    raise click.exceptions.Exit(EXIT_DRIFTED)


def _retraining(
    recipe: Path,
    overrides: tuple[str, ...],
    host: str | None,
    namespace: str | None,
    cluster: Path | None,
    images: Path | None,
) -> tuple["Backend", "Order"]:
    from potstill.cluster.client import connect
    from potstill.cluster.package import order
    from potstill.pipelines.pods import load_cluster

    if not host:
        raise UserError("--retrain: starts a run on a backend; say on which by --host (KF_PIPELINES_ENDPOINT)")
    return connect(host, namespace), order(recipe, overrides, load_cluster(cluster), images)


def _retrain(backend: "Backend", ordered: "Order") -> None:
    """Start a run, unless one of the recipe goes on; a backend that refuses ends the command."""
    from potstill.cluster import runs

    recipe = ordered.package.recipe
    try:
        run, words = runs.going_on(backend, recipe), "goes on already; no other was started"
        if run is None:
            run, words = runs.start(backend, ordered, recipe), "started"
    except UserError as error:
        click.echo(f"potstill: drift, but no run of {recipe} was started: {error}", err=True)
        raise click.exceptions.Exit(EXIT_NOT_STARTED) from error
    click.echo(f"\n{run.display_name}: {words}\n  {backend.link('runs', run.run_id)}")


def _write(option: str, path: Path, text: str) -> None:
    from potstill.store import write_text

    try:
        write_text(path, text)
    except OSError as error:
        raise UserError(f"{option} {path}: can't write there: {error.strerror}") from error

"""The commands: parse, call, print."""

import json
import math
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import click
from rich.console import Console
from rich.table import Table

from potstill import __version__
from potstill.errors import UserError
from potstill.recipe import load_recipe

if TYPE_CHECKING:
    from potstill.edge import EdgeModel
    from potstill.recipe import Recipe

EXIT_BAD_INPUT = 2
BATCH_LINES = 64
LOG_WIDTH = 120
# Wider than any list of versions: a name that is to be pasted must not be cut or folded.
UNCUT_WIDTH = 500


class Commands(click.Group):
    """Commands that tell a user's mistake in one line and exit with code 2."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command."""
        try:
            return super().invoke(ctx)
        except UserError as error:
            message = str(error)
        except ModuleNotFoundError as error:
            extras = "train,pipeline,tune,serve,ui"
            message = f"{error.name} is not installed; this command needs pip install 'potstill[{extras}]'"
        click.echo(f"potstill: {message}", err=True)
        raise click.exceptions.Exit(EXIT_BAD_INPUT)


def _cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0))


def root_option(command: Callable[..., None]) -> Callable[..., None]:
    """`--root DIR`, where runs, MLflow's database and the cache lie."""
    return click.option(
        "--root",
        type=click.Path(file_okay=False, path_type=Path),
        default=Path(".potstill"),
        show_default=True,
        help="Folder of runs, and of MLflow where MLFLOW_TRACKING_URI is not set.",
    )(command)


def set_option(command: Callable[..., None]) -> Callable[..., None]:
    """`--set section.key=value`, repeatable."""
    return click.option(
        "--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Replace a setting of the recipe; repeatable."
    )(command)


recipe_argument = click.argument("recipe", type=click.Path(path_type=Path))


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="potstill")
def main() -> None:
    """Distil a large language-understanding model into one small enough for a shop's CPU path.

    \b
    Example:
      potstill run recipes/review-sentiment.yaml
    """


@main.command()
@recipe_argument
@set_option
@root_option
def run(recipe: Path, overrides: tuple[str, ...], root: Path) -> None:
    """Run a recipe's pipeline on this machine, by kfp's local runner.

    Leaves DIR/<run>/summary.json and report.html, and points DIR/latest to them.
    A model that the contract refuses is a successful run with a written reason.

    \b
    Example:
      potstill run recipes/review-sentiment.yaml --set distill.temperature=3
    """
    from potstill import local

    loaded = _checked(recipe, overrides)
    console = _console()
    try:
        folder = local.run(loaded, root, console, _track(root))
    except local.RunFailedError as error:
        raise click.ClickException(str(error)) from error
    _show(console, folder, root, loaded.register_.model)


@main.command()
@recipe_argument
@click.option(
    "--trials", type=click.IntRange(1), default=20, show_default=True, help="How many there are to be in all."
)
@click.option(
    "--over",
    default="temperature,alpha,learning_rate",
    show_default=True,
    metavar="KNOB[=LOW:HIGH],…",
    help="Settings of distill and student that change, each with its range, its choices (=a|b), or the usual ones.",
)
@set_option
@root_option
def tune(recipe: Path, trials: int, over: str, overrides: tuple[str, ...], root: Path) -> None:
    """Search for the settings of distillation that make the best student on the validation rows.

    Teacher and signals are made once; each trial distils a student, and is given up where others were better after as
    many epochs. Given again, the command goes on where it was. Leaves DIR/tune/RECIPE/best.yaml and knobs.svg.

    \b
    Example:
      potstill tune recipes/review-sentiment.yaml --trials 20 --over temperature,alpha=0.5:1,layers=2:4
    """
    from potstill.tune.search import search
    from potstill.tune.space import read_space

    loaded, knobs = _checked(recipe, overrides), read_space(over, recipe, overrides)
    artifacts = _track(root)
    found = search(loaded, recipe, overrides, knobs, trials, root, artifacts, _console())
    click.echo(f"\nnext:\n  open {found.picture}\n  {_typed()} run {found.recipe}{_root_of(root)}")


@main.command()
@recipe_argument
@set_option
@root_option
def ladder(recipe: Path, overrides: tuple[str, ...], root: Path) -> None:
    """Show what each step from the teacher to the edge model gains and costs: quality, time, size.

    Dataset, teacher, signals and students are made once and found again. Leaves DIR/ladder/RECIPE/ladder.csv and .svg.

    \b
    Example:
      potstill ladder recipes/support-intent.yaml --set compress.vocabulary=trim
    """
    from potstill.commands.ladder import ladder as climb

    click.echo(f"\nnext:\n  open {climb(_checked(recipe, overrides), root, _console())}")


@main.command()
@recipe_argument
@set_option
@root_option
def plan(recipe: Path, overrides: tuple[str, ...], root: Path) -> None:
    """Find the cheapest student that keeps the recipe's budget on this machine.

    Three untaught forms are timed and tell of all others; of those that are foreseen to keep the budget's time and size
    as few as can be learn from the teacher's signals. Leaves DIR/plan/RECIPE/frontier.svg and, if one keeps the budget,
    best.yaml; exits with 1 if none does.

    \b
    Example:
      potstill plan recipes/support-intent.yaml --set budget.latency_p95_ms=4
    """
    from potstill.commands.plan import plan as make

    loaded = _checked(recipe, overrides, has_form=False)
    made = make(loaded, recipe, overrides, root, _console())
    click.echo(f"\n{made.words}\n\nnext:\n  open {made.picture}")
    if made.recipe is None:
        raise click.exceptions.Exit(1)
    click.echo(f"  {_typed()} run {made.recipe}{_root_of(root)}")


@main.command(name="compile")
@recipe_argument
@set_option
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="File to write; default: pipelines/compiled/NAME.yaml.",
)
def compile_(recipe: Path, overrides: tuple[str, ...], output: Path | None) -> None:
    """Write a recipe's KFP package, which can be uploaded to a cluster and started from a form.

    \b
    Example:
      potstill compile recipes/review-sentiment.yaml --output review-sentiment.yaml
    """
    from potstill.pipelines.package import compile_package

    loaded = load_recipe(recipe, overrides)
    target = output or Path("pipelines", "compiled", f"{loaded.name}.yaml")
    compile_package(loaded, target)
    click.echo(f"{target}: {target.stat().st_size / 1e3:.0f} kB")


@main.command()
@click.argument("model")
@click.option("--input", "source", type=click.Path(path_type=Path), help="Parquet file, or folder of some.")
@click.option("--output", "target", type=click.Path(dir_okay=False, path_type=Path), help="Parquet file to write.")
@click.option(
    "--threads",
    type=click.IntRange(1),
    default=_cores(),
    show_default="one a core",
    help="With --input: how many work.",
)
@root_option
def predict(model: str, source: Path | None, target: Path | None, threads: int, root: Path) -> None:
    """Answer lines or JSONL from stdin with JSONL on stdout, or a Parquet table with another one.

    MODEL is a registered name, which means its champion, or NAME@ALIAS, or NAME/VERSION. A line that starts with {
    is JSON and must hold one of the model's text columns; its other fields are kept. Any other line is a text, of the
    first of them. A table keeps its columns and gains predicted_…, one a field of the answer.

    \b
    Example:
      echo "great camera, poor battery" | potstill predict review-sentiment
      potstill predict review-sentiment --input reviews.parquet --output scored.parquet
    """
    from potstill import registry
    from potstill.edge import EdgeModel

    if (source is None) != (target is None):
        raise UserError("--input and --output go together; without both, lines are read from stdin")
    _track(root)
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


def _score(folder: Path, source: Path, target: Path, threads: int) -> None:
    from potstill.scoring import ERROR, score

    found = score(folder, source, target, threads)
    click.echo(f"{target}: {found.rows:,} rows", err=True)
    if found.refused:
        click.echo(f"{found.refused:,} of them have no answer; {ERROR} says why", err=True)


@main.command()
@click.argument("model")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on; 0.0.0.0 for all.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=8080, show_default=True, help="0 takes any that is free."
)
@click.option(
    "--workers",
    type=click.IntRange(1),
    default=_cores(),
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
        _track(root)
    limits = Limits(body_bytes=body_kb * 1000, rows=rows, time_s=timeout_s, batch_rows=batch_rows, wait_ms=wait_ms)
    serve(model, Address(host, port, workers), limits, poll_s)


@main.command()
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
    _track(root)
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


@main.command()
@click.argument("model", required=False)
@root_option
def models(model: str | None, root: Path) -> None:
    """List registered versions with their aliases, quality and origin.

    \b
    Example:
      potstill models review-sentiment
    """
    from potstill import registry

    _track(root)
    table = Table("model", "version", "alias", "quality", "registered", "dataset", "run", box=None, pad_edge=False)
    for version in registry.versions(model):
        table.add_row(
            version.model,
            version.version,
            ", ".join(version.aliases),
            version.quality,
            f"{version.created:%Y-%m-%d %H:%M}",
            version.dataset_digest[:12],
            version.pipeline_run,
        )
    Console(highlight=False, width=UNCUT_WIDTH).print(table if table.row_count else "no registered models yet")


@main.command()
@click.argument("model")
@click.argument("version", required=False)
@click.option("--reason", default="by hand", show_default=True, help="Why; kept in the history.")
@root_option
def promote(model: str, version: str | None, reason: str, root: Path) -> None:
    """Make a version the champion; without VERSION, the challenger.

    \b
    Example:
      potstill promote review-sentiment 3 --reason "better on the spring catalogue"
    """
    from potstill import registry

    _track(root)
    move = registry.promote(model, version, reason)
    click.echo(f"{model}: champion is now version {move.to} (was {move.before or 'none'})")


@main.command()
@click.argument("model")
@click.option("--reason", default="by hand", show_default=True, help="Why; kept in the history.")
@root_option
def rollback(model: str, reason: str, root: Path) -> None:
    """Make the previous champion the champion again.

    \b
    Example:
      potstill rollback review-sentiment --reason "complaints since Tuesday"
    """
    from potstill import registry

    _track(root)
    move = registry.rollback(model, reason)
    click.echo(f"{model}: champion is again version {move.to} (was {move.before})")


def _checked(recipe: Path, overrides: tuple[str, ...], *, has_form: bool = True) -> "Recipe":
    """The recipe, whose rows and encoders are where it says; its student's form counts, unless it is to be found."""
    from potstill.data.read import check_source
    from potstill.hub import check_encoder, check_layers

    loaded = load_recipe(recipe, overrides)
    check_source(loaded.data, loaded.tasks)
    for number, member in enumerate(loaded.teacher.members):
        check_encoder(member.encoder, f"teacher.others.{number - 1}.encoder" if number else "teacher.encoder")
    if loaded.student.encoder is not None:
        check_encoder(loaded.student.encoder, "student.encoder")
    has_layers = loaded.student.has_teachers_layers or isinstance(loaded.student.keep, list)
    if has_layers and has_form and loaded.plan is None:
        check_layers(loaded.student.encoder or loaded.teacher.encoder, loaded.student.chosen)
    return loaded


def _track(root: Path) -> Path | None:
    """Let MLflow use the root's own database, unless the environment names a server; return where its files go."""
    if os.environ.get("MLFLOW_TRACKING_URI"):
        return None
    try:
        root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--root {root}: can't write there: {error.strerror}") from error
    os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{root.absolute() / 'mlflow.db'}"
    return root / "mlflow-artifacts"


def _console() -> Console:
    """A console that keeps to this terminal, or to this log, while the run's output is followed."""
    width = None if sys.stdout.isatty() else LOG_WIDTH
    return Console(file=sys.stdout, width=width, highlight=False)


def _show(console: Console, folder: Path, root: Path, model: str) -> None:
    """The end of a run: the table, the verdict, and what to type next."""
    from potstill.evaluate.report import models_table

    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    verdict = summary["verdict"]
    console.print()
    console.print(models_table(summary, console.width))
    for clause in verdict["clauses"]:
        console.print(f"[green]✓[/] {clause['words']}" if clause["passed"] else f"[red]✗[/] {clause['words']}")
    if summary["version"]:
        alias = f", {summary['alias']}" if summary["alias"] else ""
        console.print(f"[bold green]accepted[/]: {model} version {summary['version']}{alias}")
    else:
        console.print(f"[bold red]refused[/]: {'; '.join(verdict['reasons'])}")
    latest = root / "latest"
    console.print("\nnext:", f"  open {latest / 'report.html'}", sep="\n", soft_wrap=True)
    console.print("  make ui" if root == Path(".potstill") else f"  make ui ROOT={root}", soft_wrap=True)
    if summary["version"]:
        name = model if summary["alias"] == "champion" else f"{model}/{summary['version']}"
        console.print(f'  echo "your text" | {_typed()} predict {name}{_root_of(root)}', soft_wrap=True)


def _root_of(root: Path) -> str:
    """What to type behind a command so that it finds this root."""
    return "" if root == Path(".potstill") else f" --root {root}"


def _typed() -> str:
    """The command as it was typed, so that the next one can be pasted."""
    path = Path(sys.argv[0])
    return path.name if shutil.which(path.name) == str(path) else os.path.relpath(path)


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

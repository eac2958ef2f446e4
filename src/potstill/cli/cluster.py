"""Commands for what runs elsewhere: doctor, submit, runs, schedule."""

import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.table import Table

from potstill.cli.shared import (
    UNCUT_WIDTH,
    backend_options,
    cluster_option,
    console_here,
    images_option,
    recipe_argument,
    root_option,
    set_option,
    track,
)
from potstill.recipe import load_recipe

if TYPE_CHECKING:
    from potstill.cluster.reconcile import Step
    from potstill.doctor import Finding
    from potstill.recipe import Recipe

SCHEDULES = Path("pipelines", "schedules.yaml")


@click.command()
@click.argument("recipe", type=click.Path(path_type=Path), required=False)
@set_option
@click.option("--store", default="", help="Folder or s3://bucket/folder that is to outlive runs.")
@functools.partial(backend_options, required=False)
@root_option
def doctor(
    recipe: Path | None,
    overrides: tuple[str, ...],
    store: str,
    host: str | None,
    namespace: str | None,
    root: Path,
) -> None:
    """Try everything that a run needs (store, rows, MLflow), name what is missing, and exit with 1 if anything is.

    With --host the backend is asked for its pipelines, too. All but that is the first step of each pipeline.

    \b
    Example:
      potstill doctor recipes/review-sentiment.yaml --store s3://shop/potstill \\
        --host https://kubeflow.example.com/pipeline
    """
    from potstill.doctor import examine

    sources, shards = _needs(load_recipe(recipe, overrides)) if recipe else ([], 1)
    track(root)
    passed = True
    for finding in (*examine(store, sources, shards), *_backend_found(host, namespace)):
        click.echo(f"{'✓' if finding.passed else '✗'} {finding.what}: {finding.words}")
        passed &= finding.passed
    if not passed:
        raise click.exceptions.Exit(1)


def _needs(recipe: "Recipe") -> tuple[list[str], int]:
    """Where a recipe's rows lie, and into how many shards its extraction falls."""
    from potstill.data.read import sources_of
    from potstill.doctor import places_of

    return places_of(*sources_of(recipe.data).values()), recipe.signals.shards


def _backend_found(host: str | None, namespace: str | None) -> "Iterator[Finding]":
    from potstill.cluster.client import answers, connect
    from potstill.doctor import found

    if host:
        yield found("Kubeflow Pipelines", lambda: answers(connect(host, namespace)))


@click.command()
@recipe_argument
@backend_options
@set_option
@cluster_option
@images_option
@click.option("--no-cache", is_flag=True, help="Let each step work anew, whatever earlier runs have made.")
@click.option("--experiment", help="Experiment of the run; default: the recipe's name.")
@click.option(
    "--wait",
    is_flag=True,
    help="Show progress until the run ends; exit with 1 unless it succeeds. Ctrl-C ends the show alone.",
)
def submit(
    recipe: Path,
    host: str,
    namespace: str | None,
    overrides: tuple[str, ...],
    cluster: Path | None,
    images: Path | None,
    no_cache: bool,
    experiment: str | None,
    wait: bool,
) -> None:
    """Start a recipe's pipeline on a cluster.

    The recipe's file is uploaded as a version of its pipeline, once; --set changes this run alone.

    \b
    Example:
      potstill submit recipes/review-sentiment.yaml --set 'data.source=s3://shop/reviews/*.parquet' \\
        --host https://kubeflow.example.com/pipeline --wait
    """
    from potstill.cluster import runs
    from potstill.cluster.client import connect
    from potstill.cluster.package import order
    from potstill.pipelines.pods import load_cluster

    backend = connect(host, namespace)
    ordered = order(recipe, overrides, load_cluster(cluster), images, cached=not no_cache)
    run = runs.start(backend, ordered, experiment or ordered.package.recipe)
    click.echo(f"{run.display_name}: version {ordered.package.version}\n  {backend.link('runs', run.run_id)}")
    if not wait:
        return
    try:
        runs.follow(backend, run.run_id, ordered.package.steps, console_here())
    except runs.RunFailedError as error:
        raise click.ClickException(str(error)) from error
    click.echo("run succeeded")


@click.command()
@backend_options
@click.option("--experiment", help="Only this experiment's.")
@click.option("--recipe", help="Only this recipe's, by its name.")
@click.option("--last", type=click.IntRange(1), default=20, show_default=True, help="How many, at most.")
def runs(host: str, namespace: str | None, experiment: str | None, recipe: str | None, last: int) -> None:
    """List a cluster's runs, newest first.

    \b
    Example:
      potstill runs --host https://kubeflow.example.com/pipeline --recipe review-sentiment
    """
    from potstill.cluster.client import connect
    from potstill.cluster.runs import recent
    from potstill.progress import duration

    table = Table("state", "started", "duration", "recipe", "run", "link", box=None, pad_edge=False)
    for run in recent(connect(host, namespace), last, experiment, recipe):
        started = f"{run.started.astimezone():%Y-%m-%d %H:%M}"
        table.add_row(run.state, started, duration(run.wall_s), run.recipe, run.name, run.link)
    _show(table, "no runs yet")


@click.group()
def schedule() -> None:
    """Keep the runs that a cluster starts by itself as a file declares them."""


@schedule.command()
@click.argument("file", type=click.Path(path_type=Path), default=SCHEDULES)
@backend_options
@images_option
@click.option("--dry-run", is_flag=True, help="Show what would be done, and change nothing.")
def apply(file: Path, host: str, namespace: str | None, images: Path | None, dry_run: bool) -> None:
    """Make the recurring runs of the file's experiment what FILE declares (default: pipelines/schedules.yaml).

    Recurring runs that Potstill did not make are left alone.

    \b
    Example:
      potstill schedule apply pipelines/schedules.yaml --host https://kubeflow.example.com/pipeline --dry-run
    """
    from potstill.cluster.client import connect
    from potstill.cluster.reconcile import carry_out, steps_to
    from potstill.cluster.schedules import read_schedules

    backend, (experiment, wanted) = connect(host, namespace), read_schedules(file, images)
    steps = steps_to(backend, experiment, wanted)
    if dry_run:
        click.echo("".join(f"{step}\n" for step in steps) + "nothing was changed (--dry-run)")
        return
    carry_out(backend, experiment, steps, _tell)


def _tell(step: "Step") -> None:
    click.echo(str(step))


@schedule.command(name="list")
@backend_options
def list_(host: str, namespace: str | None) -> None:
    """List the schedules on a cluster that Potstill made.

    \b
    Example:
      potstill schedule list --host https://kubeflow.example.com/pipeline
    """
    from potstill.cluster.client import connect
    from potstill.cluster.reconcile import listed

    backend = connect(host, namespace)
    table = Table("schedule", "state", "cron", "experiment", "recurring run", "link", box=None, pad_edge=False)
    for kept, experiment in listed(backend):
        state, link = "on" if kept.runs else "paused", backend.link("recurringrun", kept.identity)
        table.add_row(kept.schedule, state, kept.cron, experiment, kept.name, link)
    _show(table, "no schedules yet")


def _show(table: Table, nothing: str) -> None:
    Console(highlight=False, width=UNCUT_WIDTH).print(table if table.row_count else nothing)


def schedule_argument(command: Callable[..., None]) -> Callable[..., None]:
    """A schedule's name, and the experiment where several have it."""
    experiment = click.option("--experiment", help="Where it is, if several experiments have one of that name.")
    return click.argument("name")(experiment(command))


@schedule.command()
@schedule_argument
@backend_options
def pause(name: str, experiment: str | None, host: str, namespace: str | None) -> None:
    """Let a schedule start no runs until it is resumed.

    \b
    Example:
      potstill schedule pause review-sentiment-nightly --host https://kubeflow.example.com/pipeline
    """
    from potstill.cluster import reconcile
    from potstill.cluster.client import connect

    reconcile.pause(connect(host, namespace), name, experiment)
    click.echo(f"{name}: paused")


@schedule.command()
@schedule_argument
@backend_options
def resume(name: str, experiment: str | None, host: str, namespace: str | None) -> None:
    """Let a paused schedule start runs again.

    \b
    Example:
      potstill schedule resume review-sentiment-nightly --host https://kubeflow.example.com/pipeline
    """
    from potstill.cluster import reconcile
    from potstill.cluster.client import connect

    reconcile.resume(connect(host, namespace), name, experiment)
    click.echo(f"{name}: on again")


@schedule.command()
@schedule_argument
@backend_options
def remove(name: str, experiment: str | None, host: str, namespace: str | None) -> None:
    """End a schedule; take it out of the file too, or the next apply makes it again.

    \b
    Example:
      potstill schedule remove review-sentiment-nightly --host https://kubeflow.example.com/pipeline
    """
    from potstill.cluster import reconcile
    from potstill.cluster.client import connect

    reconcile.remove(connect(host, namespace), name, experiment)
    click.echo(f"{name}: removed")

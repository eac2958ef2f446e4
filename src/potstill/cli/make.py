"""Commands that make models: run, teach, tune, ladder, plan, compile."""

import json
from pathlib import Path

import click
from rich.console import Console
from rich.markup import escape

from potstill.cli.shared import (
    checked,
    cluster_option,
    console_here,
    images_option,
    recipe_argument,
    root_of,
    root_option,
    set_option,
    track,
    typed,
)
from potstill.recipe import load_recipe


@click.command()
@recipe_argument
@set_option
@click.option(
    "--store",
    default="",
    metavar="PLACE",
    help="s3://bucket/folder, or a folder, where artifacts, signals and checkpoints outlive this machine.",
)
@click.option(
    "--images",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Run the steps in containers: lock file of the images, as make images writes it.",
)
@root_option
def run(recipe: Path, overrides: tuple[str, ...], store: str, images: Path | None, root: Path) -> None:
    """Run a recipe's pipeline on this machine, by kfp's local runner.

    Leaves DIR/<run>/summary.json and report.html, and points DIR/latest to them.
    A model that the contract refuses is a successful run with a written reason.

    \b
    Example:
      potstill run recipes/review-sentiment.yaml --set distill.temperature=3
    """
    from potstill.images import read_lock
    from potstill.local.run import RunFailedError
    from potstill.local.run import run as carry_out

    loaded = checked(recipe, overrides)
    locked = read_lock(images) if images else None
    console = console_here()
    try:
        folder = carry_out(loaded, root, console, track(root), store, locked)
    except RunFailedError as error:
        raise click.ClickException(str(error)) from error
    _show(console, folder, root, loaded.register_.model)


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
    elif summary["dry_run"]:
        console.print(f"[bold red]{escape(summary['dry_run'])}[/]", soft_wrap=True)
    else:
        console.print(f"[bold red]refused[/]: {'; '.join(verdict['reasons'])}")
    latest = root / "latest"
    console.print("\nnext:", f"  open {latest / 'report.html'}", sep="\n", soft_wrap=True)
    console.print("  make ui" if root == Path(".potstill") else f"  make ui ROOT={root}", soft_wrap=True)
    if summary["version"]:
        name = model if summary["alias"] == "champion" else f"{model}/{summary['version']}"
        console.print(f'  echo "your text" | {typed()} predict {name}{root_of(root)}', soft_wrap=True)


@click.command()
@recipe_argument
@click.option("--dataset", type=click.Path(path_type=Path), required=True, help="Folder that ingest wrote.")
@click.option("--teacher", type=click.Path(path_type=Path), required=True, help="Folder to write.")
@click.option("--checkpoints", default="", help="Folder, or s3://, from which a killed teaching goes on.")
@set_option
def teach(recipe: Path, dataset: Path, teacher: Path, checkpoints: str, overrides: tuple[str, ...]) -> None:
    """Teach a recipe's teacher alone, on this machine or, under torchrun, on several.

    \b
    Example:
      torchrun --nproc-per-node 4 --no-python potstill teach recipe.yaml --dataset dataset --teacher teacher
    """
    from potstill.learn.processes import joined
    from potstill.shelves import shelf_at
    from potstill.steps.teach import teach as step

    with joined():
        loaded = load_recipe(recipe, overrides)
        kept = shelf_at(checkpoints) if checkpoints else None
        figures = step(dataset, loaded.teacher, teacher, cross_fit=loaded.signals.cross_fit, checkpoints=kept)
        click.echo(", ".join(f"{name} {value:.4g}" for name, value in figures.items()))


@click.command()
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

    loaded, knobs = checked(recipe, overrides), read_space(over, recipe, overrides)
    artifacts = track(root)
    found = search(loaded, recipe, overrides, knobs, trials, root, artifacts, console_here())
    click.echo(f"\nnext:\n  open {found.picture}\n  {typed()} run {found.recipe}{root_of(root)}")


@click.command()
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

    click.echo(f"\nnext:\n  open {climb(checked(recipe, overrides), root, console_here())}")


@click.command()
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

    loaded = checked(recipe, overrides, has_form=False)
    made = make(loaded, recipe, overrides, root, console_here())
    click.echo(f"\n{made.words}\n\nnext:\n  open {made.picture}")
    if made.recipe is None:
        raise click.exceptions.Exit(1)
    click.echo(f"  {typed()} run {made.recipe}{root_of(root)}")


@click.command(name="compile")
@recipe_argument
@set_option
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="File to write; default: pipelines/compiled/NAME.yaml.",
)
@cluster_option
@images_option
def compile_(
    recipe: Path, overrides: tuple[str, ...], output: Path | None, cluster: Path | None, images: Path | None
) -> None:
    """Write a recipe's KFP package, which can be uploaded to a cluster and started from a form.

    \b
    Example:
      potstill compile recipes/review-sentiment.yaml --output review-sentiment.yaml
    """
    from potstill.pipelines.package import compile_package
    from potstill.pipelines.pods import load_cluster

    loaded = load_recipe(recipe, overrides)
    target = output or Path("pipelines", "compiled", f"{loaded.name}.yaml")
    compile_package(loaded, target, load_cluster(cluster), images)
    click.echo(f"{target}: {target.stat().st_size / 1e3:.0f} kB")

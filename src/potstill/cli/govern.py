"""Commands that say which version serves: models, history, promote, rollback."""

from collections.abc import Callable
from pathlib import Path

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from potstill.cli.shared import UNCUT_WIDTH, root_option, track
from potstill.errors import UserError

BY_HAND = "by hand"


@click.command()
@click.argument("model", required=False)
@root_option
def models(model: str | None, root: Path) -> None:
    """List registered versions with their aliases, quality and origin.

    \b
    Example:
      potstill models review-sentiment
    """
    from potstill import registry

    track(root)
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


@click.command()
@click.argument("model")
@root_option
def history(model: str, root: Path) -> None:
    """List every move of a model's champion: who, when, why, how and from which run.

    \b
    Example:
      potstill history review-sentiment
    """
    from potstill import promotion

    track(root)
    table = Table("when", "from", "to", "how", "who", "why", "run", box=None, pad_edge=False)
    for move in promotion.history(model):
        cells = (move.when, move.before or "none", move.to or "none", move.kind, move.who, move.why, move.run)
        table.add_row(*map(escape, cells))
    Console(highlight=False, width=UNCUT_WIDTH).print(table if table.row_count else "the champion has never moved")


def _release_option(command: Callable[..., None]) -> Callable[..., None]:
    """`--release-claim`, for the day on which a process that moved the champion was killed."""
    return click.option(
        "--release-claim",
        is_flag=True,
        help="End what a killed process began, which an error tells of: record its move if it was made.",
    )(command)


def _release(model: str, wanted: bool) -> None:
    from potstill import promotion

    if wanted:
        click.echo(promotion.release_claim(model))


@click.command()
@click.argument("model")
@click.argument("version", required=False)
@click.option("--approved", is_flag=True, help="The version that a person approved in MLflow; none: nothing is done.")
@click.option("--force", is_flag=True, help="Even if it was not judged against the present champion; needs --reason.")
@click.option("--reason", show_default=BY_HAND, help="Why; kept in the history.")
@_release_option
@root_option
def promote(
    model: str, version: str | None, approved: bool, force: bool, reason: str | None, release_claim: bool, root: Path
) -> None:
    """Make a version the champion; without VERSION, the challenger.

    \b
    Example:
      potstill promote review-sentiment 3 --reason "better on the spring catalogue"
    """
    from potstill import promotion

    if approved and (version or force):
        raise UserError("--approved takes the version that was approved: give neither VERSION nor --force with it")
    if force and not reason:
        raise UserError("--force needs a --reason, which the history keeps")
    track(root)
    _release(model, release_claim)
    if approved:
        click.echo(promotion.promote_approved(model, reason or "approved"))
        return
    move = promotion.promote(model, version, reason or BY_HAND, force)
    click.echo(f"{model}: champion is now version {move.to} (was {move.before or 'none'})")


@click.command()
@click.argument("model")
@click.option("--reason", default=BY_HAND, show_default=True, help="Why; kept in the history.")
@_release_option
@root_option
def rollback(model: str, reason: str, release_claim: bool, root: Path) -> None:
    """Make the previous champion the champion again.

    \b
    Example:
      potstill rollback review-sentiment --reason "complaints since Tuesday"
    """
    from potstill import promotion

    track(root)
    _release(model, release_claim)
    move = promotion.rollback(model, reason)
    click.echo(f"{model}: champion is again version {move.to} (was {move.before or 'none'})")

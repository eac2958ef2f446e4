"""Commands that say which version serves: models, promote, rollback."""

from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from potstill.cli.shared import UNCUT_WIDTH, root_option, track


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

    track(root)
    move = registry.promote(model, version, reason)
    click.echo(f"{model}: champion is now version {move.to} (was {move.before or 'none'})")


@click.command()
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

    track(root)
    move = registry.rollback(model, reason)
    click.echo(f"{model}: champion is again version {move.to} (was {move.before})")

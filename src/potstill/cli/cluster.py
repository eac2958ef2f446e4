"""Commands for what runs elsewhere: doctor."""

from pathlib import Path

import click

from potstill.cli.shared import root_option, set_option, track
from potstill.recipe import load_recipe


@click.command()
@click.argument("recipe", type=click.Path(path_type=Path), required=False)
@set_option
@click.option("--store", default="", help="Folder or s3://bucket/folder that is to outlive runs.")
@root_option
def doctor(recipe: Path | None, overrides: tuple[str, ...], store: str, root: Path) -> None:
    """Try everything that a run needs (store, rows, MLflow), name what is missing, and exit with 1 if anything is.

    The same is the first step of each pipeline.

    \b
    Example:
      potstill doctor recipes/review-sentiment.yaml --store s3://shop/potstill
    """
    from potstill.data.read import sources_of
    from potstill.doctor import examine, places_of

    sources = places_of(*sources_of(load_recipe(recipe, overrides).data).values()) if recipe else []
    track(root)
    passed = True
    for finding in examine(store, sources):
        click.echo(f"{'✓' if finding.passed else '✗'} {finding.what}: {finding.words}")
        passed &= finding.passed
    if not passed:
        raise click.exceptions.Exit(1)

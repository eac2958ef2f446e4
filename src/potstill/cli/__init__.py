"""The commands: parse, call, print. A module for each purpose."""

import click

from potstill import __version__
from potstill.cli import cluster, govern, make, use
from potstill.cli.shared import Commands


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="potstill")
def main() -> None:
    """Distil a large language-understanding model into one small enough for a shop's CPU path.

    \b
    Example:
      potstill run recipes/review-sentiment.yaml
    """


for command in (
    *(make.run, make.teach, make.tune, make.ladder, make.plan, make.compile_),
    *(use.predict, use.serve, use.watch, use.drift),
    *(govern.models, govern.history, govern.promote, govern.rollback),
    *(cluster.doctor, cluster.submit, cluster.runs, cluster.schedule),
):
    main.add_command(command)

"""The commands themselves: help, and no way to give a token on the command line."""

import pytest
from click.testing import CliRunner

from potstill.cli import main

COMMANDS = ["submit", "runs", *(f"schedule {verb}" for verb in ("apply", "list", "pause", "resume", "remove"))]


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_an_example_and_no_token(command: str):
    result = CliRunner().invoke(main, [*command.split(), "--help"])
    assert result.exit_code == 0
    assert f"potstill {command} " in result.output.split("Example:")[1]
    assert "--token" not in result.output

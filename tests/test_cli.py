import datetime
import io
import json
import sys
from contextlib import nullcontext
from pathlib import Path

import pytest
from click.testing import CliRunner
from tiny import write_edge

from potstill import registry
from potstill.cli import main
from potstill.cli.use import _batches, _row
from potstill.errors import UserError
from potstill.registry import Version

COMMANDS = [
    "run",
    "compile",
    "predict",
    "watch",
    "drift",
    "models",
    "history",
    "promote",
    "rollback",
    "doctor",
    "submit",
]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example(command: str):
    result = CliRunner().invoke(main, [command, "--help"])
    assert result.exit_code == 0
    assert f"potstill {command} " in result.output.split("Example:")[1]


def test_a_line_is_a_text_and_json_keeps_its_other_fields():
    assert _row(1, "a fine lamp", "text") == {"text": "a fine lamp"}
    assert _row(1, '{"text": "a fine lamp", "id": 3}', "text") == {"text": "a fine lamp", "id": 3}


@pytest.mark.parametrize(
    ("line", "message"),
    [('{"text": ', "line 4: starts like JSON, but is not")],
)
def test_a_bad_line_is_named_by_its_number(line: str, message: str):
    with pytest.raises(UserError, match=message):
        _row(4, line, "text")


def test_lines_come_in_batches_with_their_numbers_and_without_blanks():
    batches = list(_batches(io.StringIO("a\n\nb\n" + "c\n" * 64)))
    assert [len(batch) for batch in batches] == [64, 2]
    assert batches[0][:2] == [(1, "a"), (3, "b")]


def test_a_missing_recipe_is_one_line_and_exit_code_two(tmp_path: Path):
    result = CliRunner().invoke(main, ["run", str(tmp_path / "none.yaml"), "--root", str(tmp_path / "root")])
    assert result.exit_code == 2
    assert result.output.strip().endswith("none.yaml: can't read the recipe: No such file or directory")


def test_a_command_without_its_extra_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setitem(sys.modules, "potstill.pipelines.package", None)
    result = CliRunner().invoke(main, ["compile", "recipes/review-sentiment.yaml", "--output", str(tmp_path / "p")])
    assert result.exit_code == 2
    assert "pip install 'potstill[train,pipeline,tune,s3,serve,ui]'" in result.output


def test_compile_writes_the_package_where_it_is_asked_to(tmp_path: Path):
    target = tmp_path / "deep" / "package.yaml"
    result = CliRunner().invoke(
        main, ["compile", "recipes/review-sentiment.yaml", "--set", "distill.temperature=7", "--output", str(target)]
    )
    assert result.exit_code == 0, result.output
    assert "defaultValue: 7.0" in target.read_text()
    assert [path.name for path in target.parent.iterdir()] == ["package.yaml"]


def test_a_listing_cuts_no_name_however_long(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    name, run = "a-model-with-a-name-of-many-words-for-a-shop", "its-recipe-2026-11-24-05-26-35-492063"
    version = Version(name, "12", ("champion",), "macro_f1 0.900", datetime.datetime(2026, 11, 24), "6f5916124e63", run)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")
    monkeypatch.setattr(registry, "versions", lambda model: [version])
    result = CliRunner().invoke(main, ["models", "--root", str(tmp_path)])
    assert result.exit_code == 0, result.output
    assert len(result.output.splitlines()) == 2
    assert all(word in result.output.splitlines()[1] for word in (name, "12", "champion", "0.900", run))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["2", "--approved"], "give neither VERSION nor --force with it"),
        (["--approved", "--force", "--reason", "x"], "give neither VERSION nor --force with it"),
        (["2", "--force"], "--force needs a --reason"),
    ],
)
def test_promote_refuses_options_that_contradict_each_other(words: list[str], message: str):
    result = CliRunner().invoke(main, ["promote", "m", *words])
    assert result.exit_code == 2
    assert len(result.output.splitlines()) == 1
    assert message in result.output


def test_watch_tells_which_topics_are_too_young_to_be_watched(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    edge = write_edge(tmp_path / "edge")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")
    monkeypatch.setattr(registry, "fetched", lambda name: nullcontext(edge))
    shops = ["old"] * 40 + ["young"] * 20
    rows = [{"review": "good", "time": f"2026-01-01T00:{i:02d}", "shop": shop} for i, shop in enumerate(shops)]
    (tmp_path / "s.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    asked = ["watch", "m", str(tmp_path / "s.jsonl"), "--topic", "shop", "--baseline", "20", "--root", str(tmp_path)]
    result = CliRunner().invoke(main, asked)
    assert result.exit_code == 0, result.output
    assert "60 items read, 2 topics" in result.output
    assert "not watched yet: 1 topics with no more than 20 items (--baseline)" in result.output

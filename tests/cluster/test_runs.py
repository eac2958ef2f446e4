"""`potstill runs`: what was run, newest first."""

import datetime
from pathlib import Path

import pytest
from asking import Backend, write_recipe


@pytest.fixture
def submitted(backend: Backend, recipe: Path) -> Backend:
    """Three runs of reviews and one, in the middle, of prices."""
    other = write_recipe(recipe.with_name("prices.yaml"), "prices")
    for path in (recipe, recipe, other, recipe):
        assert backend("submit", str(path)).exit_code == 0
    return backend


def lines(backend: Backend, *options: str) -> list[list[str]]:
    result = backend("runs", *options)
    assert result.exit_code == 0, result.output
    return [line.split() for line in result.output.splitlines()[1:]]


def test_the_newest_comes_first_with_state_duration_and_link(submitted: Backend):
    *_, last = submitted.things("runs")
    ended = {"created_at": "2026-05-02T10:00:00Z", "finished_at": "2026-05-02T12:10:20Z", "state": "SUCCEEDED"}
    submitted.control(f"run/{last['run_id']}", **ended)
    first, second, *_ = lines(submitted)
    assert [first[0], *first[3:9]] == ["succeeded", "2", "h", "10", "min", "reviews", last["display_name"]]
    assert first[9] == f"{submitted.host}/#/runs/details/{last['run_id']}"
    assert (second[0], "prices" in second) == ("pending", True)
    assert len(lines(submitted)) == 4
    assert len(lines(submitted, "--last", "2")) == 2


def test_a_run_that_goes_on_has_lasted_until_now(backend: Backend):
    place = backend.control("add/experiments", display_name="by hand")["experiment_id"]
    begun = datetime.datetime.now(datetime.UTC) - datetime.timedelta(hours=3, minutes=10, seconds=5)
    told = {"created_at": begun.isoformat(), "finished_at": "1970-01-01T00:00:00Z", "state": "RUNNING"}
    backend.control("add/runs", experiment_id=place, display_name="long", **told)
    ((state, _, _, *lasted, name, _),) = lines(backend)
    assert (state, lasted, name) == ("running", ["3", "h", "10", "min"], "long")


def test_a_recipe_or_an_experiment_alone(submitted: Backend):
    assert len(lines(submitted, "--recipe", "reviews")) == 3
    (only,) = lines(submitted, "--recipe", "prices")
    assert lines(submitted, "--experiment", "prices") == [only]


def test_unknown_names_are_told(submitted: Backend):
    for option in ("--recipe", "--experiment"):
        result = submitted("runs", option, "pricse")
        assert result.exit_code == 2
        assert f"{option} pricse" in result.output


def test_a_run_whose_pipeline_is_gone_is_listed_without_a_recipe(backend: Backend):
    place = backend.control("add/experiments", display_name="by hand")
    backend.control("add/runs", experiment_id=place["experiment_id"], display_name="old", state="FAILED")
    ((state, *_, name, _),) = lines(backend)
    assert (state, name) == ("failed", "old")


def test_more_runs_than_a_page_holds(backend: Backend):
    place = backend.control("add/experiments", display_name="by hand")
    for number in range(230):
        backend.control("add/runs", experiment_id=place["experiment_id"], display_name=f"run-{number:03}")
    names = [line[-2] for line in lines(backend, "--last", "225")]
    assert names == [f"run-{number:03}" for number in range(229, 4, -1)]


def test_no_runs(backend: Backend):
    assert backend("runs").output == "no runs yet\n"

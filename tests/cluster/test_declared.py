"""`potstill schedule`: the file, and what becomes of it on a backend."""

import re
from pathlib import Path
from typing import Any

import pytest
from asking import Backend, write_recipe

from potstill.cluster.schedules import read_schedules
from potstill.errors import UserError

NAME = re.compile(r"reviews-nightly-[0-9a-f]{8}")


def apply(backend: Backend, file: Path, *options: str) -> str:
    result = backend("schedule", "apply", str(file), *options)
    assert result.exit_code == 0, result.output
    return result.output


def writes_since(backend: Backend, before: list[str]) -> list[str]:
    """What was asked for since, in order, without the address's head."""
    return [line.replace("/apis/v2beta1", "") for line in backend.writes()[len(before) :]]


@pytest.fixture
def applied(backend: Backend, schedules: Path) -> dict[str, Any]:
    """The one recurring run, after a first apply."""
    apply(backend, schedules)
    (made,) = backend.things("recurring_runs")
    return made


def change(schedules: Path, old: str = "0 30 2", new: str = "0 45 3") -> None:
    text = schedules.read_text()
    assert old in text
    schedules.write_text(text.replace(old, new))


def test_a_schedule_runs_one_version_one_at_a_time_without_catching_up(backend: Backend, schedules: Path):
    output = apply(backend, schedules)
    (made,) = backend.things("recurring_runs")
    (version,) = backend.things("pipeline_versions")
    (experiment,) = backend.things("experiments")
    assert NAME.fullmatch(made["display_name"])
    assert output == f"create  {made['display_name']}  0 30 2 * * *\n"
    assert made["pipeline_version_reference"]["pipeline_version_id"] == version["pipeline_version_id"]
    assert (made["max_concurrency"], made["no_catchup"], made["status"]) == ("1", True, "ENABLED")
    assert made["trigger"] == {"cron_schedule": {"cron": "0 30 2 * * *"}}
    assert (experiment["display_name"], made["experiment_id"]) == ("nightly", experiment["experiment_id"])
    assert made["runtime_config"]["parameters"]["data_source"] == "s3://shop/reviews.parquet"


def test_no_change_asks_for_no_change(backend: Backend, schedules: Path, applied: dict[str, Any]):
    before = backend.writes()
    assert apply(backend, schedules) == f"keep    {applied['display_name']}  0 30 2 * * *\n"
    assert writes_since(backend, before) == []


def test_settings_reach_the_runs(backend: Backend, schedules: Path):
    change(schedules, "recipe: reviews.yaml", "recipe: reviews.yaml, set: [distill.alpha=0.25], catch_up: true")
    apply(backend, schedules)
    (made,) = backend.things("recurring_runs")
    assert made["runtime_config"]["parameters"]["alpha"] == 0.25
    assert made["no_catchup"] is False


def test_a_change_creates_then_disables_then_deletes(backend: Backend, schedules: Path, applied: dict[str, Any]):
    before, old = backend.writes(), applied["recurring_run_id"]
    change(schedules)
    apply(backend, schedules)
    assert writes_since(backend, before) == [
        "POST /recurringruns",
        f"POST /recurringruns/{old}:disable",
        f"DELETE /recurringruns/{old}",
    ]
    (made,) = backend.things("recurring_runs")
    assert made["trigger"]["cron_schedule"]["cron"] == "0 45 3 * * *"
    assert made["display_name"] != applied["display_name"]


@pytest.mark.parametrize("more", ["catch_up: true", "set: [distill.alpha=0.25]"])
def test_every_setting_counts_as_a_change(backend: Backend, schedules: Path, applied: dict[str, Any], more: str):
    change(schedules, "recipe: reviews.yaml", f"recipe: reviews.yaml, {more}")
    apply(backend, schedules)
    (made,) = backend.things("recurring_runs")
    assert made["display_name"] != applied["display_name"]


def test_a_changed_recipe_is_a_change(backend: Backend, schedules: Path, recipe: Path, applied: dict[str, Any]):
    write_recipe(recipe, epochs=5)
    apply(backend, schedules)
    (made,) = backend.things("recurring_runs")
    assert made["runtime_config"]["parameters"]["teacher_epochs"] == 5
    assert made["pipeline_version_reference"] != applied["pipeline_version_reference"]


@pytest.mark.parametrize(
    ("method", "path", "left"),
    [("POST", ":disable$", ["ENABLED", "ENABLED"]), ("DELETE", "/recurringruns/", ["DISABLED", "ENABLED"])],
)
def test_an_apply_that_broke_off_is_finished_by_the_next(
    backend: Backend, schedules: Path, applied: dict[str, Any], method: str, path: str, left: list[str]
):
    change(schedules)
    backend.fail(method, path, status=500)
    broken = backend("schedule", "apply", str(schedules))
    assert broken.exit_code == 2
    assert broken.output.splitlines()[-1].endswith("failed (500)")
    assert [one["status"] for one in backend.things("recurring_runs")] == left
    before = backend.writes()
    apply(backend, schedules)
    (made,) = backend.things("recurring_runs")
    assert made["trigger"]["cron_schedule"]["cron"] == "0 45 3 * * *"
    assert not any(line == "POST /recurringruns" for line in writes_since(backend, before))


@pytest.mark.parametrize("how", [{"status": 503}, {"drop": True}], ids=["503", "dropped"])
def test_a_schedule_whose_making_was_unsure_is_made_once(backend: Backend, schedules: Path, how: dict[str, Any]):
    backend.fail("POST", "/recurringruns$", after=True, **how)
    apply(backend, schedules)
    assert len(backend.things("recurring_runs")) == 1


def test_what_the_file_no_longer_declares_is_removed(backend: Backend, schedules: Path, applied: dict[str, Any]):
    schedules.write_text("experiment: nightly\nschedules: {}\n")
    output = apply(backend, schedules)
    assert output == "".join(f"{verb:<8}{applied['display_name']}\n" for verb in ("disable", "delete"))
    assert backend.things("recurring_runs") == []


def test_what_is_not_ours_is_left_alone(backend: Backend, schedules: Path, applied: dict[str, Any]):
    """Someone's own in our experiment, one named like ours, a copy of ours, and ours of another experiment."""
    elsewhere = backend.control("add/experiments", display_name="weekly")["experiment_id"]
    by_hand = {**applied, "display_name": "by hand", "description": "mine"}
    alike = {**applied, "description": ""}
    copied = {**applied, "display_name": f"Clone of {applied['display_name']}"}
    other = {**applied, "experiment_id": elsewhere}
    for foreign in (by_hand, alike, copied, other):
        del foreign["recurring_run_id"]
        backend.control("add/recurring_runs", **foreign)
    foreign = backend.things("recurring_runs")[1:]
    schedules.write_text("experiment: nightly\nschedules: {}\n")
    apply(backend, schedules)
    assert backend.things("recurring_runs") == foreign
    assert backend("schedule", "remove", "reviews-nightly", "--experiment", "nightly").exit_code == 2
    assert backend.things("recurring_runs") == foreign


def test_one_that_only_looks_like_ours_does_not_stand_in_for_it(backend: Backend, schedules: Path):
    name = apply(backend, schedules, "--dry-run").split()[1]
    place = backend.control("add/experiments", display_name="nightly")["experiment_id"]
    backend.control("add/recurring_runs", display_name=name, description="mine", experiment_id=place, status="ENABLED")
    apply(backend, schedules)
    assert len(backend.things("recurring_runs")) == 2


def test_a_namespace_has_its_own(backend: Backend, schedules: Path, applied: dict[str, Any]):
    assert apply(backend, schedules, "--namespace", "shop").startswith("create")
    assert apply(backend, schedules, "--namespace", "shop").startswith("keep")
    assert backend("schedule", "list", "--namespace", "shop").output.count("nightly-") == 1


def test_a_dry_run_shows_the_plan_and_writes_nothing(backend: Backend, schedules: Path, applied: dict[str, Any]):
    before = backend.writes()
    change(schedules)
    output = apply(backend, schedules, "--dry-run").splitlines()
    assert [line.split()[0] for line in output] == ["create", "disable", "delete", "nothing"]
    assert writes_since(backend, before) == []


def test_a_dry_run_on_an_empty_backend_writes_nothing(backend: Backend, schedules: Path):
    assert apply(backend, schedules, "--dry-run").startswith("create  reviews-nightly-")
    assert backend.writes() == []


def test_a_pause_outlasts_an_apply_and_a_change(backend: Backend, schedules: Path, applied: dict[str, Any]):
    assert backend("schedule", "pause", "reviews-nightly").output == "reviews-nightly: paused\n"
    assert apply(backend, schedules).endswith("  paused\n")
    change(schedules)
    apply(backend, schedules)
    (made,) = backend.things("recurring_runs")
    assert (made["status"], made["trigger"]["cron_schedule"]["cron"]) == ("DISABLED", "0 45 3 * * *")
    assert backend("schedule", "resume", "reviews-nightly").exit_code == 0
    assert backend.things("recurring_runs")[0]["status"] == "ENABLED"


def test_resume_starts_no_second_one(backend: Backend, schedules: Path, applied: dict[str, Any]):
    change(schedules)
    backend.fail("DELETE", "/recurringruns/", status=500)
    backend("schedule", "apply", str(schedules))
    result = backend("schedule", "resume", "reviews-nightly")
    assert result.exit_code == 2
    assert "apply the schedules first" in result.output
    assert backend.things("recurring_runs")[0]["status"] == "DISABLED"


def test_remove_ends_it_and_an_unknown_one_is_told(backend: Backend, schedules: Path, applied: dict[str, Any]):
    unknown = backend("schedule", "remove", "reviews-nightyl")
    assert unknown.exit_code == 2
    assert "reviews-nightyl: no such schedule; there is reviews-nightly" in unknown.output
    assert backend("schedule", "remove", "reviews-nightly").exit_code == 0
    assert backend.things("recurring_runs") == []
    assert "no schedules yet" in backend("schedule", "list").output


def test_of_several_experiments_one_is_to_be_named(backend: Backend, schedules: Path, applied: dict[str, Any]):
    change(schedules, "experiment: nightly", "experiment: trials")
    apply(backend, schedules)
    result = backend("schedule", "pause", "reviews-nightly")
    assert result.exit_code == 2
    assert "several experiments have it; say which by --experiment" in result.output
    assert backend("schedule", "pause", "reviews-nightly", "--experiment", "trials").exit_code == 0
    assert [one["status"] for one in backend.things("recurring_runs")] == ["ENABLED", "DISABLED"]


def test_the_list_shows_each_with_state_and_link(backend: Backend, schedules: Path, applied: dict[str, Any]):
    backend("schedule", "pause", "reviews-nightly")
    (line,) = backend("schedule", "list").output.splitlines()[1:]
    link = f"{backend.host}/#/recurringrun/details/{applied['recurring_run_id']}"
    assert re.split(r" {2,}", line.strip()) == [
        *("reviews-nightly", "paused", "0 30 2 * * *", "nightly", applied["display_name"], link)
    ]


def test_ours_is_found_behind_a_page_of_others(backend: Backend, schedules: Path, applied: dict[str, Any]):
    other = {**applied, "display_name": "by hand", "description": "mine", "created_at": "2026-01-01T00:00:00Z"}
    for number in range(120):
        backend.control("add/recurring_runs", **other | {"recurring_run_id": f"foreign-{number}"})
    assert apply(backend, schedules) == f"keep    {applied['display_name']}  0 30 2 * * *\n"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("reviews.yaml", "none.yaml", "none.yaml: can't read the recipe: No such file"),
        (
            "cron:",
            "catchup: true, cron:",
            "schedules.reviews-nightly.catchup: no such setting; did you mean schedules.reviews-nightly.catch_up?",
        ),
        ("schedules:", "schedule: {}\nschedules:", "schedule: no such setting; did you mean schedules?"),
        ("experiment: nightly", "", "experiment: missing"),
        ("recipe: reviews.yaml, ", "", "schedules.reviews-nightly.recipe: missing; expected: The recipe's file"),
        ('"0 30 2 * * *"', '"30 2 * * *"', "schedules.reviews-nightly.cron: 5 fields instead of 6"),
        ("0 30 2", "0 60 2", "cron: minute '60': '60' is not 0 to 59 (found '0 60 2 * * *')"),
        (
            "reviews.yaml,",
            "reviews.yaml, set: [distill.alpha=7],",
            "reviews-nightly: --set distill.alpha: distill.alpha:",
        ),
        ("reviews-nightly: {", "Reviews Nightly: {", "schedules.Reviews Nightly"),
        ("{recipe", "[{recipe", "not valid YAML"),
    ],
)
def test_a_mistake_is_told_with_file_and_key(schedules: Path, old: str, new: str, message: str):
    change(schedules, old, new)
    with pytest.raises(UserError) as error:
        read_schedules(schedules)
    assert str(error.value).startswith(str(schedules))
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_name_that_stands_twice_is_refused_with_its_line(schedules: Path):
    schedules.write_text(schedules.read_text() + schedules.read_text().splitlines()[-1] + "\n")
    with pytest.raises(UserError, match=r"schedules.yaml:4: schedules.reviews-nightly stands there twice"):
        read_schedules(schedules)


def test_the_shipped_schedules_can_be_applied(backend: Backend):
    assert apply(backend, Path("pipelines/schedules.yaml")).startswith("create  review-sentiment-nightly-")
    (made,) = backend.things("recurring_runs")
    assert made["runtime_config"]["parameters"]["data_source"].startswith("s3://")

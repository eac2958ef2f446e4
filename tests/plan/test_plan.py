"""The planner: what it tries, in which order, and what a user gets."""

import subprocess
import sys
from pathlib import Path

import pytest

from potstill.evaluate.figures import STYLE
from potstill.plan.choose import first_that, probes_of
from potstill.plan.forms import candidates
from potstill.recipe import Prune, Student, load_recipe
from tests.plan.test_ladder import write_recipe


@pytest.mark.parametrize("count", range(9))
def test_the_first_that_holds_is_found_with_few_questions(count: int):
    for first in range(count + 1):
        asked: list[int] = []

        def holds(place: int, first: int = first, asked: list[int] = asked) -> bool:
            asked.append(place)
            return place >= first

        assert first_that(holds, count) == (first if first < count else None)
        assert len(asked) == len(set(asked)) <= max(count, 1).bit_length()


def test_forms_go_from_one_layer_to_all_whole_and_pruned():
    found = candidates(6, Student(layers=5, keep=[0, 2]), can_prune=True)
    assert [(form.layers, bool(form.prune)) for form in found] == [
        (count, pruned) for count in (1, 2, 3, 4, 6) for pruned in (False, True)
    ]
    assert all(form.keep is None for form in found)
    assert all(form.prune is None or (form.prune.heads, form.prune.feed_forward) == (0.5, 0.5) for form in found)


def test_forms_prune_as_the_recipe_learns_afterwards_and_not_where_they_cannot():
    found = candidates(2, Student(prune=Prune(heads=0.1, epochs=9)), can_prune=True)
    assert {form.prune.epochs for form in found if form.prune} == {9}
    assert [form.prune for form in candidates(2, Student(), can_prune=False)] == [None, None]


def test_probes_are_the_extremes_and_one_pruned_in_between():
    forms = candidates(6, Student(), can_prune=True)
    assert [(form.layers, bool(form.prune)) for form in probes_of(forms)] == [(1, False), (3, True), (6, False)]


def plan(folder: Path, *settings: str) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).with_name("potstill")), "plan", str(folder / "tiny.yaml")]
    sets = [part for setting in settings for part in ("--set", setting)]
    return subprocess.run(
        [*command, "--root", str(folder / "root"), *sets], capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory, encoder: Path, reviews_file: Path) -> Path:
    folder = tmp_path_factory.mktemp("plan")
    write_recipe(folder, encoder, reviews_file)
    return folder


def test_a_plan_ends_in_a_recipe_that_can_be_run(shop: Path):
    done = plan(shop, "budget.retention=0.5")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "of 8 forms are foreseen to keep time and size" in done.stdout
    assert "GFLOP/s" in done.stdout
    assert "linear baseline" in done.stdout
    assert "static student" in done.stdout
    best = load_recipe(shop / "root" / "plan" / "tiny" / "best.yaml")
    assert best.student.layers in {1, 2, 3, 4}
    assert best.budget.retention == 0.5
    assert best.student.keep is None
    drawn = (shop / "root" / "plan" / "tiny" / "frontier.svg").read_text(encoding="utf-8")
    assert "student of" in drawn
    assert STYLE["svg.hashsalt"] not in drawn


def test_where_no_form_keeps_the_budget_it_says_by_how_much(shop: Path):
    done = plan(shop, "budget.latency_p95_ms=0.00001", "budget.retention=0.01")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "0 of 8 forms are foreseen" in done.stdout
    assert "no form keeps the budget; student of 1 layer" in done.stdout
    assert "ms (p95)" in done.stdout
    assert not (shop / "root" / "plan" / "tiny" / "best.yaml").exists()


def test_several_teachers_are_refused(shop: Path):
    done = plan(shop, "teacher.others=[{seed: 9}]")
    assert done.returncode == 2
    assert "teacher.others: ladder and plan start from one teacher" in done.stderr

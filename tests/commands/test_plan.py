"""The planner: what it tries, in which order, and what a user gets."""

import subprocess
import sys
from pathlib import Path

import pytest

from potstill.commands.planner import Planner, first_that
from potstill.plan.forecast import Forecast
from potstill.plan.frontier import Tried, missed, nearest
from potstill.recipe import Recipe, Student, load_recipe
from potstill.workshop import Workshop
from tests.commands.test_ladder import write_recipe


@pytest.mark.parametrize("count", range(9))
def test_the_first_that_holds_is_found_with_few_questions(count: int):
    for first in range(count + 1):
        asked: list[int] = []

        def holds(place: int, first: int = first, asked: list[int] = asked) -> bool:
            asked.append(place)
            return place >= first

        assert first_that(holds, count) == (first if first < count else None)
        assert len(asked) == len(set(asked)) <= max(count, 1).bit_length()


class Stubbed(Planner):
    """A planner whose students have made-up figures, by their layers."""

    def __init__(self, recipe: Recipe, retention: dict[int, float], ms: dict[int, float]) -> None:
        super().__init__(Workshop(recipe, Path("nowhere"), code=""))
        self.known = retention, ms
        self.tried: list[Tried] = []

    def _learn(self, form: Student, forecast: Forecast | None = None) -> Tried:
        kept, ms = (known[form.layers] for known in self.known)
        made = Tried(f"{form.layers} layers", 0.9, kept, ms, ms, int(form.layers * 1e6), forecast)
        self.tried.append(made)
        return made


def foreseen(layers: int, ms: float) -> Forecast:
    return Forecast(Student(layers=layers), ms, ms, layers * 1e6, 1e9, 1000)


LAYERS = (1, 2, 3, 4, 5, 6, 7)
KEEPS = {1: 0.5, 2: 0.7, 3: 0.9, 4: 0.95, 5: 0.97, 6: 0.98, 7: 0.99}


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    path = write_recipe(tmp_path, tmp_path / "encoder", tmp_path / "reviews.parquet")
    return load_recipe(path, ["budget={retention: 0.94, latency_p95_ms: 5.5, size_mb: 6}"])


def test_the_cheapest_that_keeps_enough_is_chosen_with_three_trainings_of_seven(recipe: Recipe):
    planner = Stubbed(recipe, KEEPS, {layers: float(layers) for layers in LAYERS})
    chosen = planner.cheapest([foreseen(layers, layers) for layers in LAYERS])
    assert chosen is not None
    assert chosen.name == "4 layers"
    assert len(planner.tried) == 3


def test_one_that_turns_out_too_slow_is_not_chosen_and_dearer_ones_do_not_learn(recipe: Recipe):
    planner = Stubbed(recipe, KEEPS, dict.fromkeys(LAYERS, 6.0))
    assert planner.cheapest([foreseen(layers, 1.0) for layers in LAYERS]) is None
    assert sorted(one.name for one in planner.tried) == ["2 layers", "3 layers", "4 layers"]
    told = missed(nearest(planner.tried, recipe.budget), recipe.budget)
    assert (
        told == "no form keeps the budget on the validation rows; 4 layers comes nearest: 6.00 instead of 5.50 ms (p95)"
    )


def test_a_budget_that_is_missed_in_everything_says_so(recipe: Recipe):
    planner = Stubbed(recipe, {7: 0.5}, {7: 9.0})
    assert planner.cheapest([foreseen(7, 9.0)]) is None
    assert missed(nearest(planner.tried, recipe.budget), recipe.budget).endswith(
        "50.0% instead of 94.0% of the teacher, 9.00 instead of 5.50 ms (p95), 7.0 instead of 6.0 MB"
    )


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
    settings = "compress={vocabulary: trim, sparsity: 0.2, most_lost: 1}"
    # More layers than the teacher has are no matter: the number is to be found.
    done = plan(shop, "budget.retention=0.5", "plan.candidates=2", "student.layers=9", settings)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "of 8 forms are foreseen to keep time and size" in done.stdout
    assert "GFLOP/s" in done.stdout
    assert "linear baseline" in done.stdout
    assert "static student" in done.stdout
    best = load_recipe(shop / "root" / "plan" / "tiny" / "best.yaml")
    # All keep enough, so the smallest of all is the cheapest.
    assert best.student.layers == 1
    assert best.student.prune is not None
    assert best.budget.retention == 0.5
    # The form is found: there is nothing to plan any more.
    assert best.plan is None
    drawn = (shop / "root" / "plan" / "tiny" / "frontier.svg").read_text(encoding="utf-8")
    assert "student of" in drawn


def test_where_no_form_keeps_the_budget_it_says_by_how_much(shop: Path):
    done = plan(shop, "budget.latency_p95_ms=0.00001", "budget.retention=0.01")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "0 of 8 forms are foreseen" in done.stdout
    assert "no form keeps the budget on the validation rows; student of 1 layer" in done.stdout
    assert "ms (p95)" in done.stdout
    assert not (shop / "root" / "plan" / "tiny" / "best.yaml").exists()


def test_several_teachers_are_refused(shop: Path):
    done = plan(shop, "teacher.others=[{seed: 9}]")
    assert done.returncode == 2
    assert "teacher.others: ladder and plan start from one teacher" in done.stderr

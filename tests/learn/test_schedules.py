import pytest

from potstill.learn.schedules import value_at
from potstill.recipe import Schedule


def test_without_a_schedule_a_knob_stays():
    assert [value_at(progress, 3.0, None) for progress in (0, 0.5, 1)] == [3.0] * 3


@pytest.mark.parametrize(
    ("form", "expected"), [("linear", [4.0, 3.0, 2.0, 0.0]), ("cosine", [4.0, 2 + 2 * 0.5**0.5, 2.0, 0.0])]
)
def test_a_schedule_goes_from_the_knobs_value_to_its_end(form: str, expected: list[float]):
    schedule = Schedule.model_validate({"to": 0, "form": form})
    assert [value_at(progress, 4.0, schedule) for progress in (0, 0.25, 0.5, 1)] == pytest.approx(expected)

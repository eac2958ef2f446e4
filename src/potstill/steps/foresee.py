"""Foresee: which forms of student are worth teaching, by what they would cost on this machine."""

from pathlib import Path

from potstill.errors import UserError
from potstill.plan.forecast import Forecast, foresee, picked, promising, to_text
from potstill.recipe import Budget, Compress, Distill, Plan, Student
from potstill.store import writing

FORESEEN = "foreseen.json"


def foresee_forms(
    dataset: Path,
    teacher: Path,
    form: Student,
    distill: Distill,
    compress: Compress,
    budget: Budget,
    settings: Plan,
    foreseen: Path,
) -> list[Forecast]:
    """Foresee what each form of student costs on this machine, and write it down.

    Args:
        dataset: what ingest wrote.
        teacher: what teach wrote; forms are cut from it.
        form: the recipe's; how it prunes stays.
        distill: how forms will be taught, which some can't be.
        compress: how they will be packed.
        budget: time and size to be kept.
        settings: how many to teach.
        foreseen: the folder to write.

    Returns:
        Those to teach, cheapest first.

    Raises:
        UserError: the form is given.
    """
    if form.shaped_by:
        raise UserError(f"student.{form.shaped_by}: a plan tries forms of the teacher's layers; leave it out")
    forecasts = foresee(dataset, teacher, form, distill, compress)
    with writing(foreseen) as draft:
        (draft / FORESEEN).write_text(to_text(forecasts), encoding="utf-8")
    return picked(promising(forecasts, budget), settings.candidates)

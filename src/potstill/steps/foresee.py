"""Foresee: which forms of student are worth teaching, by what they would cost on this machine."""

from pathlib import Path

from potstill.plan.forecast import Forecast, foresee, promising, spread, to_text
from potstill.plan.limits import Limits, measure_limits
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
) -> tuple[list[Forecast], Limits]:
    """Measure the machine, foresee what each form of student costs, and write it down.

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
        Those to teach, cheapest first, and the machine's limits.
    """
    limits = measure_limits()
    print(f"this machine, one core: {limits.words()}")
    forecasts = foresee(dataset, teacher, form, distill, compress)
    with writing(foreseen) as draft:
        (draft / FORESEEN).write_text(to_text(limits, forecasts), encoding="utf-8")
    return spread(promising(forecasts, budget), settings.candidates), limits

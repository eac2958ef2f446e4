"""The picture of a search: which settings mattered, and where the good values of each lie."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import optuna
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from optuna.importance import FanovaImportanceEvaluator, get_param_importances
from optuna.trial import TrialState

from potstill.evaluate.figures import COLOURS, STYLE, spread_by_factors, svg
from potstill.metrics import Meaning
from potstill.tune.space import Knob

# With fewer nothing can be said of what mattered.
FEWEST = 4
COLUMNS = 3


def importances(study: optuna.Study, seed: int) -> dict[str, float]:
    """Share of the figure's variance that each setting explains, the largest first; empty where too little is known.

    It is functional ANOVA over the trials that ended (Hutter et al. 2014).
    """
    done = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    if len(done) < FEWEST or len({trial.value for trial in done}) == 1:
        return {}
    return get_param_importances(study, evaluator=FanovaImportanceEvaluator(seed=seed))


def picture(study: optuna.Study, knobs: Sequence[Knob], meaning: Meaning, shares: Mapping[str, float]) -> str:
    """As SVG: a bar a setting, and below each setting's values against what they gave.

    Args:
        study: with a trial at least that ended well.
        knobs: the settings that changed.
        meaning: of what was sought to be best.
        shares: what `importances` found.
    """
    rows = -(-len(knobs) // COLUMNS)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(9, 1.2 + 0.3 * len(knobs) + 2.4 * rows), layout="constrained")
        parts: Any = figure.subfigures(2, 1, height_ratios=[0.9 + 0.3 * len(knobs), 2.4 * rows])
        top, below = parts
        _bars(top.add_subplot(), shares, knobs)
        for place, knob in enumerate(sorted(knobs, key=lambda knob: -shares.get(knob.key, 0.0)), 1):
            axes = below.add_subplot(rows, COLUMNS, place)
            _points(axes, study, knob)
            if place % COLUMNS == 1:
                axes.set_ylabel(f"validation {meaning.title}")
        return svg(figure)


def _bars(axes: Axes, shares: Mapping[str, float], knobs: Sequence[Knob]) -> None:
    shown = shares or dict.fromkeys((knob.key for knob in knobs), 0.0)
    axes.barh(range(len(shown)), list(shown.values()), color=COLOURS["teacher"])
    axes.set_yticks(range(len(shown)), [key.partition(".")[2] for key in shown])
    axes.invert_yaxis()
    axes.set_xlim(0, 1)
    axes.set_xlabel("share of the differences that it explains" if shares else "too few trials to tell what mattered")


def _points(axes: Axes, study: optuna.Study, knob: Knob) -> None:
    """Trials that ended, those that were given up, and the best."""
    for state, marker, colour in (
        (TrialState.PRUNED, "x", COLOURS["baseline"]),
        (TrialState.COMPLETE, "o", COLOURS["student"]),
    ):
        trials = study.get_trials(deepcopy=False, states=(state,))
        points = [(_place(trial.params[knob.key], knob), trial.value) for trial in trials if trial.value is not None]
        axes.scatter([x for x, _ in points], [y for _, y in points], s=18, color=colour, marker=marker)
    best = study.best_trial
    place = _place(best.params[knob.key], knob)
    axes.scatter([place], [study.best_value], s=60, color=COLOURS["control"], marker="*", zorder=3)
    axes.set_title(knob.key.partition(".")[2], fontsize=10)
    if knob.choices:
        axes.set_xticks(range(len(knob.choices)), list(map(str, knob.choices)))
    elif knob.by_logarithm:
        spread_by_factors(axes, (1, 2, 5))


def _place(value: object, knob: Knob) -> float:
    return float(knob.choices.index(value)) if knob.choices else float(value)  # type: ignore[arg-type]

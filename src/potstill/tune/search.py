"""The command `tune`: prepare, try, and lay down the best recipe and the picture."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import optuna
from optuna.trial import FrozenTrial, TrialState
from rich.console import Console
from rich.table import Table

from potstill import tracking
from potstill.errors import UserError
from potstill.follow import following, spoken
from potstill.recipe import Recipe, changed_recipe
from potstill.store import alone, write_text
from potstill.tune.picture import importances, picture
from potstill.tune.space import Knob
from potstill.tune.study import Study, overrides_of, words_of
from potstill.workshop import Workshop, refuse_open_form

TRIALS_SHOWN = 5


@dataclass(frozen=True)
class Found:
    """Where a search left its best recipe and its picture."""

    recipe: Path
    picture: Path


def search(
    loaded: Recipe,
    recipe: Path,
    overrides: Sequence[str],
    knobs: Sequence[Knob],
    trials: int,
    root: Path,
    artifacts: Path | None,
    console: Console,
) -> Found:
    """Search, show, and write `best.yaml` and `knobs.svg` into `ROOT/tune/NAME`.

    Args:
        loaded: the recipe.
        recipe: its file.
        overrides: settings that are replaced in every trial.
        knobs: the settings that change.
        trials: how many there are to be in all.
        root: where everything lies.
        artifacts: where a new MLflow experiment keeps its files; none: where its server puts them.
        console: for progress.

    Raises:
        UserError: bad input, or no trial ended well.
    """
    refuse_open_form(loaded)
    folder = root / "tune" / loaded.name
    folder.mkdir(parents=True, exist_ok=True)
    with alone(folder / ".lock") as is_alone, following(console, folder / "tune.log") as follower:
        if not is_alone:
            raise UserError(f"{folder}: another search of this recipe is at work")
        with spoken("prepare", follower):
            study = Study(recipe, overrides, knobs, Workshop(loaded, root), folder)
            name = study.name
        os.environ[tracking.RUN_ID_VARIABLE] = f"tune-{name}"
        tracking.open_run(loaded.name, loaded.model_dump(mode="json", by_alias=True), artifacts)
        try:
            with spoken("trial", follower):
                done = study.run(trials)
        except (UserError, KeyboardInterrupt) as error:
            tracking.conclude(loaded.name, str(error) or "interrupted", status="FAILED")
            raise
    found = Found(folder / "best.yaml", folder / "knobs.svg")
    write_text(found.recipe, changed_recipe(recipe, [*overrides, *overrides_of(done.best_trial)]))
    shares = importances(done, loaded.distill.seed)
    write_text(found.picture, picture(done, knobs, study.meaning, shares))
    _show(console, study, done, shares)
    told = f"trial {done.best_trial.number + 1} is best: {words_of(done.best_trial.params)}"
    tracking.conclude(loaded.name, told, [found.recipe, found.picture])
    return found


def _show(console: Console, study: Study, done: optuna.Study, shares: Mapping[str, float]) -> None:
    """The best trials and, if it is another, the recipe's own settings; what mattered."""
    ended = done.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    sign = -1 if study.meaning.higher_is_better else 1
    best = sorted(ended, key=lambda trial: (sign * _value(trial), trial.number))[:TRIALS_SHOWN]
    table = Table("trial", f"validation {study.meaning.title}", "settings", box=None, pad_edge=False)
    for trial in [*best, *(own for own in ended if own.number == 0 and own not in best)]:
        figure = study.meaning.form.format(_value(trial))
        table.add_row(str(trial.number + 1), figure, words_of(trial.params))
    console.print()
    console.print(table)
    given_up = len(done.get_trials(deepcopy=False, states=(TrialState.PRUNED,)))
    console.print(f"{len(ended)} trials ended, {given_up} were given up early", highlight=False)
    told = ", ".join(f"{key.partition('.')[2]} {share:.0%}" for key, share in shares.items())
    console.print(f"what mattered: {told or 'too few trials to tell'}", highlight=False)


def _value(trial: FrozenTrial) -> float:
    return float("nan") if trial.value is None else trial.value

"""A study: trials of distillation with other settings, on one dataset, teacher and table of signals.

What is known of a trial lies in an Optuna database, so that a search that was cut short goes on. The recipe's own
settings are tried first: what is found is never worse on the validation rows.
"""

import hashlib
import math
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import optuna
from optuna.trial import FrozenTrial, TrialState

from potstill import tracking
from potstill.errors import UserError
from potstill.metrics import Meaning, meanings_of, primary
from potstill.recipe import load_recipe
from potstill.steps.distill import distill
from potstill.tune.space import Choice, Knob, override, value_in
from potstill.workshop import Workshop

# Trials before the sampler's model of good settings is worth more than chance, and before any is given up.
STARTUP = 8
# Why a trial failed; one that was killed has none.
REASON = "reason"
# That a trial is the second try of one that was killed; there is no third, for its settings may be what kills it.
AGAIN = "again"


@dataclass(frozen=True)
class Study:
    """A search of one recipe.

    Attributes:
        recipe: its file.
        overrides: settings that are replaced in every trial.
        knobs: the settings that change.
        workshop: dataset, teacher and signals.
        folder: of the database.
    """

    recipe: Path
    overrides: Sequence[str]
    knobs: Sequence[Knob]
    workshop: Workshop
    folder: Path

    @property
    def meaning(self) -> Meaning:
        """Of the validation figure that is sought to be best."""
        outcome = self.workshop.schema.outcome
        return meanings_of(outcome)[primary(outcome)]

    def run(self, trials: int) -> optuna.Study:
        """Go on until there are so many trials, and return what is known of all.

        Raises:
            UserError: no trial ended well.
        """
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        study = self._open()
        there = sum(_is_over(trial) for trial in study.get_trials(deepcopy=False))
        if there:
            print(f"{there} of {trials} trials were there already")
        for number in range(there, trials):
            # Anew for each trial, so that a search that goes on does not draw what it has drawn before.
            study.sampler = self._sampler(len(study.get_trials(deepcopy=False)))
            trial = study.ask()
            for knob in self.knobs:
                knob.suggest(trial)
            print(f"trial {number + 1} of {trials}: {words_of(trial.params)}")
            study.tell(trial, *self._tried(trial), skip_if_finished=True)
        if not study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
            raise UserError("tune: no trial ended well; their reasons stand above")
        return study

    def _open(self) -> optuna.Study:
        """The study of this recipe, rows and space, with what a killed run left behind put in order."""
        own = self.workshop.recipe
        study = optuna.create_study(
            storage=f"sqlite:///{(self.folder / 'trials.db').absolute()}",
            study_name=self.name,
            direction="maximize" if self.meaning.higher_is_better else "minimize",
            # Optuna counts epochs from 1: the first is spared.
            pruner=optuna.pruners.MedianPruner(n_startup_trials=STARTUP, n_warmup_steps=2),
            load_if_exists=True,
        )
        for cut_short in study.get_trials(states=(TrialState.RUNNING,)):
            study.tell(cut_short.number, state=TrialState.FAIL)
            if AGAIN not in cut_short.user_attrs:
                study.enqueue_trial(cut_short.params, user_attrs={AGAIN: True})
        if not study.get_trials(deepcopy=False):
            first = {knob.key: value_in(own, knob.key) for knob in self.knobs}
            outside = [knob.key for knob in self.knobs if not knob.holds(first[knob.key])]
            if outside:
                print(f"the recipe's own {outside[0]} lies outside of what is searched: it is not tried first")
            else:
                study.enqueue_trial(first)
        return study

    def _sampler(self, number: int) -> optuna.samplers.BaseSampler:
        seed = self.workshop.recipe.distill.seed + number
        return optuna.samplers.TPESampler(seed=seed, n_startup_trials=STARTUP, multivariate=True)

    @property
    def name(self) -> str:
        """Another teacher, other rows, other fixed settings or another space make another study."""
        own = self.workshop.recipe
        searched = {knob.key for knob in self.knobs}
        fixed = [
            (name, value)
            for section, settings in (("distill", own.distill), ("student", own.student))
            for name, value in settings
            if f"{section}.{name}" not in searched
        ]
        decided_by = repr((self.workshop.signals.name, fixed, self.knobs))
        return f"{own.name}-{hashlib.sha256(decided_by.encode()).hexdigest()[:12]}"

    def _tried(self, trial: optuna.Trial) -> tuple[float | None, TrialState]:
        """What a trial is worth, and how it ended."""
        shop, first = self.workshop, f"validation_{primary(self.workshop.schema.outcome)}"
        with (
            tracking.trial(shop.recipe.name, trial.number + 1) as log,
            tempfile.TemporaryDirectory(prefix="potstill-") as scratch,
        ):
            log.params(trial.params)
            epochs = shop.recipe.distill.epochs

            def on_epoch(figures: Mapping[str, float]) -> None:
                log.epoch(figures)
                # What ends anyway, and what comes after distillation, is not given up.
                if figures["epoch"] >= epochs:
                    return
                trial.report(figures[first], int(figures["epoch"]))
                if trial.should_prune():
                    raise optuna.TrialPruned

            try:
                recipe = load_recipe(self.recipe, [*self.overrides, *overrides_of(trial)])
                epochs = recipe.distill.epochs
                folders = shop.dataset, shop.teacher, shop.signals
                found = distill(*folders, recipe.student, recipe.distill, Path(scratch, "student"), on_epoch)
            except optuna.TrialPruned:
                return self._ended(log, None, TrialState.PRUNED, "given up: others were better after as many epochs")
            except UserError as error:
                trial.set_user_attr(REASON, str(error))
                return self._ended(log, None, TrialState.FAIL, f"failed: {error}")
            log.metrics(found)
            if not math.isfinite(found[first]):
                trial.set_user_attr(REASON, "no finite figure")
                return self._ended(log, None, TrialState.FAIL, f"failed: {self.meaning.title} is no finite number")
            told = f"{self.meaning.title} {self.meaning.form.format(found[first])}"
            return self._ended(log, found[first], TrialState.COMPLETE, told)

    @staticmethod
    def _ended(
        log: tracking.StepLog, value: float | None, state: TrialState, words: str
    ) -> tuple[float | None, TrialState]:
        print(words)
        log.describe(words)
        return value, state


def _is_over(trial: FrozenTrial) -> bool:
    return trial.state in {TrialState.COMPLETE, TrialState.PRUNED} or REASON in trial.user_attrs


def overrides_of(trial: optuna.Trial | FrozenTrial) -> list[str]:
    """The settings of a trial as `--set` takes them."""
    return [override(key, value) for key, value in trial.params.items()]


def words_of(params: Mapping[str, Choice]) -> str:
    """Settings in one line."""
    told = {
        key.partition(".")[2]: f"{value:.3g}" if isinstance(value, float) else value for key, value in params.items()
    }
    return ", ".join(f"{name} {value}" for name, value in told.items())

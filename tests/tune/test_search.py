"""A search on the tiny shop, with real trials and a real MLflow."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import optuna
import pytest
from mlflow import MlflowClient

from potstill.recipe import load_recipe

OVER = "learning_rate=1e-9:1e-2,temperature=1:4"


class Shop:
    """A recipe and a root to search in."""

    def __init__(self, folder: Path, encoder: Path, reviews: Path) -> None:
        self.recipe, self.root = folder / "tiny.yaml", folder / "root"
        training = "epochs: 3, learning_rate: 1e-2, batch_size: 16"
        self.recipe.write_text(f"""
name: tiny
data: {{source: {reviews}, split: {{by: product}}}}
tasks: {{sentiment: {{label: sentiment}}}}
teacher: {{encoder: {encoder}, max_tokens: 16, {training}}}
student: {{encoder: {encoder}}}
distill: {{{training}}}
register: {{model: tiny}}
""")

    def command(self, *arguments: str) -> list[str]:
        return [str(Path(sys.executable).with_name("potstill")), *arguments, "--root", str(self.root)]

    def tune(self, trials: int, *arguments: str) -> str:
        command = self.command("tune", str(self.recipe), "--trials", str(trials), "--over", OVER, *arguments)
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=clean())
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    @property
    def study(self) -> optuna.Study:
        storage = f"sqlite:///{self.root / 'tune' / 'tiny' / 'trials.db'}"
        return optuna.load_study(study_name=None, storage=storage)


def clean() -> dict[str, str]:
    return {key: value for key, value in os.environ.items() if not key.startswith("MLFLOW")}


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory, encoder: Path, reviews_file: Path) -> Shop:
    return Shop(tmp_path_factory.mktemp("shop"), encoder, reviews_file)


@pytest.fixture(scope="module")
def first(shop: Shop) -> str:
    return shop.tune(5)


def test_the_recipes_own_settings_come_first_and_the_best_are_laid_down(shop: Shop, first: str):
    trials = shop.study.get_trials()
    assert len(trials) == 5
    assert trials[0].params == {"distill.learning_rate": 1e-2, "distill.temperature": 2.0}
    best = load_recipe(shop.root / "tune" / "tiny" / "best.yaml")
    assert best.distill.learning_rate == shop.study.best_params["distill.learning_rate"]
    assert best.distill.temperature == shop.study.best_params["distill.temperature"]
    assert best.teacher == load_recipe(shop.recipe).teacher
    assert shop.study.best_value == max(trial.value for trial in trials if trial.value is not None)
    assert "what mattered: learning_rate" in first
    assert "trials ended" in first
    assert f"{shop.root / 'tune' / 'tiny' / 'best.yaml'} --root" in first


def test_the_picture_shows_each_setting(shop: Shop, first: str):
    drawn = (shop.root / "tune" / "tiny" / "knobs.svg").read_text()
    assert drawn.startswith("<svg")
    assert drawn.count("learning_rate") >= 2
    assert "share of the differences that it explains" in drawn
    assert "mathdefault" not in drawn


def test_teacher_and_signals_are_made_once(shop: Shop, first: str):
    kinds = [folder.name.partition("-")[0] for folder in (shop.root / "made").iterdir()]
    assert sorted(kinds) == ["dataset", "signals", "teacher"]
    assert first.count("rows scored by the teacher") == 1


def test_each_trial_is_an_mlflow_run(shop: Shop, first: str):
    client = MlflowClient(f"sqlite:///{shop.root / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("tiny")
    runs = client.search_runs([experiment.experiment_id], "tags.`potstill.step` = 'trial'", max_results=100)
    assert {run.info.run_name for run in runs} >= {f"trial {number}" for number in range(1, 6)}
    own = next(run for run in runs if run.info.run_name == "trial 1")
    assert float(own.data.params["distill.temperature"]) == 2.0
    assert len(client.get_metric_history(own.info.run_id, "validation_macro_f1")) >= 2
    parent = client.get_run(own.data.tags["mlflow.parentRunId"])
    assert parent.info.status == "FINISHED"
    assert "is best" in parent.data.tags["mlflow.note.content"]
    assert {file.path for file in client.list_artifacts(parent.info.run_id)} >= {"best.yaml", "knobs.svg"}


def test_a_search_that_was_killed_goes_on(shop: Shop, first: str):
    command = shop.command("tune", str(shop.recipe), "--trials", "9", "--over", OVER)
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=clean(), start_new_session=True) as running:
        assert running.stdout is not None
        for line in running.stdout:
            if "trial 7 of 9" in line:
                os.killpg(running.pid, signal.SIGKILL)
    cut_short = shop.study.get_trials()[-1]
    assert cut_short.state is optuna.trial.TrialState.RUNNING
    again = shop.tune(7)
    assert "6 of 7 trials were there already" in again
    assert "rows scored" not in again
    trials = shop.study.get_trials()
    # What was being tried is tried again.
    assert trials[-1].params == cut_short.params
    assert trials[-1].state.is_finished()


def test_a_search_that_finds_nothing_ends_as_failed_and_says_why(shop: Shop, first: str):
    clear = "student={narrow: {width: 8, heads: 4}}"
    command = shop.command("tune", str(shop.recipe), "--trials", "1", "--over", "temperature", "--set", clear)
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=clean())
    assert (done.returncode, done.stderr) == (2, "potstill: tune: no trial ended well; their reasons stand above\n")
    assert "failed: student.narrow" in done.stdout
    client = MlflowClient(f"sqlite:///{shop.root / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("tiny")
    parents = client.search_runs([experiment.experiment_id], "tags.`potstill.step` = 'pipeline'")
    told = {run.info.status: run.data.tags.get("mlflow.note.content", "") for run in parents}
    assert "no trial ended well" in told["FAILED"]


def test_other_fixed_settings_make_another_study(shop: Shop, first: str):
    before = len(optuna.get_all_study_names(f"sqlite:///{shop.root / 'tune' / 'tiny' / 'trials.db'}"))
    shop.tune(1, "--set", "distill.epochs=1")
    assert len(optuna.get_all_study_names(f"sqlite:///{shop.root / 'tune' / 'tiny' / 'trials.db'}")) == before + 1

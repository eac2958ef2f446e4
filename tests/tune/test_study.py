"""A study in one process: what is tried, given up, failed, and what comes after an interruption."""

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from potstill import tracking
from potstill.errors import UserError
from potstill.recipe import load_recipe
from potstill.tune import study as studies
from potstill.tune.space import read_space
from potstill.tune.study import Study
from potstill.workshop import Workshop
from tests.conftest import reviews

Distil = Callable[..., dict[str, float]]


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory, encoder: Path, reviews_file: Path) -> Path:
    folder = tmp_path_factory.mktemp("study")
    (folder / "tiny.yaml").write_text(f"""
name: tiny
data: {{source: {reviews_file}, split: {{by: product}}}}
tasks: {{sentiment: {{label: sentiment}}}}
teacher: {{encoder: {encoder}, max_tokens: 16, epochs: 1, batch_size: 16}}
distill: {{epochs: 3}}
register: {{model: tiny}}
""")
    return folder


def opened(shop: Path, over: str, monkeypatch: pytest.MonkeyPatch, *overrides: str) -> Study:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{shop / 'mlflow.db'}")
    monkeypatch.setenv(tracking.RUN_ID_VARIABLE, "tune-tiny")
    recipe = shop / "tiny.yaml"
    loaded = load_recipe(recipe, overrides)
    (shop / "tune").mkdir(exist_ok=True)
    return Study(recipe, overrides, read_space(over, recipe, overrides), Workshop(loaded, shop), shop / "tune")


def students_of(worth: Callable[[Any], float]) -> Distil:
    """What stands in for distillation: three epochs, each of which is worth the same."""

    def distil(*given: Any) -> dict[str, float]:
        knobs, on_epoch = given[4], given[6]
        found: Mapping[str, float] = {"validation_macro_f1": worth(knobs)}
        for epoch in (1, 2, 3):
            on_epoch({"epoch": epoch, **found})
        return dict(found)

    return distil


def test_a_search_that_goes_on_draws_what_it_has_not_drawn(shop: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(studies, "distill", students_of(lambda knobs: knobs.temperature))
    at_once = opened(shop, "temperature=1:4", monkeypatch).run(8)
    drawn = [trial.params["distill.temperature"] for trial in at_once.get_trials()]
    assert len(set(drawn)) == 8
    (shop / "tune" / "trials.db").unlink()
    for trials in (3, 8):
        halved = opened(shop, "temperature=1:4", monkeypatch).run(trials)
    assert [trial.params["distill.temperature"] for trial in halved.get_trials()] == drawn


def test_a_trial_that_lags_behind_is_given_up_but_not_at_its_end(
    shop: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(studies, "distill", students_of(lambda knobs: -knobs.temperature))
    done = opened(shop, "temperature=1:5", monkeypatch).run(20)
    pruned = [trial for trial in done.get_trials() if trial.state.name == "PRUNED"]
    assert pruned
    # The first epoch is spared, and what has come to its last one is judged by it.
    assert {trial.last_step for trial in pruned} == {2}
    assert "given up: others were better" in capsys.readouterr().out
    assert done.best_trial.params["distill.temperature"] < 2


def test_failures_are_told_and_no_figure_is_no_number(
    shop: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    def worth(knobs: Any) -> float:
        if knobs.temperature > 3:
            raise UserError("too hot")
        return float("nan")

    monkeypatch.setattr(studies, "distill", students_of(worth))
    with pytest.raises(UserError, match="no trial ended well"):
        opened(shop, "temperature=1:6", monkeypatch).run(6)
    told = capsys.readouterr().out
    assert "failed: too hot" in told
    assert "failed: macro-F1 is no finite number" in told


def test_own_settings_outside_of_the_space_are_told(
    shop: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(studies, "distill", students_of(lambda knobs: knobs.temperature))
    opened(shop, "temperature=3:4", monkeypatch).run(1)
    assert "the recipe's own distill.temperature lies outside" in capsys.readouterr().out


def test_what_is_to_be_small_is_made_small(shop: Path, monkeypatch: pytest.MonkeyPatch):
    def distil(*given: Any) -> dict[str, float]:
        return {"validation_mae_log": given[4].temperature}

    things = reviews(240)
    prices = [float(10 + text.count("n1") + 5 * text.count("lamp")) for text in things["text"]]
    pq.write_table(pa.table({"text": things["text"], "price": prices}), shop / "prices.parquet")
    monkeypatch.setattr(studies, "distill", distil)
    own = f"data={{source: {shop / 'prices.parquet'}}}", "tasks={price: {kind: value, label: price, bins: 8}}"
    done = opened(shop, "temperature=1:7", monkeypatch, *own).run(4)
    assert done.best_value == min(trial.value for trial in done.get_trials() if trial.value is not None)
    assert done.best_value < 3


def test_a_lost_table_is_made_again(shop: Path, monkeypatch: pytest.MonkeyPatch):
    before = opened(shop, "temperature", monkeypatch).workshop.signals
    shutil.rmtree(shop / "signals")
    workshop = opened(shop, "temperature", monkeypatch).workshop
    assert workshop.signals == before
    assert list((shop / "signals").iterdir())

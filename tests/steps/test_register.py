import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import auc, roc_auc_score

from potstill.data.dataset import read_rows, read_schema
from potstill.edge import EdgeModel
from potstill.evaluate.candidates import Inputs
from potstill.evaluate.contract import Comparison, Verdict
from potstill.recipe import Budget, Evaluate
from potstill.steps.evaluate import evaluate
from potstill.steps.register import decide, read_evaluation, rehearsed, told, write_outcome
from tests.steps.conftest import Line

ACCEPTED = Verdict(True, (), (), None)
REFUSED = Verdict(False, ("size: too large",), (), None)


def against(better: bool) -> Comparison:
    return Comparison("1", better, 0.01 if better else -0.01, -0.02, 0.02)


@pytest.mark.parametrize(
    ("verdict", "promote", "alias"),
    [
        (ACCEPTED, "if-better", "champion"),
        (replace(ACCEPTED, champion=against(True)), "if-better", "champion"),
        (replace(ACCEPTED, champion=against(False)), "if-better", "challenger"),
        (ACCEPTED, "never", "challenger"),
        (ACCEPTED, "manual", "challenger"),
        (replace(ACCEPTED, champion=against(True)), "manual", "challenger"),
        (REFUSED, "manual", None),
        (replace(ACCEPTED, champion=against(True)), "never", "challenger"),
        (REFUSED, "if-better", None),
        (replace(REFUSED, champion=against(True)), "if-better", None),
        (REFUSED, "never", None),
    ],
)
def test_the_alias_that_a_model_earns(verdict: Verdict, promote, alias: str | None):
    assert decide(verdict, promote) == alias


@given(st.booleans(), st.sampled_from([None, True, False]), st.sampled_from(["if-better", "manual", "never"]))
def test_no_refused_and_no_worse_model_ever_becomes_champion(accepted: bool, better: bool | None, promote):
    verdict = Verdict(accepted, (), (), None if better is None else against(better))
    if decide(verdict, promote) == "champion":
        assert accepted
        assert better is not False
        assert promote == "if-better"


def test_a_refusal_tells_its_reasons_and_a_version_its_alias():
    assert told(REFUSED, "m", None, None, "if-better") == "refused: size: too large"
    assert told(ACCEPTED, "m", "3", "challenger", "never") == "m version 3, challenger"
    assert told(ACCEPTED, "m", "3", None, "manual") == "m version 3"
    waits = "m version 3, challenger; it waits for a person's approval in MLflow"
    assert told(ACCEPTED, "m", "3", "challenger", "manual") == waits


@pytest.mark.parametrize(
    ("alias", "known", "words"),
    [
        ("champion", None, "THIS MODEL WOULD HAVE BECOME CHAMPION OF m"),
        ("challenger", None, "THIS MODEL WOULD HAVE BECOME CHALLENGER OF m"),
        (None, None, "THE CONTRACT WOULD HAVE REFUSED THIS MODEL"),
        (None, "3", "THE CONTRACT WOULD HAVE REFUSED THIS MODEL"),
        ("champion", "3", "THIS MODEL IS VERSION 3 OF m ALREADY"),
    ],
)
def test_a_dry_run_says_in_capitals_what_would_have_become_of_the_model(alias, known: str | None, words: str):
    assert rehearsed("m", alias, known) == f"DRY RUN, NOTHING IS REGISTERED OR MOVED: {words}"


@pytest.fixture(scope="module")
def evaluation(line: Line, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny line, measured; its own float model plays the champion."""
    folder = tmp_path_factory.mktemp("evaluation") / "evaluation"
    inputs = Inputs(
        line.dataset, line.signals, line.teacher, line.control, line.student, line.edge, line.edge / "float"
    )
    digests = ("dataset_digest", "teacher_digest", "signals_digest", "control_digest", "student_digest", "edge_digest")
    names = {"recipe": "tiny", "model": "tiny", **{name: name[0] * 64 for name in digests}}
    settings = Evaluate(resamples=200, latency_rows=10)
    evaluate(inputs, Budget(retention=0.5, flips=0.2, latency_p95_ms=1000), settings, names, "7", folder)
    return folder


def test_the_champion_is_scored_on_the_same_rows(evaluation: Path):
    found = read_evaluation(evaluation)
    assert found.verdict.champion is not None
    assert found.verdict.champion.version == "7"
    models = found.summary["models"]
    assert models["champion"]["accuracy"] == models["student"]["accuracy"]
    assert models["champion"]["macro_f1"] == models["student"]["macro_f1"]
    assert found.verdict.champion.difference == pytest.approx(
        models["edge"]["macro_f1"] - models["champion"]["macro_f1"]
    )


def test_confusion_and_figures_agree(evaluation: Path):
    summary = read_evaluation(evaluation).summary
    matrix = summary["confusion"]["task"]["counts"]
    right = sum(matrix[i][i] for i in range(len(matrix)))
    assert sum(map(sum, matrix)) == summary["rows"]["test"]
    assert right / summary["rows"]["test"] == summary["models"]["edge"]["accuracy"]


def test_the_curve_encloses_the_area_that_the_edge_models_own_answers_tell(evaluation: Path, line: Line):
    curve = read_evaluation(evaluation).summary["roc"]["task"]
    schema = read_schema(line.dataset)
    rows = read_rows(line.dataset, "test", schema)
    answers = EdgeModel(line.edge / "small").answer([{schema.text[0]: text} for text in rows.text])
    scores = [answer["probabilities"][schema.outcome.names[1]] for answer in answers]
    area = auc(curve["false_positive_rate"], curve["true_positive_rate"])
    assert area == pytest.approx(roc_auc_score(rows.value, scores), abs=1e-9)


def test_the_outcome_is_written_with_version_and_alias(evaluation: Path, tmp_path: Path):
    found = read_evaluation(evaluation)
    write_outcome(found, "8", "challenger", None, tmp_path / "summary", tmp_path / "report")
    summary = json.loads((tmp_path / "summary").read_text())
    assert (summary["version"], summary["alias"]) == ("8", "challenger")
    page = (tmp_path / "report").read_text()
    assert "version 8 of tiny, challenger" in page
    assert "DRY RUN" not in page


def test_a_dry_run_stands_on_top_of_the_report_and_in_the_summary(evaluation: Path, tmp_path: Path):
    words = rehearsed("tiny", "champion", None)
    complete = write_outcome(read_evaluation(evaluation), None, None, words, tmp_path / "summary", tmp_path / "report")
    assert complete["dry_run"] == words == json.loads((tmp_path / "summary").read_text())["dry_run"]
    page = (tmp_path / "report").read_text()
    assert page.index(words) < page.index("Accepted")

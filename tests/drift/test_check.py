"""A window is held against the profile that travels with a model; what can't be told is refused, not guessed."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tiny import write_cascade, write_edge

from potstill.drift.check import Result, check
from potstill.drift.profile import learn, read_profile, write_profile
from potstill.edge import EdgeModel
from potstill.errors import UserError
from potstill.metrics import Truth
from potstill.scoring import score

Rows = list[dict[str, Any]]


def reviews(count: int, seed: int, bad: float = 0.5, others: tuple[str, ...] = ("kettle",)) -> Rows:
    """Reviews of three to eight words, each of them good, bad or another."""
    random = np.random.default_rng(seed)
    words = np.array(["good", "bad", *others])
    chances = [0.6 * (1 - bad), 0.6 * bad, *[0.4 / len(others)] * len(others)]
    return [{"review": " ".join(random.choice(words, random.integers(3, 9), p=chances))} for _ in range(count)]


def labelled(edge: Path, rows: Rows, wrong: float = 0.0) -> Rows:
    """The rows with the model's own answers as labels, some of them turned."""
    turned = np.random.default_rng(0).random(len(rows)) < wrong
    names = {False: ["negative", "positive"], True: ["positive", "negative"]}
    best = EdgeModel(edge).probabilities(rows).argmax(1)
    return [{**row, "sentiment": names[bool(t)][i]} for row, i, t in zip(rows, best, turned, strict=True)]


def profiled(edge: Path) -> Path:
    """A model with a profile, whose labels are right in nine of ten rows."""
    rows = labelled(edge, reviews(600, 2), wrong=0.1)
    truth = Truth(EdgeModel(edge).outcome.encode([row["sentiment"] for row in rows]))
    write_profile(edge, learn(edge, reviews(600, 1), rows, ("sentiment",), truth))
    return edge


@pytest.fixture(scope="module")
def edge(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return profiled(write_edge(tmp_path_factory.mktemp("edge") / "small"))


@pytest.fixture
def against(edge: Path, tmp_path: Path) -> Callable[..., Result]:
    def found(rows: Rows, reference: str | None = None) -> Result:
        pq.write_table(pa.Table.from_pylist(rows), tmp_path / "window.parquet")
        return check("tiny", edge, str(tmp_path / "window.parquet"), reference, 0.2)

    return found


def test_rows_like_the_training_data_have_not_drifted(against: Callable[..., Result]):
    result = against(reviews(500, 3))
    assert result.drifted == []
    assert (result.rows, result.total, result.unread, result.reference_rows) == (500, 500, 0, 600)
    assert {finding.column for finding in result.findings} == {
        *("text: length", "text: unknown share", "text: surprise"),
        *("answer: label", "answer: confidence", "answer: distance"),
    }
    assert result.quality is None


def test_more_bad_reviews_are_told_by_the_answers_with_their_shares(against: Callable[..., Result]):
    result = against(reviews(500, 3, bad=0.85))
    assert "answer: label" in result.drifted
    (label,) = (finding for finding in result.findings if finding.column == "answer: label")
    assert label.bins == ("negative", "positive", "other", "missing")
    assert label.window[0] > 0.8 > 0.6 > label.reference[0]


def test_words_that_training_never_had_are_told_by_the_text_and_named(against: Callable[..., Result]):
    result = against(reviews(500, 3, others=("zebra", "lion")))
    assert {"text: surprise", "text: unknown share"} <= set(result.drifted)
    assert "answer: label" not in result.drifted
    assert result.risen[0].piece == "[UNK]"


def test_answers_that_came_with_the_rows_are_believed_and_the_model_is_not_asked(
    edge: Path, tmp_path: Path, against: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
):
    pq.write_table(pa.Table.from_pylist(reviews(500, 3)), tmp_path / "in.parquet")
    score(edge, str(tmp_path / "in.parquet"), str(tmp_path / "out.parquet"), 1)
    told = pq.read_table(tmp_path / "out.parquet").to_pylist()
    monkeypatch.setattr(EdgeModel, "probabilities", None)
    assert against(told).drifted == []
    result = against([{**row, "predicted_label": "positive"} for row in told])
    assert (result.drifted, result.carried) == (["answer: label"], True)
    assert "answer: distance" not in {finding.column for finding in result.findings}


def test_labels_tell_that_the_quality_fell_though_nothing_else_changed(edge: Path, against: Callable[..., Result]):
    rows = reviews(500, 3)
    same, worse = (against(labelled(edge, rows, wrong)) for wrong in (0.1, 0.3))
    assert same.quality
    assert not same.quality.fell
    assert same.quality.now.value == pytest.approx(0.9, abs=0.03)
    assert worse.quality
    assert (worse.drifted, worse.quality.now.rows) == (["quality"], 500)
    assert worse.quality.now.high < same.quality.before.low


def test_few_labels_and_unknown_ones_tell_nothing(edge: Path, against: Callable[..., Result]):
    rows = labelled(edge, reviews(500, 3), wrong=1)
    for i, row in enumerate(rows):
        row["sentiment"] = row["sentiment"] if i < 40 else "none" if i % 2 else None
    assert against(rows).quality is None


def test_rows_that_can_not_be_read_are_left_out_and_counted(against: Callable[..., Result]):
    result = against([*reviews(500, 3), *[{"review": None}] * 30])
    assert (result.rows, result.unread, result.total, result.drifted) == (500, 30, 530, [])


def test_too_few_rows_are_refused_with_the_number_that_is_needed(against: Callable[..., Result]):
    # 9 · (1 / 600 + 1 / m) is half of 0.2 for m = 105.9.
    with pytest.raises(UserError, match=r"105 rows; a PSI of 0\.2 needs 106 to be told from chance"):
        against(reviews(105, 3))
    with pytest.raises(UserError, match=r"120 rows, of which 60 can't be read \(no text in 'review'\)"):
        against([*reviews(60, 3), *[{"review": None}] * 60])
    assert against(reviews(106, 3)).rows == 106


def test_a_profile_of_few_rows_is_refused_with_a_way_out(tmp_path: Path):
    small = write_edge(tmp_path / "small")
    write_profile(small, learn(small, reviews(50, 1), reviews(50, 2)))
    pq.write_table(pa.Table.from_pylist(reviews(500, 3)), tmp_path / "window.parquet")
    with pytest.raises(UserError, match=r"50 rows of the training data are too few .* --reference .* --psi"):
        check("tiny", small, str(tmp_path / "window.parquet"), None, 0.2)


def test_an_older_version_has_no_profile_but_takes_a_reference(tmp_path: Path):
    bare = write_edge(tmp_path / "bare")
    for name, rows in (("window", reviews(500, 3, bad=0.9)), ("reference", reviews(1200, 1))):
        pq.write_table(pa.Table.from_pylist(rows), tmp_path / f"{name}.parquet")
    window, reference = (str(tmp_path / f"{name}.parquet") for name in ("window", "reference"))
    with pytest.raises(UserError, match=r"registered without a profile .* --reference rows\.parquet"):
        check("tiny", bare, window, None, 0.2)
    assert "answer: label" in check("tiny", bare, window, reference, 0.2).drifted
    # Half of the reference tells of words, the other is compared with.
    assert check("tiny", bare, reference, reference, 0.2).reference_rows == 600
    (tmp_path / "empty.jsonl").write_text('{"review": null}\n')
    with pytest.raises(UserError, match=r"--reference .*empty\.jsonl: there are no rows .* no text in 'review'"):
        check("tiny", bare, window, str(tmp_path / "empty.jsonl"), 0.2)


def test_of_many_rows_some_are_drawn(against: Callable[..., Result], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("potstill.drift.check.MOST_ROWS", 300)
    result = against(reviews(900, 3))
    assert (result.rows, result.total, result.drifted) == (300, 900, [])


def test_a_cascade_is_looked_at_as_one_model(tmp_path: Path):
    both = profiled(write_cascade(tmp_path / "both"))
    pq.write_table(pa.Table.from_pylist(reviews(500, 3, bad=0.9)), tmp_path / "window.parquet")
    assert "answer: label" in check("tiny", both, str(tmp_path / "window.parquet"), None, 0.2).drifted
    assert not (both / "first" / "profile.json").exists()


def test_the_result_as_json_names_what_drifted_and_why(against: Callable[..., Result]):
    told = json.loads(against(reviews(500, 3, bad=0.9)).to_json())
    assert told["drift"] is True
    assert "answer: label" in told["drifted"]
    first = told["findings"][0]
    assert (first["drifted"], first["p_adjusted"] <= told["level"]) == (True, True)
    assert len(first["bins"]) == len(first["reference"]) == len(first["window"])


def test_a_profile_is_small_reads_as_written_and_holds_no_text(edge: Path, tmp_path: Path):
    profile = read_profile(edge)
    assert profile is not None
    write_profile(tmp_path, profile)
    assert (tmp_path / "profile.json").read_bytes() == (edge / "profile.json").read_bytes()
    written = (edge / "profile.json").read_text()
    assert len(written) < 20_000
    assert not any(row["review"] in written for row in reviews(600, 1) + reviews(600, 2))
    assert "kettle" not in written

import re
from pathlib import Path
from typing import Any

import made_up
import numpy as np
import pytest
from markdown_it import MarkdownIt
from sklearn.metrics import precision_recall_fscore_support

from potstill.evaluate.overview import WORST, worst_classes, write_overview


def written(folder: Path, summary: Any) -> str:
    write_overview(folder / "overview", summary)
    return (folder / "overview").read_text(encoding="utf-8")


def page(folder: Path, summary: Any) -> str:
    """As a reader of Markdown sees it."""
    html = MarkdownIt("commonmark").enable("table").render(written(folder, summary))
    return html.replace("&amp;", "&").replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", '"')


def test_it_tells_verdict_clauses_and_models(tmp_path: Path):
    summary = made_up.summary(3, champion=True)
    found = page(tmp_path, summary)
    assert "<strong>Accepted: version 5 of review-sentiment, champion</strong>" in found
    assert found.count("<li>✓") == len(summary["verdict"]["clauses"])
    assert "Against the champion, version 4, on the same rows: +0.004 macro-F1 (95 % interval -0.003 to" in found
    assert re.search(r"<td[^>]*>edge model</td>\s*<td[^>]*>0.926 \(0.917–0.935\)</td>", found)
    assert found.count("<table>") == 2


def test_a_refusal_and_a_dry_run_stand_on_top(tmp_path: Path):
    summary = made_up.summary(3, accepted=False) | {"dry_run": "DRY RUN, NOTHING IS REGISTERED"}
    found = page(tmp_path, summary)
    assert "✗ retention: keeps 95.1% of the teacher's macro-F1; at least 97.0%" in found
    assert "There was no champion to beat." in found
    assert found.index("DRY RUN") < found.index("Refused: 1 of 7 clauses did not hold") < found.index("<table>")


def test_a_difference_to_the_champion_that_is_no_number_is_a_dash(tmp_path: Path):
    summary = made_up.summary(3, champion=True)
    summary["verdict"]["champion"] |= {"low": None, "high": None}
    assert "+0.004 macro-F1 (95 % interval – to –)" in page(tmp_path, summary)


def test_names_from_the_data_stay_words(tmp_path: Path):
    names = ["<script>alert(1)</script>", "a | b", "*loud* `code`", "[link](http://example.com)", "x\n# y", "$1 & $2"]
    found = page(tmp_path, made_up.summary(6, names=names))
    for name in names:
        assert f">{' '.join(name.split())}</td>" in found, name
    assert not re.search("<(a|em|code|h3)[ >]", found)


def test_the_worst_classes_are_scikit_learns():
    random = np.random.default_rng(0)
    labels, guesses = random.integers(14, size=(2, 400))
    guesses = np.where(random.random(400) < labels / 14, labels, guesses)
    counts = np.zeros((14, 14), dtype=int)
    np.add.at(counts, (labels, guesses), 1)
    precision, recall, f1, rows = precision_recall_fscore_support(labels, guesses)
    order = np.argsort(f1, kind="stable")[:WORST]
    expected = [(f"c{i}", f"{rows[i]}", f"{precision[i]:.1%}", f"{recall[i]:.1%}", f"{f1[i]:.3f}") for i in order]
    assert worst_classes(counts.tolist(), [f"c{i}" for i in range(14)]) == expected


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ([[3, 0], [2, 0]], [("b", "2", "–", "0.0%", "0.000"), ("a", "3", "60.0%", "100.0%", "0.750")]),
        ([[3, 1], [0, 0]], [("a", "4", "100.0%", "75.0%", "0.857")]),
    ],
)
def test_a_class_that_is_never_answered_or_never_occurs(counts: list[list[int]], expected: list[tuple[str, ...]]):
    assert worst_classes(counts, ["a", "b"]) == expected

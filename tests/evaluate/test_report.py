import io
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import made_up
import pytest
from rich.console import Console

from potstill.evaluate.report import models_table, most_confused, table_rows, write_report

EVIL = "<script>alert('x')</script> & \"friends\""


class Page(HTMLParser):
    """Tags with their attributes, and the text outside drawings and styles."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self._hidden = 0
        self.feed(text)
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._hidden += tag in ("svg", "style")

    def handle_endtag(self, tag: str) -> None:
        self._hidden -= tag in ("svg", "style")

    def handle_data(self, data: str) -> None:
        if not self._hidden:
            self.words.append(data)


def written(folder: Path, summary: Any) -> str:
    write_report(folder / "report.html", summary, made_up.drawn(summary))
    return (folder / "report.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def accepted(tmp_path_factory: pytest.TempPathFactory) -> str:
    return written(tmp_path_factory.mktemp("accepted"), made_up.summary(3, champion=True))


def test_an_accepted_model_is_told_with_version_and_alias(accepted: str):
    assert "Accepted: version 5 of review-sentiment, champion" in Page(accepted).text


def test_a_refused_model_is_told_with_the_clause_that_failed(tmp_path: Path):
    text = Page(written(tmp_path, made_up.summary(3, accepted=False))).text
    assert "Refused: 1 of 7 clauses did not hold" in text
    assert "✗ failed retention: keeps 95.1% of the teacher's macro-F1; at least 97.0%" in text
    assert text.count("✗ failed") == 1
    assert "There was no champion" in text


def test_the_comparison_with_the_champion_is_told(accepted: str):
    text = Page(accepted).text
    assert "version 4, on the same rows: +0.004 macro-F1 (95 % interval -0.003 to +0.011), so better" in text


def test_every_model_has_its_row(accepted: str):
    text = Page(accepted).text
    assert "edge model 0.926 (0.917–0.935) 0.928 (0.919–0.937) 99.1% 95.7% 2.40 4.08 11.3" in text
    for model in ("baseline", "control", "teacher", "student", "champion"):
        assert re.search(rf"\b{model} 0\.\d+", text), model


def test_each_step_of_compression_is_told_with_what_it_cost(accepted: str):
    text = Page(accepted).text
    assert "trim 0.930 0.2% 3.90 4.29 24.9 kept" in text
    assert "static 0.902 5.5% 2.30 2.53 11.3 left out: loses 3.0%" in text
    assert "dynamic 0.929 0.4% 2.40 2.64 11.3 kept" in text
    assert "dynamic per tensor 0.929 0.4% 2.30 2.53 11.3 not needed" in text
    assert "leaves 9,123 pieces, and 2.1% of the test rows' tokens are read otherwise" in text
    assert (
        "Zeros in 30.0% of the layers' weights make the file smaller once it is zipped (81.0% of what it was)" in text
    )


def test_a_cascade_is_told_with_each_of_its_models_and_the_share_that_goes_on(tmp_path: Path, accepted: str):
    assert "Cascade" not in Page(accepted).text
    text = Page(written(tmp_path, made_up.summary(3) | {"cascade": made_up.CASCADE, "first_digest": "7e" * 32})).text
    assert "the smaller alone 0.874 0.08 0.07 0.11 0.9" in text
    assert "the larger alone 0.926 2.50 2.40 4.08 11.3" in text
    assert "both 0.924 0.90 0.09 3.90 12.2" in text
    assert "confidence is 0.812 or more" in text
    assert "7e" * 32 in text
    assert "the larger one is asked for 31.0% of the test rows" in text


def test_a_plan_is_told_with_all_that_was_tried_the_quickest_first(tmp_path: Path, accepted: str):
    assert "Plan" not in Page(accepted).text
    text = Page(written(tmp_path, made_up.summary(3) | {"plan": made_up.PLAN})).text
    assert made_up.PLAN["words"] in text
    rows = (
        "linear baseline 0.842 – 0.40 – 0.60 3.2 –",
        "student of 1 layer 0.901 96.5% 1.30 1.20 2.20 4.1 63%",
        "student of 2 layers 0.925 98.9% 2.40 2.50 4.10 5.7 74%",
    )
    assert " ".join(rows) in text
    assert "4 of 10 forms were foreseen to keep the budget's time and size" in text
    assert "81 GFLOP/s" in text


def test_data_and_lineage_are_told(accepted: str):
    text = Page(accepted).text
    for fact in (
        "9,002 rows",
        "1,001 rows",
        "3,080 rows",
        "9: empty text",
        "0f" * 32,
        "4f" * 32,
        "AVX2",
        "torch 2.13.0",
    ):
        assert fact in text, fact


def test_all_five_figures_are_in_the_page(accepted: str):
    assert sum(tag == "svg" for tag, _ in Page(accepted).tags) == 5


@pytest.mark.parametrize("outcomes", [3, 77])
def test_the_page_asks_for_nothing_from_outside(tmp_path: Path, outcomes: int):
    page = written(tmp_path, made_up.summary(outcomes))
    for tag, attributes in Page(page).tags:
        assert tag not in ("script", "link", "iframe", "img", "object", "embed"), tag
        for name, value in attributes.items():
            if name in ("href", "src", "xlink:href", "action"):
                assert (value or "").startswith(("#", "data:")), (tag, name, value)
    assert not re.search(r"@import|url\((?!#)", page)


def test_what_users_wrote_is_escaped_everywhere(tmp_path: Path):
    summary = made_up.summary(3, names=[EVIL, "neutral", "positive"])
    summary |= {"recipe": EVIL, "model": EVIL, "task": EVIL, "rejected": {EVIL: 2}, "versions": {EVIL: EVIL}}
    summary["verdict"]["clauses"][0]["words"] = EVIL
    summary["machine"]["cpu"] = EVIL
    page = written(tmp_path, summary)
    assert "<script" not in page
    assert Page(page).text.count(EVIL) >= 8, "and still shown as it was written"


def test_equal_summaries_give_equal_reports(tmp_path: Path, accepted: str):
    assert written(tmp_path, made_up.summary(3, champion=True)) == accepted


def test_a_summary_that_lacks_a_part_is_not_papered_over(tmp_path: Path):
    summary = made_up.summary(3)
    del summary["dataset_digest"]
    with pytest.raises(Exception, match="dataset_digest"):
        written(tmp_path, summary)
    assert not (tmp_path / "report.html").exists()


def test_most_confused_pairs_come_first_and_right_answers_never():
    matrix = [[50, 1, 9], [0, 40, 0], [4, 0, 30]]
    assert most_confused(matrix, ["a", "b", "c"]) == [("a", "c", 9), ("c", "a", 4), ("a", "b", 1)]


def test_no_more_than_ten_confused_pairs_are_listed():
    assert len(most_confused([[1] * 20 for _ in range(20)], [str(i) for i in range(20)])) == 10


@pytest.mark.parametrize(("width", "intervals"), [(80, False), (100, True), (120, True)])
def test_the_terminal_table_cuts_nothing(width: int, intervals: bool):
    summary = made_up.summary(3, champion=True)
    console = Console(width=width, file=io.StringIO())
    console.print(models_table(summary, width))
    shown = console.file.getvalue()
    assert "…" not in shown
    assert max(len(line.rstrip()) for line in shown.splitlines()) <= width
    for row in table_rows(summary, intervals):
        assert all(cell in shown for cell in row), row
    assert ("–" in shown) == intervals


def test_rows_come_from_plainest_to_smallest_and_only_what_was_measured():
    names = [row[0] for row in table_rows(made_up.summary(3))]
    assert names == ["baseline", "control", "teacher", "student", "edge model"]


def test_names_with_brackets_are_not_read_as_colours():
    console = Console(width=120, file=io.StringIO())
    console.print(models_table(made_up.summary(3) | {"task": "[red]mood[/]"}, 120))
    assert "[red]mood[/]" in console.file.getvalue()


def test_the_report_needs_nothing_that_only_training_has():
    code = (
        "import sys, potstill.evaluate.report, potstill.evaluate.contract;"
        "sys.exit(any(name in sys.modules for name in ('matplotlib', 'sklearn', 'torch')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

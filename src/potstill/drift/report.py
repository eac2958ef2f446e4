"""The report on a window: one self-contained HTML file, and the same in short for a terminal."""

from pathlib import Path

import jinja2
from rich import box
from rich.markup import escape
from rich.table import Table

from potstill.drift.check import Result
from potstill.drift.compare import Finding

TEMPLATE = Path(__file__).with_name("report.html")
TESTS = {"ks": "Kolmogorov-Smirnov", "chi_square": "chi-square"}
# Of a column of names, those bins are shown whose shares differ most.
BINS_SHOWN = 14
ADVICE = {
    "input": "See first whether what feeds these columns has changed: units, a currency, values that went missing. If "
    "the shop itself has, train anew on rows that hold what is new.",
    "text": "The texts are worded otherwise: another language, channel or range. Label some hundred of them and train "
    "anew with them; the recipe's adapt section teaches the encoder such texts even without labels.",
    "answer": "The answers are spread otherwise. Label a sample of the window: if the answers are right, the customers "
    "have changed and not the model; if not, train anew with that sample.",
    "quality": "The answers are worse than when the model was registered. Train anew with the window's labelled rows.",
}


def verdict(result: Result) -> str:
    """The outcome in a line."""
    if not result.drifted:
        return f"no drift: {result.rows:,} rows are like the training data"
    return f"drift: {', '.join(result.drifted)}"


def advice(result: Result) -> list[str]:
    """What to do about it, a line for each kind of column that drifted."""
    kinds = {column.partition(":")[0] for column in result.drifted}
    return [words for kind, words in ADVICE.items() if kind in kinds]


def drift_table(result: Result) -> Table:
    """Every column for a terminal, those that drifted first."""
    table = Table(
        title=escape(f"{result.model}: {result.window}"),
        title_justify="left",
        box=box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
    )
    for head in ("column", "PSI", "p", "rose most"):
        table.add_column(head, justify="right" if head in ("PSI", "p") else "left")
    for finding in result.findings:
        style = "bold" if finding.drifted else None
        table.add_row(
            escape(finding.column), f"{finding.psi:.3f}", p_words(finding), escape(rose(finding)), style=style
        )
    return table


def looked_at(result: Result) -> str:
    """How many rows, by which measure, and what labels tell, in a line."""
    looked = f"{result.rows:,} of {result.total:,} rows" if result.rows < result.total else f"{result.rows:,} rows"
    unread = f" ({result.unread:,} can't be read)" if result.unread else ""
    told = f"{looked}{unread} against {result.reference_rows:,}; drift is a PSI from {result.psi_from:g} beyond chance"
    return f"{told}{_quality(result)}"


def _quality(result: Result) -> str:
    if result.quality is None:
        return ""
    before, now = (f"{q.value:.3f} ({q.low:.3f}–{q.high:.3f})" for q in (result.quality.before, result.quality.now))
    return f"; {result.quality.title} {now} on {result.quality.now.rows:,} labelled rows, before {before}"


def p_words(finding: Finding) -> str:
    """The adjusted chance, for a reader."""
    return "< 0.001" if finding.p_adjusted < 0.001 else f"{finding.p_adjusted:.3f}"


def rose(finding: Finding) -> str:
    """The bin whose share has risen most, with both shares."""
    name, before, now = max(_shares(finding), key=lambda one: one[2] - one[1])
    return f"{name}: {before:.1%} → {now:.1%}"


def bars(finding: Finding) -> list[tuple[str, float, float]]:
    """Name and both shares of the bins to show: those that hold rows; of names those that differ most."""
    shown = _shares(finding)
    return shown if finding.test == "ks" else sorted(shown, key=lambda one: -abs(one[2] - one[1]))[:BINS_SHOWN]


def _shares(finding: Finding) -> list[tuple[str, float, float]]:
    return [one for one in zip(finding.bins, finding.reference, finding.window, strict=True) if one[1] or one[2]]


def render(result: Result) -> str:
    """The report as HTML that asks for nothing from outside."""
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"p": p_words, "rose": rose, "bars": bars, "percent": lambda share: f"{share:.1%}"}
    page = environment.from_string(TEMPLATE.read_text(encoding="utf-8"))
    return page.render(result=result, verdict=verdict(result), advice=advice(result), tests=TESTS)

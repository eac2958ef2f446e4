"""The report a person reads: one self-contained HTML file, and the same table for a terminal."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup
from rich import box
from rich.markup import escape
from rich.table import Table

from potstill.store import write_text

MODELS = ("baseline", "control", "teacher", "student", "student_int8", "champion")
TEMPLATE = Path(__file__).with_name("report.html")
CONFUSED_PAIRS = 10


def write_report(path: Path, summary: Mapping[str, Any], figures: Mapping[str, str]) -> None:
    """Render the summary and the figures (SVG by name) into one HTML file that asks for nothing from outside."""
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["percent"] = lambda value: "–" if value is None else f"{value:.1%}"
    page = environment.from_string(TEMPLATE.read_text(encoding="utf-8"))
    write_text(
        path,
        page.render(
            summary=summary,
            # Our own drawings; matplotlib has escaped the names in them.
            figures={name: Markup(svg) for name, svg in figures.items()},  # noqa: S704
            columns=COLUMNS,
            table=table_rows(summary),
            confused=most_confused(summary["confusion"], summary["outcomes"]),
        ),
    )


# The table with its intervals needs this many columns of a terminal.
WIDE = 100
COLUMNS = ("model", "macro-F1", "accuracy", "retention", "agreement", "p50 ms", "p95 ms", "MB")


def table_rows(summary: Mapping[str, Any], intervals: bool = True) -> list[tuple[str, ...]]:
    """The models' figures as text, a row a model: `COLUMNS`."""
    return [_row(model, summary["models"][model], intervals) for model in MODELS if model in summary["models"]]


def models_table(summary: Mapping[str, Any], width: int) -> Table:
    """The models' figures for a terminal of so many columns; a narrow one gets no intervals, so that nothing is cut."""
    wide = width >= WIDE
    intervals = "95 % intervals by paired bootstrap" if wide else "intervals in the report"
    caption = f"{summary['rows']['test']:,} test rows; {intervals}; latency at batch 1 on one thread"
    table = Table(
        title=escape(f"{summary['recipe']}: {summary['task']}"),
        caption=caption,
        title_justify="left",
        box=box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        padding=(0, 1, 0, 0),
    )
    for column in COLUMNS:
        table.add_column(column, justify="left" if column == "model" else "right", no_wrap=True)
    for row in table_rows(summary, wide):
        table.add_row(*row, style="bold" if row[0] == "student int8" else None)
    return table


def most_confused(matrix: list[list[int]], outcomes: list[str]) -> list[tuple[str, str, int]]:
    """Pairs (label, answer, rows) that are taken for each other most often, most first."""
    pairs = [
        (outcomes[label], outcomes[answer], count)
        for label, row in enumerate(matrix)
        for answer, count in enumerate(row)
        if label != answer and count
    ]
    return sorted(pairs, key=lambda pair: -pair[2])[:CONFUSED_PAIRS]


def _row(model: str, figures: Mapping[str, Any], intervals: bool) -> tuple[str, ...]:
    def quality(name: str) -> str:
        around = f" ({figures[f'{name}_low']:.3f}–{figures[f'{name}_high']:.3f})" if intervals else ""
        return f"{figures[name]:.3f}{around}"

    return (
        model.replace("_", " "),
        quality("macro_f1"),
        quality("accuracy"),
        f"{figures['retention']:.1%}",
        f"{figures['agreement']:.1%}",
        f"{figures['latency_p50_ms']:.2f}",
        f"{figures['latency_p95_ms']:.2f}",
        f"{figures['size_bytes'] / 1e6:.1f}",
    )

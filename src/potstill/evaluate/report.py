"""The report a person reads: one self-contained HTML file, and the same table for a terminal."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup
from rich import box
from rich.markup import escape
from rich.table import Table

from potstill.evaluate.names import MODELS, name_of
from potstill.metrics import primary
from potstill.outcomes import Part, outcome_of, parts_of
from potstill.store import write_text

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
            first=next(iter(summary["metrics"].values())),
            verdict=verdict_words(summary),
            champion=champion_words(summary),
            tasks=_tasks(summary, figures),
            outcomes=[part.outcome for part in _parts(summary)],
            kinds=[part.outcome.kind for part in _parts(summary)],
            columns=columns_of(summary),
            table=table_rows(summary),
            all_metrics=_all_metrics(summary),
            refusals=_refusals(summary),
            compression=_compression(summary),
            cascade=_cascade(summary),
            plan=_plan(summary),
        ),
    )


def verdict_words(summary: Mapping[str, Any]) -> str:
    """What became of the model, in a line."""
    verdict = summary["verdict"]
    if not verdict["accepted"]:
        return f"Refused: {len(verdict['reasons'])} of {len(verdict['clauses'])} clauses did not hold"
    version = f": version {summary['version']} of {summary['model']}" if summary["version"] else ""
    return f"Accepted{version}" + (f", {summary['alias']}" if version and summary["alias"] else "")


def champion_words(summary: Mapping[str, Any]) -> str:
    """How the model compares with the champion, in a sentence."""
    champion = summary["verdict"]["champion"]
    if not champion:
        return "There was no champion to beat."
    first = next(iter(summary["metrics"].values()))["title"]
    difference, low, high = (_told(champion[name], "{:+.3f}") for name in ("difference", "low", "high"))
    return (
        f"Against the champion, version {champion['version']}, on the same rows: {difference} {first} "
        f"(95 % interval {low} to {high}), so {'better' if champion['better'] else 'not better'}."
    )


def _parts(summary: Mapping[str, Any]) -> tuple[Part, ...]:
    return parts_of(outcome_of(summary["outcome"]))


def _tasks(summary: Mapping[str, Any], figures: Mapping[str, str]) -> list[dict[str, Any]]:
    """What is drawn of each task, and its pairs of classes that are taken for each other."""
    found = []
    for part in _parts(summary):
        drawn = {kind: figures.get(part.named(kind)) for kind in ("forecasts", "confusion", "reliability")}
        matrix = summary["confusion"].get(part.task or summary["task"])
        confused = most_confused(matrix["counts"], matrix["names"]) if matrix else []
        shown = {kind: None if svg is None else Markup(svg) for kind, svg in drawn.items()}  # noqa: S704
        found.append({"name": part.task, "confused": confused, **shown})
    return found


# The table with its intervals needs this many columns of a terminal.
WIDE = 100
# Each metric beyond the usual ones needs so many more.
METRIC_WIDTH = 30
METRICS_SHOWN = 2


def columns_of(summary: Mapping[str, Any]) -> tuple[str, ...]:
    """Heads of the table of models: the family's first metrics, and what every model has."""
    titles = [meaning["title"] for meaning in _shown(summary).values()]
    return ("model", *titles, "retention", "agreement", "p50 ms", "p95 ms", "MB")


def table_rows(summary: Mapping[str, Any], intervals: bool = True) -> list[tuple[str, ...]]:
    """The models' figures as text, a row a model, in the order of `columns_of`."""
    meanings = _shown(summary)
    found = summary["models"]
    return [_row(model, found[model], meanings, intervals) for model in MODELS if model in found]


def _shown(summary: Mapping[str, Any]) -> dict[str, Any]:
    """The metrics of the table: the first ones or, of several tasks, each one's deciding metric."""
    parts = _parts(summary)
    if len(parts) > 1:
        return {name: summary["metrics"][name] for name in (part.named(primary(part.outcome)) for part in parts)}
    return dict(list(summary["metrics"].items())[:METRICS_SHOWN])


def models_table(summary: Mapping[str, Any], width: int) -> Table:
    """The models' figures for a terminal of so many columns; a narrow one gets no intervals, so that nothing is cut."""
    wide = width >= WIDE + METRIC_WIDTH * (len(_shown(summary)) - METRICS_SHOWN)
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
    for column in columns_of(summary):
        table.add_column(column, justify="left" if column == "model" else "right", no_wrap=True)
    for row in table_rows(summary, wide):
        table.add_row(*row, style="bold" if row[0] == "edge model" else None)
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


def _compression(summary: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """What each step of compression cost and gained, heads first."""
    first = next(iter(summary["metrics"].values()))
    heads = ("step", first["title"], "changed", "p50 ms", "mean ms", "MB", "")
    return [heads, *(_step(step, first["form"]) for step in summary["compression"])]


def _step(step: Mapping[str, Any], form: str) -> tuple[str, ...]:
    return (
        step["name"].replace("_", " "),
        "–" if step["figure"] is None else form.format(step["figure"]),
        f"{step['flips']:.1%}",
        f"{step['p50_ms']:.2f}",
        f"{step['mean_ms']:.2f}",
        f"{step['size_bytes'] / 1e6:.1f}",
        f"left out: {step['left_out']}" if step["left_out"] else "kept" if step["kept"] else "not needed",
    )


def _cascade(summary: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """The models of a cascade and both together, heads first; empty where there is none."""
    if not summary["cascade"]:
        return []
    first = next(iter(summary["metrics"].values()))
    heads = ("model", first["title"], "mean ms", "p50 ms", "p95 ms", "MB")
    names = {"first": "the smaller alone", "second": "the larger alone", "cascade": "both"}
    return [heads, *(_level(names[name], found, first["form"]) for name, found in summary["cascade"]["models"].items())]


def _level(name: str, found: Mapping[str, float], form: str) -> tuple[str, ...]:
    times = (f"{found[time]:.2f}" for time in ("mean_ms", "p50_ms", "p95_ms"))
    return (name, form.format(found["figure"]), *times, f"{found['size_bytes'] / 1e6:.1f}")


def _plan(summary: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """The models that a plan tried, heads first; empty where the recipe gave the student's form."""
    if not summary["plan"]:
        return []
    first = next(iter(summary["metrics"].values()))
    return plan_rows(summary["plan"]["tried"], first["title"], first["form"])


def plan_rows(tried: Sequence[Mapping[str, Any]], title: str, form: str) -> list[tuple[str, ...]]:
    """What a plan tried, heads first, then the quickest.

    Args:
        tried: what is told of each model.
        title: of the deciding metric.
        form: how a figure of it is written.
    """
    heads = ("form", f"validation {title}", "retention", "p50 ms", "foreseen", "p95 ms", "MB", "of limit")
    return [heads, *(_tried(one, form) for one in sorted(tried, key=lambda one: one["p50_ms"]))]


def _tried(one: Mapping[str, Any], form: str) -> tuple[str, ...]:
    return (
        one["name"],
        _told(one["figure"], form),
        _told(one["retention"], "{:.1%}"),
        f"{one['p50_ms']:.2f}",
        _told(one["foreseen_ms"], "{:.2f}"),
        f"{one['p95_ms']:.2f}",
        f"{one['size_bytes'] / 1e6:.1f}",
        _told(one["limit_share"], "{:.0%}"),
    )


def _all_metrics(summary: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Every metric of every model and of the trivial forecast, heads first; empty where the table says it all."""
    meanings = summary["metrics"]
    if len(meanings) <= METRICS_SHOWN:
        return []
    models = {"trivial": summary["trivial"]}
    # With one alone it is the baseline itself.
    if len(summary["plain"]) > 1:
        models |= {f"plain: {name}": figures for name, figures in summary["plain"].items()}
    models |= {name: summary["models"][name] for name in MODELS if name in summary["models"]}
    rows = [
        (name_of(name), *(_told(found[key], m["form"]) for key, m in meanings.items()))
        for name, found in models.items()
    ]
    return [("model", *(meaning["title"] for meaning in meanings.values())), *rows]


REFUSALS = {
    "refused": "refused of the task's",
    "accuracy_kept": "accuracy on the rest",
    "scope_auroc": "AUROC",
    "scope_recall": "refused of the others",
    "scope_f1": "F1 of refusing",
}


def _refusals(summary: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """What each model refuses, heads first, a row a model and task; empty where nothing is refused."""
    rows = []
    for part in _parts(summary):
        for model in (name for name in MODELS if name in summary["models"]):
            figures = summary["models"][model]
            known = {name: figures.get(part.named(name)) for name in REFUSALS}
            if known["refused"] is not None:
                told = (
                    "–" if v is None else f"{v:.3f}" if n == "scope_auroc" else f"{v:.1%}" for n, v in known.items()
                )
                rows.append((f"{part.task} {name_of(model)}".strip().replace("_", " "), *told))
    return [("model", *REFUSALS.values()), *rows] if rows else []


def _told(figure: float | None, form: str) -> str:
    """A figure as text; a dash where there is none."""
    return "–" if figure is None else form.format(figure)


def _row(
    model: str, figures: Mapping[str, Any], meanings: Mapping[str, Mapping[str, Any]], intervals: bool
) -> tuple[str, ...]:
    def quality(name: str, form: str) -> str:
        low, high = (_told(figures[f"{name}_{end}"], form) for end in ("low", "high"))
        return _told(figures[name], form) + (f" ({low}–{high})" if intervals else "")

    return (
        name_of(model),
        *(quality(name, meaning["form"]) for name, meaning in meanings.items()),
        _told(figures["retention"], "{:.1%}"),
        _told(figures["agreement"], "{:.1%}"),
        f"{figures['latency_p50_ms']:.2f}",
        f"{figures['latency_p95_ms']:.2f}",
        f"{figures['size_bytes'] / 1e6:.1f}",
    )

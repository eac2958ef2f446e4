"""Figures a person would rather look at, as self-contained SVG. Equal data gives equal bytes."""

import io
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from potstill.evaluate.calibration import Bin
from potstill.evaluate.names import name_of

# Colour-blind safe (Okabe & Ito 2008); one colour a model in every figure.
COLOURS = {
    "baseline": "#888888",
    "control": "#E69F00",
    "teacher": "#0072B2",
    "student": "#56B4E9",
    "edge": "#009E73",
    "champion": "#CC79A7",
}
STYLE: Any = {
    "svg.hashsalt": "potstill",
    # The browser sets the text: it has glyphs for every language, and the file stays small.
    "svg.fonttype": "none",
    # A label with two dollar signs is a label, not a formula.
    "text.parse_math": False,
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "figure.facecolor": "white",
}
NUMBERED_CLASSES = 12
# More points hide each other and make the file large.
POINTS_SHOWN = 1000


def quality_latency(models: Mapping[str, Mapping[str, Any]], metric: str, title: str) -> str:
    """The metric with its interval against the median latency; the marker's area grows with the file."""
    with mpl.rc_context(STYLE):
        figure, axes = _new(7.2, 4.2)
        for model, figures in models.items():
            point = (figures["latency_p50_ms"], figures[metric])
            colour = COLOURS.get(model, "black")
            area = 20 + 6 * figures["size_bytes"] / 1e6
            # Drawn from end to end: a percentile interval need not hold the figure itself.
            span = [figures[f"{metric}_low"], figures[f"{metric}_high"]]
            axes.plot([point[0]] * 2, span, color=colour, marker="_", linewidth=1, zorder=2)
            axes.scatter(*point, s=area, color=colour, alpha=0.85, zorder=3, label=_label(model, figures))
        spread_by_factors(axes, (1, 2, 5))
        axes.margins(x=0.15)
        axes.set_xlabel("median latency at batch 1 on one thread, ms")
        axes.set_ylabel(f"{title} on the test rows")
        legend = axes.legend(frameon=False, fontsize=9, loc="center left", bbox_to_anchor=(1.0, 0.5))
        for handle in legend.legend_handles:
            if isinstance(handle, PathCollection):
                handle.set_sizes([40])
        return svg(figure)


def confusion(matrix: npt.NDArray[np.int64], outcomes: Sequence[str]) -> str:
    """Rows are labels, columns are answers, colour is the share of the label's rows."""
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    few = len(outcomes) <= NUMBERED_CLASSES
    side = 2.2 + 0.55 * len(outcomes) if few else min(12.0, 3 + 0.12 * len(outcomes))
    size = 9.0 if few else 7.0
    with mpl.rc_context(STYLE | {"axes.grid": False}):
        figure, axes = _new(side + 0.8, side)
        image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        turned, anchor = (45, "right") if few else (90, "center")
        axes.set_xticks(range(len(outcomes)), outcomes, fontsize=size, rotation=turned, ha=anchor)
        axes.set_yticks(range(len(outcomes)), outcomes, fontsize=size)
        axes.set_xlabel("answer")
        axes.set_ylabel("label")
        if few:
            for (row, column), count in np.ndenumerate(matrix):
                colour = "white" if shares[row, column] > 0.5 else "black"
                axes.text(column, row, f"{count:,}", ha="center", va="center", color=colour, fontsize=9)
        figure.colorbar(image, ax=axes, shrink=0.7, fraction=0.04, label="share of the label's rows")
        return svg(figure)


def training_curves(curves: Mapping[str, Sequence[Mapping[str, float]]], metric: str, title: str) -> str:
    """Loss and validation metric of each trained model, epoch by epoch."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(8.4, 3.4), layout="constrained")
        left, right = figure.subplots(1, 2)
        for model, epochs in curves.items():
            numbers = [epoch["epoch"] for epoch in epochs]
            # One task's teacher has a colour with all teachers, and no figure over all tasks.
            line = {"color": COLOURS[model.split()[0]], "label": model, "marker": "o", "markersize": 4}
            left.plot(numbers, [epoch["loss"] for epoch in epochs], **line)
            right.plot(numbers, [epoch.get(f"validation_{metric}", np.nan) for epoch in epochs], **line)
        for axes, words in (
            (left, "training loss (the student's counts the teacher's view too)"),
            (right, f"validation {title}"),
        ):
            axes.set_title(words, fontsize=9, loc="left")
            axes.set_xlabel("epoch")
            axes.xaxis.get_major_locator().set_params(integer=True)
        right.legend(frameon=False, fontsize=9)
        return svg(figure)


def reliability_diagram(bins: Mapping[str, Sequence[Bin]], *, said: str, came: str) -> str:
    """What came true against what was said; on the diagonal it means what it says.

    Args:
        bins: model → its bins.
        said: title of the x axis, such as the confidence.
        came: title of the y axis, such as the accuracy.
    """
    spread = [place for found in bins.values() for b in found for place in (b.confidence, b.accuracy)]
    ends = [min(spread), max(spread)]
    with mpl.rc_context(STYLE):
        figure, axes = _new(4.6, 4.2)
        axes.plot(ends, ends, color="black", linewidth=0.8, linestyle=":")
        for model, found in bins.items():
            sizes = [10 + 150 * b.weight / sum(x.weight for x in found) for b in found]
            places = [b.confidence for b in found], [b.accuracy for b in found]
            axes.plot(*places, color=COLOURS[model], linewidth=1, label=name_of(model))
            axes.scatter(*places, s=sizes, color=COLOURS[model], alpha=0.7)
        axes.set_xlabel(said)
        axes.set_ylabel(came)
        axes.legend(frameon=False, fontsize=9)
        return svg(figure)


def forecasts(values: npt.NDArray[np.float64], medians: npt.NDArray[np.float64], *, scale: str) -> str:
    """Each test row's value against the edge model's median; on the diagonal the forecast is right.

    The scale is matplotlib's name of how both axes are spread.
    """
    chosen = np.random.default_rng(0).permutation(len(values))[:POINTS_SHOWN]
    with mpl.rc_context(STYLE):
        figure, axes = _new(5.4, 5.0)
        ends = [min(values.min(), medians.min()), max(values.max(), medians.max())]
        axes.plot(ends, ends, color="black", linewidth=0.8, linestyle=":")
        axes.scatter(medians[chosen], values[chosen], s=7, alpha=0.35, color=COLOURS["edge"], linewidths=0)
        axes.set_xscale(scale)
        axes.set_yscale(scale)
        axes.set_xlabel("forecast (median)")
        axes.set_ylabel("value")
        return svg(figure)


def quantile_diagram(shares: Mapping[str, Mapping[float, float]]) -> str:
    """Share of values below each forecast quantile; on the diagonal a band holds what it says."""
    with mpl.rc_context(STYLE):
        figure, axes = _new(4.6, 4.2)
        axes.plot([0, 1], [0, 1], color="black", linewidth=0.8, linestyle=":")
        for model, found in shares.items():
            axes.plot(list(found), list(found.values()), color=COLOURS[model], marker="o", label=name_of(model))
        axes.set_xlabel("quantile of the forecast")
        axes.set_ylabel("share of values at or below it")
        axes.legend(frameon=False, fontsize=9)
        return svg(figure)


def ladder(rungs: Sequence[tuple[str, str, float, int]]) -> str:
    """A row a rung, with its time and its size, both on logarithmic scales and beside the first's.

    Args:
        rungs: name, quality in words, median milliseconds and bytes of each.
    """
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(9, 1.1 + 0.42 * len(rungs)), layout="constrained")
        times, sizes = figure.subplots(1, 2, sharey=True)
        places = range(len(rungs))
        bars = (
            (times, "edge", [ms for *_, ms, _ in rungs], "median, ms"),
            (sizes, "teacher", [size_bytes / 1e6 for *_, size_bytes in rungs], "MB"),
        )
        for axes, colour, values, label in bars:
            axes.barh(places, values, color=COLOURS[colour])
            spread_by_factors(axes, (1,))
            axes.set_xlim(min(values) / 2, max(values) * 4)
            axes.set_xlabel(label)
            axes.grid(axis="y", visible=False)
            for place, value in zip(places, values, strict=True):
                axes.text(value * 1.1, place, f"{value:.2f}  {values[0] / value:.1f}×", va="center", fontsize=8)
        times.set_yticks(list(places), [f"{name}  ({words})" for name, words, *_ in rungs])
        times.invert_yaxis()
        return svg(figure)


def frontier(tried: Sequence[Mapping[str, Any]], retention: float, latency_p95_ms: float, title: str) -> str:
    """Retention against the median latency, the marker's area growing with the files.

    Args:
        tried: what a plan tells of each model; without a retention it isn't drawn. What has no forecast is no form of
            the plan, and stands beside.
        retention: the budget's, drawn as a line.
        latency_p95_ms: likewise.
        title: of the figure that is kept.
    """
    with mpl.rc_context(STYLE):
        figure, axes = _new(7.6, 4.4)
        for one in (one for one in tried if one["retention"] is not None):
            colour, point = COLOURS["edge" if one["foreseen_ms"] else "baseline"], (one["p50_ms"], one["retention"])
            axes.scatter(*point, s=20 + 6 * one["size_bytes"] / 1e6, color=colour, alpha=0.85, zorder=3)
            axes.annotate(one["name"], point, (6, 5), textcoords="offset points", fontsize=8)
        axes.axhline(retention, color=COLOURS["control"], linewidth=1, zorder=1)
        axes.axvline(latency_p95_ms, color=COLOURS["control"], linewidth=1, zorder=1)
        spread_by_factors(axes, (1, 2, 5))
        axes.margins(x=0.25, y=0.15)
        axes.set_xlabel("median latency at batch 1 on one thread, ms; the line is the budget's p95")
        axes.set_ylabel(f"{title}: share of the teacher's that is kept")
        return svg(figure)


def escalation(curve: Mapping[str, Sequence[float]], here: tuple[float, float], title: str) -> str:
    """A cascade's figure against the share of rows that go on to the larger model, the least sure first.

    Args:
        curve: shares `escalated` and the `figure` with each.
        here: share and figure of the cascade as it is.
        title: of the figure.
    """
    with mpl.rc_context(STYLE):
        figure, axes = _new(4.6, 3.4)
        axes.plot(curve["escalated"], curve["figure"], color=COLOURS["student"])
        axes.scatter(*here, color=COLOURS["edge"], zorder=3)
        axes.xaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{share:.0%}"))
        axes.set_xlabel("share of the test rows that go on, the least sure first")
        axes.set_ylabel(f"{title} of both together")
        return svg(figure)


def spread_by_factors(axes: Axes, steps: tuple[int, ...]) -> None:
    """A logarithmic scale with plain numbers at these steps of each power of ten."""
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=steps))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda place, _: f"{place:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())


def _label(model: str, figures: Mapping[str, Any]) -> str:
    return f"{name_of(model)}, {figures['size_bytes'] / 1e6:.1f} MB"


def _new(width: float, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots()


def svg(figure: Figure) -> str:
    """A figure as the text of an SVG element."""
    buffer = io.StringIO()
    with warnings.catch_warnings():
        # Of no concern: the browser has the glyphs that matplotlib's own font lacks.
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        figure.savefig(buffer, format="svg", metadata={"Date": None}, bbox_inches="tight", pad_inches=0.1)
    text = buffer.getvalue()
    return text[text.index("<svg") :]

"""How often `potstill drift` alarms for nothing, and which shifts of real rows it finds.

For false alarms, rows that a model has not learnt from are divided at random, again and again, into a reference and a
window. Shifts are put into windows by mixing in rows of another kind: of another file, with dearer prices, with a new
category, without a number, or of a few classes.

    python benchmarks/drift.py EDGE ../shared/data/banking77/test.parquet --label intent \\
        --other "another shop=../shared/data/support_intents/test.parquet:text"
"""

import argparse
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from potstill.data.rows import sample
from potstill.drift.compare import LEVEL, Finding, compare
from potstill.drift.histogram import Histogram, Named, Values
from potstill.drift.observe import answer_columns, ask, input_columns, text_columns
from potstill.drift.pieces import Reader
from potstill.drift.profile import DISTANCE, Profile, read_profile
from potstill.edge import EdgeModel

MOST_ROWS = 4000
WINDOWS = (250, 1000)
INDICES = (0.1, 0.2)
SHARES = (0.05, 0.1, 0.2, 0.5, 1.0)
FACTORS = (1.02, 1.1, 1.25, 1.5)
# Of the classes, those that become more common.
CLASSES = 5
Columns = Mapping[str, Values]
Rows = Sequence[dict[str, Any]]


def main() -> None:
    """Print a line for each size of window, and one for each shift."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("edge", type=Path, help="Folder of a model with its profile.")
    parser.add_argument("rows", help="Rows that the model has not learnt from.")
    parser.add_argument("--other", action="append", default=[], metavar="NAME=FILE:COLUMN", help="Texts to mix in.")
    parser.add_argument("--price", help="A numeric column that becomes dearer, or goes missing.")
    parser.add_argument("--category", help="A categorical column that gets a new value.")
    parser.add_argument("--label", help="Column of the classes, some of which become more common.")
    parser.add_argument("--draws", type=int, default=200, help="Windows for each rate of false alarms.")
    parser.add_argument("--drifting", type=int, default=20, help="Windows for each rate of detection.")
    given = parser.parse_args()
    view = View(given.edge)
    rows, _ = sample(given.rows, MOST_ROWS, 7)
    usual = view.columns(rows)
    print(f"profile of {view.profile.rows:,} rows, {len(usual)} columns; windows from {len(rows):,} rows")
    for size in WINDOWS:
        print(false_alarms(view.profile, usual, size, given.draws), flush=True)
    for name, other, shares in shifts(view, rows, given):
        told = [f"{share:.0%} {detected(view.profile, usual, other, share, given.drifting)}" for share in shares]
        print(f"{name}: {'; '.join(told)}", flush=True)


class View:
    """What is looked at in rows, by a model."""

    def __init__(self, edge: Path) -> None:
        self.model, self.reader = EdgeModel(edge), Reader(edge)
        profile = read_profile(edge)
        assert profile is not None, f"{edge} has no profile"
        self.profile: Profile = profile

    def columns(self, rows: Rows) -> Columns:
        """Every column."""
        texts = [self.model.text(row) for row in rows]
        words = text_columns(self.reader.read(texts), texts, self.reader.unknown, self.profile.frequencies)
        asked = ask(self.model, rows)
        answers = answer_columns(self.model, asked.answers)
        distance = {DISTANCE: self.profile.scale.distance(asked.vectors)}
        return words | input_columns(self.model, rows) | answers | distance


def shifts(view: View, rows: Rows, given: argparse.Namespace) -> Iterator[tuple[str, Columns, Sequence[float]]]:
    """Name, rows of another kind, and the shares of them that windows get."""
    for other in given.other:
        name, _, place = other.partition("=")
        file, _, column = place.rpartition(":")
        drawn, _ = sample(file, 1000, 7)
        strange = [{**row, view.model.text_columns[0]: one[column]} for row, one in zip(rows, drawn, strict=False)]
        yield name, view.columns(strange), SHARES
    if given.price:
        for factor in FACTORS:
            dearer = [{**row, given.price: row[given.price] * factor} for row in rows]
            yield f"{given.price} × {factor}", view.columns(dearer), (1.0,)
        yield f"{given.price} missing", view.columns([{**row, given.price: None} for row in rows]), SHARES
    if given.category:
        yield f"new {given.category}", view.columns([{**row, given.category: "Atlantis"} for row in rows]), SHARES
    if given.label:
        classes = sorted({row[given.label] for row in rows})
        few = classes[:: max(1, len(classes) // CLASSES)]
        yield f"{len(few)} of the classes", view.columns([row for row in rows if row[given.label] in few]), SHARES


def false_alarms(profile: Profile, columns: Columns, size: int, draws: int) -> str:
    """Shares of windows in which anything alarms, by each of several rules."""
    total = len(columns[DISTANCE])
    before = min(profile.rows, total - size)
    names = {n: h.bins.values if isinstance(h.bins, Named) else () for n, h in profile.columns.items()}
    alarms: dict[str, int] = {}
    for seed in range(draws):
        places = np.random.default_rng(seed).permutation(total)
        reference, window = taken(columns, places[:before]), taken(columns, places[before : before + size])
        found = compare({n: Histogram.learn(reference[n], names[n]) for n in reference}, window, INDICES[0])
        for rule, alarmed in rules(found):
            alarms[rule] = alarms.get(rule, 0) + alarmed
    told = ", ".join(f"{name} {count / draws:.1%}" for name, count in alarms.items())
    return f"{before:,} against {size:,} rows of one kind, {draws} times: {told}"


def rules(found: Sequence[Finding]) -> Iterator[tuple[str, bool]]:
    """Whether each rule calls it drift."""
    for index in INDICES:
        yield f"drift from {index}", is_drift(found, index)
    for index in INDICES:
        yield f"PSI from {index} alone", any(one.psi >= index for one in found)
    yield "significant alone", any(one.p_adjusted <= LEVEL for one in found)
    yield "any p below 0.05", any(one.p < 0.05 for one in found)


def is_drift(found: Sequence[Finding], index: float) -> bool:
    """Whether any column differs by so much and beyond chance."""
    return any(one.psi >= index and one.p_adjusted <= LEVEL for one in found)


def detected(profile: Profile, usual: Columns, other: Columns, share: float, draws: int) -> str:
    """Of windows of 1,000 rows, so many of another kind, the share in which drift is found, by index."""
    size = WINDOWS[-1]
    strange = round(share * size)
    found = []
    for seed in range(draws):
        random = np.random.default_rng(seed)
        parts = ((usual, size - strange), (other, strange))
        drawn = [taken(columns, random.choice(len(columns[DISTANCE]), rows)) for columns, rows in parts]
        found.append(compare(profile.columns, joined(*drawn), INDICES[0]))
    return "/".join(f"{np.mean([is_drift(one, index) for one in found]):.0%}" for index in INDICES)


def taken(columns: Columns, places: np.ndarray) -> Columns:
    """Some rows."""
    return {n: v[places] if isinstance(v, np.ndarray) else [v[i] for i in places] for n, v in columns.items()}


def joined(first: Columns, second: Columns) -> Columns:
    """The rows of both."""
    found: dict[str, Values] = {}
    for name, one in first.items():
        other = second[name]
        found[name] = np.concatenate([one, np.asarray(other)]) if isinstance(one, np.ndarray) else [*one, *other]
    return found


if __name__ == "__main__":
    main()

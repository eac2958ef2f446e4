"""How often `potstill watch` alerts for nothing, and how soon it tells a surge, with a model's own answers.

The answers come from a run's `predictions.parquet`, so the model's mistakes are in the streams too. Streams are those
answers drawn anew (in shuffled order, so nothing is to be found); a surge draws more of the texts whose label is bad.

    python benchmarks/watch.py .potstill/latest/predictions.parquet --bad negative
"""

import argparse
import datetime
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq

from potstill.watch import Design, Item, watch

START = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
STREAMS, QUIET_ITEMS, SURGE_ITEMS = 60, 5000, 500


def main() -> None:
    """Print one line for each size of surge."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("predictions", type=Path)
    parser.add_argument("--bad", default="negative")
    parser.add_argument("--task", default="", help="Of a model of several tasks, the one that tells bad news.")
    given = parser.parse_args()
    names = [f"{given.task}_{name}".lstrip("_") for name in ("label", "edge")]
    table = pq.read_table(given.predictions, columns=names, filters=pc.field(names[0]).is_valid())
    true, said = (np.array(table[name].to_pylist()) == given.bad for name in names)
    design = Design()
    print(f"{len(true):,} texts, {true.mean():.1%} bad, {said.mean():.1%} said to be; {design}")
    alarms, items = _false_alarms(said, design)
    print(f"shuffled: {alarms} false alarms in {items:,} items, one in {items / max(alarms, 1):,.0f}")
    for factor in (1.5, 2.0, 3.0):
        delays, early = _delays(true, said, factor, design)
        found = np.array([delay for delay in delays if delay is not None])
        told = (
            f"median delay {np.median(found):.0f} items, 90 % within {np.quantile(found, 0.9):.0f}"
            if len(found)
            else ""
        )
        print(
            f"share of bad texts × {factor}: told in {len(found)} of {len(delays)} streams within "
            f"{SURGE_ITEMS} items; {told} ({early} alarmed before)"
        )


def _stream(said: np.ndarray) -> list[Item]:
    return [Item(START + datetime.timedelta(minutes=i), "all", bool(bad)) for i, bad in enumerate(said)]


def _false_alarms(said: np.ndarray, design: Design) -> tuple[int, int]:
    alarms = 0
    for seed in range(STREAMS):
        drawn = np.random.default_rng(seed).choice(said, design.baseline_items + QUIET_ITEMS)
        alarms += len(list(watch(_stream(drawn), design)))
    return alarms, STREAMS * QUIET_ITEMS


def _delays(true: np.ndarray, said: np.ndarray, factor: float, design: Design) -> tuple[list[int | None], int]:
    """Items from the surge's first to the alert, none where it came not; and how many alarmed before."""
    share = min(factor * true.mean(), 0.95)
    chance = np.where(true, share / true.sum(), (1 - share) / (~true).sum())
    before = design.baseline_items + 500
    delays: list[int | None] = []
    early = 0
    for seed in range(STREAMS):
        random = np.random.default_rng(seed)
        drawn = np.concatenate([random.choice(said, before), random.choice(said, SURGE_ITEMS, p=chance)])
        places = [round((alert.time - START).total_seconds() / 60) for alert in watch(_stream(drawn), design)]
        early += any(place < before for place in places)
        delays.append(next((place - before + 1 for place in places if place >= before), None))
    return delays, early


if __name__ == "__main__":
    main()

"""Latency: one row at a time, as a service sees them."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

R = TypeVar("R")


@dataclass(frozen=True)
class Latency:
    """Percentiles and mean over the rows, in milliseconds, and how many rows."""

    p50_ms: float
    p95_ms: float
    mean_ms: float
    rows: int


def measure(answer: Callable[[R], object], rows: Sequence[R], warmup: int = 20) -> Latency:
    """Time an answer to each row, alone and at its natural length, tokenization included.

    The first `warmup` rows are answered once before. Every timed call counts: none is repeated to look better.

    Args:
        answer: what is timed; for an edge model one opened afresh with one thread.
        rows: at least one.
        warmup: rows answered before the clock runs.
    """
    for row in rows[:warmup]:
        answer(row)
    found = times_ms(answer, rows)
    p50, p95 = np.percentile(found, [50, 95])
    return Latency(float(p50), float(p95), float(found.mean()), len(found))


def times_ms(answer: Callable[[R], object], rows: Sequence[R]) -> npt.NDArray[np.float64]:
    """Milliseconds of an answer to each row `[rows]`."""
    found = []
    for row in rows:
        start = time.perf_counter_ns()
        answer(row)
        found.append((time.perf_counter_ns() - start) / 1e6)
    return np.array(found)

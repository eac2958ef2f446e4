"""Latency: one text at a time, as a service sees them."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Latency:
    """Percentiles over the texts, in milliseconds, and how many texts."""

    p50_ms: float
    p95_ms: float
    rows: int


def measure(answer: Callable[[str], object], texts: Sequence[str], warmup: int = 20) -> Latency:
    """Time an answer to each text, alone and at its natural length, tokenization included.

    The first `warmup` texts are answered once before. Every timed call counts: none is repeated to look better.

    Args:
        answer: what is timed; for an edge model one opened afresh with one thread.
        texts: at least one.
        warmup: texts answered before the clock runs.
    """
    for text in texts[:warmup]:
        answer(text)
    times_ms = []
    for text in texts:
        start = time.perf_counter_ns()
        answer(text)
        times_ms.append((time.perf_counter_ns() - start) / 1e6)
    p50, p95 = np.percentile(times_ms, [50, 95])
    return Latency(float(p50), float(p95), len(times_ms))

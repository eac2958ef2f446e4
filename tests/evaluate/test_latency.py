import time

import pytest

from potstill.evaluate import latency


class Clock:
    """Answers that take a stated time on a clock of their own."""

    def __init__(self, takes_ms: dict[str, float]) -> None:
        self.now, self.takes_ms, self.asked = 0, takes_ms, []

    def answer(self, text: str) -> None:
        self.asked.append(text)
        self.now += round(self.takes_ms[text] * 1e6)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock({str(i): float(i) for i in range(1, 102)})
    monkeypatch.setattr(time, "perf_counter_ns", lambda: found.now)
    return found


def test_percentiles_are_in_milliseconds(clock: Clock):
    found = latency.measure(clock.answer, [str(i) for i in range(1, 102)], warmup=0)
    assert (found.p50_ms, found.p95_ms) == pytest.approx((51, 96))


def test_each_text_is_timed_once_and_warm_up_comes_before(clock: Clock):
    latency.measure(clock.answer, ["5", "3", "9"], warmup=2)
    assert clock.asked == ["5", "3", "5", "3", "9"]


def test_a_slow_start_does_not_count(clock: Clock):
    calls = iter(range(1000))

    def answer(text: str) -> None:
        clock.now += int(1e9 if next(calls) < 3 else 1e6)

    assert latency.measure(answer, ["1", "2", "3", "4"], warmup=3).p95_ms == pytest.approx(1)


def test_a_slow_call_counts(clock: Clock):
    clock.takes_ms["7"] = 500
    assert latency.measure(clock.answer, ["5", "7", "5", "7"], warmup=0).p95_ms > 400

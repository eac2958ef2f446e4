import datetime
import math

import numpy as np
import pytest

from potstill.watch import Chart, Design, Item, highest_share, run_length, steps, threshold, watch

START = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)


def stream(bad: np.ndarray, topic: str = "all") -> list[Item]:
    return [Item(START + datetime.timedelta(minutes=i), topic, bool(b)) for i, b in enumerate(bad)]


def simulated_run_length(usual: float, surge: float, level: float, share: float, runs: int) -> float:
    random, (good, bad) = np.random.default_rng(0), steps(usual, surge)
    lengths = []
    for _ in range(runs):
        at, items = 0.0, 0
        while at < level:
            at = max(0.0, at + (bad if random.random() < share else good))
            items += 1
        lengths.append(items)
    return float(np.mean(lengths))


def test_steps_are_the_log_likelihood_ratios():
    # Odds of 1/4 trebled are 3/4: shares of 1/5 and 3/7.
    good, bad = steps(0.2, 3.0)
    assert good == pytest.approx(math.log((4 / 7) / (4 / 5)))
    assert bad == pytest.approx(math.log((3 / 7) / (1 / 5)))


@pytest.mark.parametrize(("usual", "share"), [(0.2, 0.2), (0.2, 0.45), (0.05, 0.05), (0.05, 0.2)])
def test_the_run_length_is_that_of_simulated_charts(usual: float, share: float):
    expected = simulated_run_length(usual, 3.0, 3.0, share, runs=1500)
    assert run_length(usual, 3.0, 3.0, share) == pytest.approx(expected, rel=0.12)


@pytest.mark.parametrize("usual", [0.02, 0.15, 0.5])
def test_the_threshold_keeps_false_alarms_as_rare_as_asked(usual: float):
    level = threshold(usual, 3.0, 400)
    assert simulated_run_length(usual, 3.0, level, usual, runs=600) == pytest.approx(400, rel=0.2)


def test_a_surge_is_told_soon_with_where_it_began():
    random = np.random.default_rng(1)
    quiet, loud = random.random(1000) < 0.1, random.random(200) < 0.5
    alerts = list(watch(stream(np.concatenate([quiet, loud])), Design(baseline_items=500, false_alarm_items=20_000)))
    first = alerts[0]
    delay = (first.time - START).total_seconds() / 60 - 1000
    assert 0 <= delay < 40
    assert abs((first.began - START).total_seconds() / 60 - 1000) < 20
    assert 0.1 <= first.usual < 0.16
    assert first.share > 0.3


def test_the_usual_share_is_the_upper_end_of_wilsons_interval():
    # p = 0.5, n = 100, z = 1.2816: (0.5 + 0.00821 + 0.0646) / 1.01642.
    assert highest_share(50, 100) == pytest.approx(0.5636, abs=1e-3)
    assert highest_share(0, 200) == pytest.approx(1.2816**2 / (200 + 1.2816**2))
    assert highest_share(200, 200) < 1


def test_topics_do_not_disturb_each_other_and_none_alerts_while_its_share_is_learnt():
    random = np.random.default_rng(2)
    calm, loud = stream(random.random(600) < 0.1, "calm"), stream(random.random(600) < 0.1, "loud")
    loud[400:] = [Item(item.time, "loud", True) for item in loud[400:]]
    mixed = [item for pair in zip(calm, loud, strict=True) for item in pair]
    alerts = list(watch(mixed, Design(baseline_items=300, false_alarm_items=50_000)))
    assert {alert.topic for alert in alerts} == {"loud"}
    assert list(watch(stream(np.ones(299)), Design(baseline_items=300))) == []


def test_a_topic_without_bad_news_so_far_alerts_at_a_few_but_not_at_one():
    bad = np.zeros(260)
    assert not list(watch(stream(bad), Design()))
    bad[[230]] = 1
    assert not list(watch(stream(bad), Design()))
    bad[230:236] = 1
    assert list(watch(stream(bad), Design()))


def test_after_an_alert_the_chart_begins_anew():
    chart = Chart(0.1, Design(false_alarm_items=500))
    alerts = [chart.add(item) for item in stream(np.ones(40))]
    gaps = np.diff([i for i, alert in enumerate(alerts) if alert])
    assert len(set(gaps.tolist())) == 1

"""Early warning: a chart that tells when the share of bad news in a stream has risen.

A Bernoulli CUSUM (Page 1954; Reynolds & Stoumbos 1999): each item adds its log-likelihood ratio of a surge against
the usual share, never below zero; past a threshold it alerts. The threshold follows from how rare a false alarm is
to be, through the average run length of the chart as a Markov chain (Brook & Evans 1972).
"""

import datetime
import math
from collections.abc import Hashable, Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np

STATES = 300
BISECTIONS = 40
# Nine tenths of a normal distribution lie below it.
Z_90 = 1.2816


@dataclass(frozen=True)
class Item:
    """One text of the stream, scored.

    Attributes:
        time: when it was written.
        topic: what it is about.
        bad: whether it counts as bad news.
    """

    time: datetime.datetime
    topic: str
    bad: bool


@dataclass(frozen=True)
class Alert:
    """A surge.

    Attributes:
        time: of the item that raised the alert.
        topic: in which the share of bad news has risen.
        began: time of the first item of the rise, as the chart sees it.
        items: from there to the alert.
        share: of bad news among these.
        usual: share of bad news before, at most.
    """

    time: datetime.datetime
    topic: str
    began: datetime.datetime
    items: int
    share: float
    usual: float


@dataclass(frozen=True)
class Design:
    """What the chart is to notice, and how often it may be wrong.

    Attributes:
        baseline_items: first items of a topic, from which its usual share is learnt; none of them alerts.
        surge: by how much the odds of bad news rise in a surge that is to be noticed.
        false_alarm_items: items of a topic between false alarms, on the average.
    """

    baseline_items: int = 200
    surge: float = 3.0
    false_alarm_items: int = 5000


@dataclass
class Chart:
    """The chart of one topic.

    Args:
        usual: share of bad news, above 0 and below 1.
        design: see there.
    """

    usual: float
    design: Design
    _level: float = field(default=0.0, init=False)
    _rise: list[Item] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        self._steps = steps(self.usual, self.design.surge)
        self._threshold = threshold(self.usual, self.design.surge, self.design.false_alarm_items)

    def add(self, item: Item) -> Alert | None:
        """Take in the next item; after an alert the chart begins anew."""
        self._level += self._steps[item.bad]
        if self._level <= 0:
            self._level, self._rise = 0.0, []
            return None
        self._rise.append(item)
        if self._level < self._threshold:
            return None
        rise, self._level, self._rise = self._rise, 0.0, []
        share = sum(seen.bad for seen in rise) / len(rise)
        return Alert(item.time, item.topic, rise[0].time, len(rise), share, self.usual)


def watch(items: Iterable[Item], design: Design) -> Iterator[Alert]:
    """The alerts of a stream, each topic on a chart of its own.

    Args:
        items: in the order of their times.
        design: see there.
    """
    charts: dict[Hashable, Chart] = {}
    first: dict[str, list[bool]] = {}
    for item in items:
        chart = charts.get(item.topic)
        if chart is not None:
            alert = chart.add(item)
            if alert is not None:
                yield alert
            continue
        seen = first.setdefault(item.topic, [])
        seen.append(item.bad)
        if len(seen) == design.baseline_items:
            charts[item.topic] = Chart(highest_share(sum(seen), len(seen)), design)
            del first[item.topic]


def highest_share(bad: int, items: int) -> float:
    """Upper end of the one-sided 90 % interval of a share (Wilson 1927).

    A share that was learnt too low by chance would raise false alarms for good; one too high only delays true ones.
    """
    share, spread = bad / items, Z_90**2 / items
    half = Z_90 * math.sqrt(share * (1 - share) / items + spread / (4 * items))
    return min((share + spread / 2 + half) / (1 + spread), 1 - 1 / (2 * items))


def steps(usual: float, surge: float) -> tuple[float, float]:
    """What a good and a bad item add to the chart, in nats: the first below zero, the second above."""
    odds = surge * usual / (1 - usual)
    risen = odds / (1 + odds)
    return math.log((1 - risen) / (1 - usual)), math.log(risen / usual)


def threshold(usual: float, surge: float, false_alarm_items: int) -> float:
    """The lowest level at which false alarms are so many items apart, on the average."""
    low, high = 0.0, 1.0
    while run_length(usual, surge, high, usual) < false_alarm_items:
        low, high = high, 2 * high
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        if run_length(usual, surge, middle, usual) < false_alarm_items:
            low = middle
        else:
            high = middle
    return high


def run_length(usual: float, surge: float, level: float, share: float) -> float:
    """Average number of items until the chart reaches a level, from zero, while bad news has a share.

    The level is cut into STATES equal steps, each standing for its middle, and zero; a move between two middles is
    shared out between them, so that its mean is kept.
    """
    good, bad = steps(usual, surge)
    width = level / STATES
    places = np.concatenate([[0.0], (np.arange(STATES) + 0.5) * width])
    stay = np.zeros((STATES + 1, STATES + 1))
    for step, chance in ((good, 1 - share), (bad, share)):
        target = places + step
        for row, place in enumerate(target):
            if place <= 0:
                stay[row, 0] += chance
            elif place < level:
                upper = int(np.searchsorted(places, place))
                upper = min(upper, STATES)
                gap = places[upper] - places[upper - 1]
                part = min(1.0, (place - places[upper - 1]) / gap)
                stay[row, upper] += chance * part
                stay[row, upper - 1] += chance * (1 - part)
    lengths = np.linalg.solve(np.eye(STATES + 1) - stay, np.ones(STATES + 1))
    return float(lengths[0])

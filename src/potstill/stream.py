"""A stream of texts with times, scored by the edge model as it comes."""

import datetime
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from potstill.data.rows import Numbered, batches
from potstill.edge import EdgeModel
from potstill.errors import UserError
from potstill.inputs import name_of, read_date
from potstill.outcomes import Classification, Part, parts_of
from potstill.watch import Alert, Design, Item, watch

# A model and the one of its tasks that is listened to.
Voice = tuple[EdgeModel, Part]


class Scorer:
    """Rows of a stream → items for the charts.

    Args:
        opinion: a model with a task of classes.
        bad: the class that counts as bad news.
        time: column with the moment.
        topic: column with the topic; none: a model tells, or all is one topic.
        topics: a model of topics; none: a second task of classes of the first one is the topic, if it has just one.

    Attributes:
        items: how many were scored.
        seen: items of each topic.

    Raises:
        UserError: a model is no classifier, or has no such class.
    """

    def __init__(self, opinion: EdgeModel, bad: str, time: str, topic: str | None, topics: EdgeModel | None) -> None:
        if topic is not None and topics is not None:
            raise UserError("give either --topic or --topic-model")
        tasks = _tasks_of_classes(opinion)
        names = [name for part in tasks for name in part.outcome.names]
        if bad not in names:
            raise UserError(f"--bad {bad}: no such class; there are {', '.join(names)}")
        mine = next(part for part in tasks if bad in part.outcome.names)
        others = [part for part in tasks if part is not mine]
        self._opinion, self._bad, self._time, self._topic = (opinion, mine), bad, time, topic
        self._topics: Voice | None = None
        if topics is not None:
            self._topics = topics, _tasks_of_classes(topics)[0]
        elif topic is None and len(others) == 1:
            self._topics = opinion, others[0]
        self._latest: datetime.datetime | None = None
        self.items = 0
        self.seen: Counter[str] = Counter()

    def score(self, batch: list[Numbered]) -> list[Item]:
        """Items of some rows, in their order.

        Raises:
            UserError: a row has no text, time or topic, or lies before the one above it; names the row.
        """
        times = [self._moment(number, row) for number, row in batch]
        model, part = self._opinion
        answers = _answers(model, batch)
        bad = [label == self._bad for label in _labels(answers, part)]
        names = self._topics_of(batch, answers)
        self.items += len(batch)
        self.seen.update(names)
        return [Item(*item) for item in zip(times, names, bad, strict=True)]

    def _moment(self, number: int, row: dict[str, Any]) -> datetime.datetime:
        try:
            found = read_date(row.get(self._time), self._time)
        except ValueError as error:
            raise UserError(f"item {number}: {error}") from error
        if found is None:
            raise UserError(f"item {number}: no {self._time!r}; name the column of the moment with --time")
        found = found if found.tzinfo else found.replace(tzinfo=datetime.UTC)
        if self._latest is not None and found < self._latest:
            raise UserError(f"item {number}: {found} lies before the item above it ({self._latest}); sort by time")
        self._latest = found
        return found

    def _topics_of(self, batch: list[Numbered], answers: list[dict[str, Any]]) -> list[str]:
        if self._topics is None:
            return [self._name(*numbered) for numbered in batch]
        model, part = self._topics
        return _labels(answers if model is self._opinion[0] else _answers(model, batch), part)

    def _name(self, number: int, row: dict[str, Any]) -> str:
        if self._topic is None:
            return "all"
        name = name_of(row.get(self._topic))
        if not name:
            raise UserError(f"item {number}: no topic in {self._topic!r}")
        return name


def _tasks_of_classes(model: EdgeModel) -> list[Part]:
    """A model's tasks that answer with a class. Raises UserError where there is none."""
    found = [part for part in parts_of(model.outcome) if isinstance(part.outcome, Classification)]
    if not found:
        what = f"{model.card['recipe']} answers with a {model.outcome.kind}"
        raise UserError(f"watch needs a model of classes; {what}")
    return found


def _labels(answers: list[dict[str, Any]], part: Part) -> list[str]:
    return [str((answer[part.task] if part.task else answer)["label"]) for answer in answers]


def _answers(model: EdgeModel, batch: list[Numbered]) -> list[dict[str, Any]]:
    try:
        return model.answer([row for _, row in batch])
    except ValueError:
        for number, row in batch:
            try:
                model.answer([row])
            except ValueError as error:
                raise UserError(f"item {number}: {error}") from error
        raise


def alerts(stream: Path, scorer: Scorer, design: Design) -> Iterator[dict[str, Any]]:
    """The alerts of a stream, each as JSON values, as soon as they are known.

    Args:
        stream: a JSONL or Parquet file, or `-` for JSONL on stdin.
        scorer: see there.
        design: of the charts.

    Raises:
        UserError: the stream, or one of its rows, can't be read.
    """
    items = (item for batch in batches(stream) for item in scorer.score(batch))
    for alert in watch(items, design):
        yield _plain(alert)


def _plain(alert: Alert) -> dict[str, Any]:
    times = {name: value.isoformat() for name, value in (("time", alert.time), ("began", alert.began))}
    return asdict(alert) | times

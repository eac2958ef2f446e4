"""Cascade: what the smaller model answers of the test rows, what that costs, and what it saves."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from potstill.edge import FIRST, PROFILE, SURE_FROM, EdgeModel, Row
from potstill.evaluate.latency import Latency, measure
from potstill.outcomes import Floats, Probabilities, confidence
from potstill.store import folder_bytes

# Places of the curve.
SHARES = np.linspace(0, 1, 41)
Figure = Callable[[Probabilities], float]


@dataclass(frozen=True)
class Cascade:
    """A cascade and its two models, each by itself.

    Attributes:
        folder: of the cascade.
        records: rows as a service gets them.
        figure: the deciding metric, of probabilities `[rows, outcomes]`.
    """

    folder: Path
    records: Sequence[Row]
    figure: Figure

    @cached_property
    def both(self) -> EdgeModel:
        """As it serves."""
        return EdgeModel(self.folder, threads=1)

    @cached_property
    def first(self) -> Probabilities:
        """What the smaller model says `[rows, outcomes]`."""
        assert self.both.first is not None  # noqa: S101 - the card says that it is there
        return self.both.first.probabilities(self.records)

    @cached_property
    def second(self) -> Probabilities:
        """What the larger one says `[rows, outcomes]`."""
        return self.both.larger.probabilities(self.records)

    @property
    def first_digest(self) -> str:
        """Of the student that the smaller model was made of."""
        assert self.both.first is not None  # noqa: S101 - the card says that it is there
        return str(self.both.first.card["student_digest"])

    @property
    def escalated(self) -> npt.NDArray[np.bool_]:
        """Rows `[rows]` of which the larger one is asked."""
        return self.both.escalates(self.first)

    def figures(self, timed: Sequence[Row], time_of_both: Latency) -> dict[str, Any]:
        """The cascade's share of rows that go on, and figure, times in milliseconds and bytes of each model.

        Args:
            timed: rows whose answers are timed, one by one.
            time_of_both: the cascade's on the same rows.
        """
        first_bytes, bytes_of_both = folder_bytes(self.folder / FIRST), folder_bytes(self.folder, but=PROFILE)
        times = [measure(_asking(model), timed) for model in (EdgeModel(self.folder / FIRST), self.both.larger)]
        mixed = np.where(self.escalated[:, None], self.second, self.first)
        models = {
            "first": (times[0], self.first, first_bytes),
            "second": (times[1], self.second, bytes_of_both - first_bytes),
            "cascade": (time_of_both, mixed, bytes_of_both),
        }
        found = {
            name: {
                "figure": self.figure(probabilities),
                "mean_ms": time.mean_ms,
                "p50_ms": time.p50_ms,
                "p95_ms": time.p95_ms,
                "size_bytes": size_bytes,
            }
            for name, (time, probabilities, size_bytes) in models.items()
        }
        shares, curve = self.curve
        return {
            "sure_from": self.both.card[SURE_FROM],
            "escalated": float(self.escalated.mean()),
            "models": found,
            "curve": {"escalated": shares.tolist(), "figure": curve.tolist()},
        }

    @property
    def curve(self) -> tuple[Floats, Floats]:
        """Shares of the rows that go on, the least sure first, and the figure with each."""
        order = np.argsort(confidence(self.both.outcome, self.first), kind="stable")
        found = []
        for share in SHARES:
            mixed = self.first.copy()
            goes_on = order[: round(share * len(order))]
            mixed[goes_on] = self.second[goes_on]
            found.append(self.figure(mixed))
        return SHARES, np.array(found)


def _asking(model: EdgeModel) -> Callable[[Row], Probabilities]:
    return lambda row: model.probabilities([row])

"""How long an encoder of a given form takes on this machine, learnt from a few that were timed.

Time doesn't depend on what weights say, so a form is timed before anything is trained.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import nnls

from potstill.outcomes import Floats


@dataclass(frozen=True)
class Measures:
    """What decides an encoder's time.

    Attributes:
        layers: how many.
        width: of its states.
        attention: of all heads of a layer together.
        feed_forward: units of a layer.
        first_alone: whether the last layer computes the first token alone.
    """

    layers: int
    width: int
    attention: int
    feed_forward: int
    first_alone: bool = False

    @property
    def layer_weights(self) -> int:
        """Of all layers' matrices."""
        return self.layers * (4 * self.width * self.attention + 2 * self.width * self.feed_forward)

    def operations(self, tokens: Floats) -> Floats:
        """Multiplications and additions for texts of so many tokens `[rows]`."""
        each = tokens * (8 * self.width * self.attention + 4 * self.width * self.feed_forward)
        each = each + 4 * tokens**2 * self.attention
        if not self.first_alone:
            return self.layers * each
        alone = 4 * tokens * self.width * self.attention + 4 * tokens * self.attention
        alone = alone + 4 * self.width * self.attention + 4 * self.width * self.feed_forward
        return (self.layers - 1) * each + alone

    def terms(self, tokens: Floats) -> Floats:
        """What time is a sum of `[rows, 4]`: being asked, layers' calls, their products, their passes over states."""
        ones = np.ones(len(tokens))
        passes = self.layers * tokens * (4 * self.width + 3 * self.attention + 2 * self.feed_forward)
        return np.stack([ones, self.layers * ones, self.operations(tokens) / 1e9, passes / 1e6], axis=1)


@dataclass(frozen=True)
class Timed:
    """A form that was timed: milliseconds `[rows]` for texts of so many tokens `[rows]`."""

    measures: Measures
    tokens: Floats
    ms: Floats


@dataclass(frozen=True)
class Predictor:
    """Predicts times; what each term costs comes from forms that were timed.

    Attributes:
        costs: milliseconds of a term `[4]`.
    """

    costs: Floats

    @classmethod
    def fit(cls, timed: Sequence[Timed]) -> "Predictor":
        """The costs, none below 0, that make relative errors smallest (least squares)."""
        terms = np.concatenate([one.measures.terms(one.tokens) / one.ms[:, None] for one in timed])
        costs, _ = nnls(terms, np.ones(len(terms)))
        return cls(costs)

    def ms(self, measures: Measures, tokens: Floats) -> Floats:
        """Milliseconds of each of texts of so many tokens `[rows]`."""
        found: Floats = measures.terms(tokens) @ self.costs
        return found

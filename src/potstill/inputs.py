"""How a row becomes a model's input: the same in training and in serving.

This file travels with each registered version, so it needs nothing but NumPy.
"""

import datetime
import math
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

SEPARATOR = " | "
# Between the two texts of a pair, until the tokenizer takes them apart; shops write no such sign (U+241E).
PAIR = " ␞ "
# A whole number that was written as a float.
WHOLE = re.compile(r"^(-?\d+)\.0+$")
# The largest float32, which is what a graph takes.
LARGEST = float(np.finfo(np.float32).max)
# Where a category's index points when the row has none, and when training had not this one, or too rarely.
MISSING, UNSEEN = 0, 1
# Categories beyond the commonest, and those seen once, share the place of the unseen.
MOST_CATEGORIES = 10_000
FEWEST_ROWS = 2
# What a date gives: sine and cosine of the place in the day, the week and the year.
DATE_NUMBERS = 6


@dataclass(frozen=True)
class Category:
    """A categorical column and the values that training knows; the first has the index 2."""

    name: str
    values: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.values) + 2

    @cached_property
    def index(self) -> dict[str, int]:
        """Value → index."""
        return {value: i + 2 for i, value in enumerate(self.values)}


@dataclass(frozen=True)
class Features:
    """The columns besides text that a model looks at.

    Attributes:
        numeric: columns of numbers.
        dates: columns of dates, each `DATE_NUMBERS` numbers.
        categorical: columns of names, with what training knows of them.
        missing: texts that stand for a missing value.
    """

    numeric: tuple[str, ...] = ()
    dates: tuple[str, ...] = ()
    categorical: tuple[Category, ...] = ()
    missing: tuple[str, ...] = ()

    @classmethod
    def from_spec(cls, spec: Mapping[str, Any]) -> "Features":
        """Read what `spec` wrote."""
        known = tuple(Category(entry["name"], tuple(entry["values"])) for entry in spec["categorical"])
        return cls(tuple(spec["numeric"]), tuple(spec["dates"]), known, tuple(spec.get("missing", ())))

    def spec(self) -> dict[str, Any]:
        """The columns as JSON."""
        return asdict(self)

    def __bool__(self) -> bool:
        return bool(self.names)

    @property
    def names(self) -> tuple[str, ...]:
        """Every column."""
        return (*self.numeric, *self.dates, *(category.name for category in self.categorical))

    @property
    def numbers(self) -> int:
        """Width of `numeric` as the model gets it."""
        return len(self.numeric) + DATE_NUMBERS * len(self.dates)

    def arrays(self, rows: Sequence[Mapping[Any, Any]]) -> dict[str, npt.NDArray[Any]]:
        """The model's inputs besides text; none of its columns need be there.

        Args:
            rows: column → value; None, NaN, a blank or an absent column is missing.

        Returns:
            `numeric` `[rows, numbers]` float32, NaN where missing, and `categorical` `[rows, columns]` int64.

        Raises:
            ValueError: a value can't be read; names the column.
        """
        numeric = np.full((len(rows), self.numbers), np.nan, dtype=np.float32)
        categorical = np.zeros((len(rows), len(self.categorical)), dtype=np.int64)
        for i, row in enumerate(map(self._without_missing, rows)):
            numbers = [number(row.get(name), name) for name in self.numeric]
            numeric[i] = numbers + [part for name in self.dates for part in date_numbers(row.get(name), name)]
            for j, category in enumerate(self.categorical):
                value = name_of(row.get(category.name))
                categorical[i, j] = category.index.get(value, UNSEEN) if value else MISSING
        return {"numeric": numeric, "categorical": categorical}

    def _without_missing(self, row: Mapping[Any, Any]) -> Mapping[Any, Any]:
        """The row without the texts that stand for a missing value."""
        if not self.missing:
            return row
        return {name: row.get(name) for name in self.names if not is_missing(row.get(name), self.missing)}


def is_missing(value: Any, texts: Collection[str]) -> bool:
    """Whether a value is one of the texts that stand for a missing one, as `name_of` writes both."""
    return bool(texts) and name_of(value) in {name_of(text) for text in texts}


def learn_category(name: str, counts: Mapping[str, int]) -> Category:
    """What training knows of a categorical column, from the rows of each value: the commonest, ordered by name."""
    often = [(count, value) for value, count in counts.items() if value and count >= FEWEST_ROWS]
    kept = sorted(often, key=lambda pair: (-pair[0], pair[1]))[:MOST_CATEGORIES]
    return Category(name, tuple(sorted(value for _, value in kept)))


def join_texts(texts: Sequence[str | None], pair: bool = False) -> str:
    """The text columns of a row as one text, their ends stripped; missing and blank ones are left out.

    Of a pair the last column is the second text, which a model sees as such: `split_pair` takes it off again. Where one
    of the two is missing, the other is a text like any.
    """
    known = [text.strip() for text in texts if text and text.strip()]
    if not pair or len(known) < 2 or not (texts[-1] or "").strip():
        return SEPARATOR.join(known)
    return SEPARATOR.join(known[:-1]) + PAIR + known[-1]


def split_pair(text: str) -> str | tuple[str, str]:
    """A joined text as a tokenizer takes it: the two texts of a pair, or the one that there is."""
    first, _, second = text.partition(PAIR)
    return (first, second) if second else text


def name_of(value: Any) -> str:
    """A category as text: whole numbers without a point, booleans as `true` and `false`; empty when missing.

    Text is read alike, for a CSV has `1.0` and `True` where a table has 1 and true.
    """
    if is_absent(value):
        return ""
    if isinstance(value, bool | np.bool_):
        return "true" if value else "false"
    if isinstance(value, float | np.floating):
        return str(int(value)) if float(value).is_integer() else str(float(value))
    text = str(value).strip()
    if text.lower() in {"true", "false"}:
        return text.lower()
    return WHOLE.sub(r"\1", text)


def number(value: Any, column: str) -> float:
    """A value as a number, NaN when missing. Raises ValueError where it is none, infinite, or beyond float32."""
    if is_absent(value) or (isinstance(value, str) and not value.strip()):
        return math.nan
    try:
        found = float(value)
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"{column}: {value!r} is not a number") from None
    if math.isinf(found):
        raise ValueError(f"{column}: {value!r} is not finite")
    if abs(found) > LARGEST:
        raise ValueError(f"{column}: {value!r} is too large a number")
    return found


def is_absent(value: Any) -> bool:
    """Whether a value is none: None, NaN, or what pandas has for it, of which `!=` can't be asked."""
    if value is None or type(value).__name__ in {"NAType", "NaTType"}:
        return True
    return isinstance(value, float | np.floating) and math.isnan(value)


def date_numbers(value: Any, column: str) -> list[float]:
    """A date as places on three circles: of the day, the week and the year; NaN when missing.

    Raises ValueError where it is no ISO 8601 date.
    """
    moment = read_date(value, column)
    if moment is None:
        return [math.nan] * DATE_NUMBERS
    hours = moment.hour + moment.minute / 60
    places = (hours / 24, (moment.weekday() + hours / 24) / 7, (moment.timetuple().tm_yday - 1) / 365.25)
    return [wave(2 * math.pi * place) for place in places for wave in (math.sin, math.cos)]


def read_date(value: Any, column: str) -> datetime.datetime | None:
    """A date, or an ISO 8601 text as one; None when missing. Raises ValueError where it is neither."""
    if is_absent(value) or (isinstance(value, str) and not value.strip()):
        return None
    if isinstance(value, datetime.datetime):
        return value
    try:
        return datetime.datetime.fromisoformat(str(value).strip())
    except ValueError:
        raise ValueError(f"{column}: {value!r} is not a date as in 2026-11-24 or 2026-11-24T09:30") from None

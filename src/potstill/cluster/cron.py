"""Cron expressions as Kubeflow Pipelines reads them: six fields, seconds first.

The backend's parser is the first version of github.com/robfig/cron. Of five fields it takes the first for seconds and
misses the day of the week; so a crontab's line would run at other times than it says. Here it is refused.
"""

from dataclasses import dataclass, field

MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
LONGEST = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
EVERY = ("*", "?")


@dataclass(frozen=True)
class _Field:
    """One field: its least and greatest number, and the names that stand for numbers."""

    title: str
    low: int
    high: int
    names: dict[str, int] = field(default_factory=dict)


FIELDS = (
    _Field("second", 0, 59),
    _Field("minute", 0, 59),
    _Field("hour", 0, 23),
    _Field("day of month", 1, 31),
    _Field("month", 1, 12, {name: number for number, name in enumerate(MONTHS, 1)}),
    _Field("day of week", 0, 6, {name: number for number, name in enumerate(DAYS)}),
)


def check_cron(text: str) -> str:
    """The expression itself, if the backend will read it as it is meant.

    Raises:
        ValueError: it is none; tells which field is wrong.
    """
    parts = text.split()
    if len(parts) != len(FIELDS):
        order = ", ".join(part.title for part in FIELDS)
        raise ValueError(f"{len(parts)} fields instead of {len(FIELDS)} ({order}); a crontab's line lacks the second")
    values = [_numbers(part, kind) for part, kind in zip(parts, FIELDS, strict=True)]
    days, months = values[3], values[4]
    # A day of the week that is given lets it run on other days too.
    if parts[5] in EVERY and all(min(days) > LONGEST[month - 1] for month in months):
        raise ValueError(f"day of month {parts[3]!r}: month {parts[4]!r} has no such day; it would never run")
    return " ".join(parts)


def _numbers(part: str, kind: _Field) -> set[int]:
    """The numbers that a field stands for: a list of numbers, ranges and steps."""
    chosen: set[int] = set()
    for piece in part.split(","):
        try:
            chosen |= _piece(piece.lower(), kind)
        except ValueError as error:
            raise ValueError(f"{kind.title} {part!r}: {error}") from error
    return chosen


def _piece(piece: str, kind: _Field) -> set[int]:
    span, slash, step = piece.partition("/")
    if slash and not (step.isascii() and step.isdecimal() and int(step) > 0):
        raise ValueError(f"after / comes a number from 1, not {step!r}")
    first, dash, last = span.partition("-")
    if span in EVERY:
        low, high = kind.low, kind.high
    else:
        low = _number(first, kind)
        # 5/15 is 5 and each fifteenth after it.
        high = _number(last, kind) if dash else (kind.high if slash else low)
    if low > high:
        raise ValueError(f"{span} goes backwards")
    return set(range(low, high + 1, int(step) if slash else 1))


def _number(word: str, kind: _Field) -> int:
    number = int(word) if word.isascii() and word.isdecimal() else kind.names.get(word)
    if number is None or not kind.low <= number <= kind.high:
        names = f" or {next(iter(kind.names))}, …" if kind.names else ""
        raise ValueError(f"{word!r} is not {kind.low} to {kind.high}{names}")
    return number

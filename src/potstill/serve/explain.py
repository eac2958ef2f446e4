"""Explain: which words of a text mattered for its answer."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from potstill.outcomes import Classification, Outcome, Part, Rate, Retrieval, Value, parts_of

# A run of letters and digits, a sign of a language that writes no spaces, or any other sign.
WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]|[^\W\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]+|[^\w\s]")
MOST_WORDS = 60


def words_of(text: str) -> list[tuple[int, int]]:
    """Where the first words begin and end, at most 60."""
    found = (match.span() for match in WORD.finditer(text))
    return [span for span, _ in zip(found, range(MOST_WORDS), strict=False)]


def without_each(text: str, spans: Sequence[tuple[int, int]]) -> list[str]:
    """The text as often as there are words, each time without one."""
    return [text[:start] + text[end:] for start, end in spans]


def weights(outcome: Outcome, answer: Mapping[str, Any], others: Sequence[Mapping[str, Any]]) -> dict[str, list[float]]:
    """By task, what each word adds to the answer: what is lost when it is left out (Li et al. 2016).

    It is the probability of what was chosen, or the mean of a forecast in its units.

    Args:
        outcome: what answers mean.
        answer: to the whole text.
        others: to the text without each word.
    """
    found = {}
    for part in parts_of(outcome):
        own, *left = ((said[part.task] if part.task else said) for said in (answer, *others))
        whole = _score(part, own, own)
        found[part.task] = [whole - _score(part, own, other) for other in left]
    return found


def _score(part: Part, chosen: Mapping[str, Any], said: Mapping[str, Any]) -> float:
    """How much an answer says of what was chosen."""
    match part.outcome:
        case Classification():
            return float(said["probabilities"][chosen["label"]])
        case Rate():
            return float(said["rate"])
        case Value():
            return float(said["mean"])
        case Retrieval():
            return float(said["answers"].get(chosen["answer"], 0.0))

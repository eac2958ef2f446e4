"""How a row becomes a model's input: the same in training and in serving.

This file travels with each registered version, so it needs nothing but Python.
"""

from collections.abc import Sequence

SEPARATOR = " | "


def join_texts(texts: Sequence[str | None]) -> str:
    """The text columns of a row as one text, their ends stripped; missing and blank ones are left out."""
    return SEPARATOR.join(text.strip() for text in texts if text and text.strip())

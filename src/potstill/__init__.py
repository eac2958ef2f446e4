"""Potstill distils a large language-understanding model into one small enough for a shop's CPU path."""

from importlib.metadata import version

__version__ = version("potstill")

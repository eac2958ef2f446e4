"""The overview a person reads first: the verdict, the models and the worst classes, as Markdown."""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from potstill.evaluate.report import champion_words, columns_of, table_rows, verdict_words
from potstill.store import write_text

WORST = 10


def write_overview(path: Path, summary: Mapping[str, Any]) -> None:
    """Write the overview of a summary that register has completed."""
    write_text(path, "\n\n".join(_blocks(summary)) + "\n")


def _blocks(summary: Mapping[str, Any]) -> Iterator[str]:
    yield f"# {_text(summary['recipe'])}"
    yield f"{_text(summary['task'])}, {summary['rows']['test']:,} test rows"
    if summary["dry_run"]:
        yield f"**{_text(summary['dry_run'])}**"
    yield f"**{_text(verdict_words(summary))}**"
    clauses = summary["verdict"]["clauses"]
    yield "\n".join(f"- {'✓' if clause['passed'] else '✗'} {_text(clause['words'])}" for clause in clauses)
    yield _text(champion_words(summary))
    yield "## Models"
    yield _table(columns_of(summary), table_rows(summary))
    for task, matrix in summary["confusion"].items():
        yield f"## {_text(task)}: classes with the lowest F1"
        yield _table(("class", "rows", "precision", "recall", "F1"), worst_classes(matrix["counts"], matrix["names"]))


def worst_classes(counts: Sequence[Sequence[int]], names: Sequence[str]) -> list[tuple[str, ...]]:
    """Classes as text with rows, precision, recall and F1, the lowest F1 first; those without a row are left out."""
    matrix = np.array(counts)
    right, labelled, guessed = matrix.diagonal(), matrix.sum(axis=1), matrix.sum(axis=0)
    f1 = 2 * right / np.maximum(labelled + guessed, 1)
    order = [i for i in np.argsort(f1, kind="stable") if labelled[i]]
    return [
        (
            names[i],
            f"{labelled[i]:,}",
            f"{right[i] / guessed[i]:.1%}" if guessed[i] else "–",
            f"{right[i] / labelled[i]:.1%}",
            f"{f1[i]:.3f}",
        )
        for i in order[:WORST]
    ]


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    marks = [":--", *["--:"] * (len(heads) - 1)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (map(_text, heads), marks, *(map(_text, r) for r in rows)))


def _text(words: str) -> str:
    """Words as they are: names of classes hold whatever the shop's data does."""
    return re.sub(r"([\\`*_\[\]<>|~&$#])", r"\\\1", " ".join(words.split()))

"""What a pipeline's page draws of an evaluation: a handful of figures, and one matrix and one curve.

KFP keeps these as an artifact's metadata and hands them about in messages of 4 MiB (kubeflow/pipelines issue 11949):
so they are plain values, and not too many.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from potstill.evaluate.names import MODELS
from potstill.outcomes import outcome_of, parts_of

# More are too small to be seen, and a table of more cells is slow to draw.
CLASSES_DRAWN = 100


@dataclass(frozen=True)
class Drawn:
    """What is drawn of a task.

    Attributes:
        task: its name.
        matrix: names of its classes, and counts `[label][answer]`; none where there are no classes.
        curve: false positive rates, true positive rates, thresholds; none where there is no curve.
    """

    task: str
    matrix: tuple[list[str], list[list[int]]] | None
    curve: tuple[list[float], list[float], list[float]] | None


def figures(summary: Mapping[str, Any]) -> dict[str, float | str]:
    """The deciding metric of every model, what the edge model keeps and costs, and the verdict.

    A figure that is not a number is left out.
    """
    models, first = summary["models"], next(iter(summary["metrics"]))
    edge = models["edge"]
    found = {f"{model}_{first}": models[model][first] for model in MODELS if model in models}
    found |= {name: edge[name] for name in ("retention", "agreement", "latency_p95_ms")}
    found["size_mb"] = edge["size_bytes"] / 1e6
    verdict = "accepted" if summary["verdict"]["accepted"] else "refused"
    return {"verdict": verdict, **{name: value for name, value in found.items() if value is not None}}


def drawn(summary: Mapping[str, Any]) -> Drawn | None:
    """The edge model's matrix and curve of the first task that has any; none for forecasts of values and retrieval.

    The page draws one of each an artifact, and a step's artifacts don't depend on its recipe. The report has all tasks.
    """
    for part in parts_of(outcome_of(summary["outcome"])):
        task = part.task or summary["task"]
        matrix, curve = summary["confusion"].get(task), summary["roc"].get(task)
        if matrix or curve:
            return Drawn(
                task,
                bounded(matrix["names"], matrix["counts"]) if matrix else None,
                (curve["false_positive_rate"], curve["true_positive_rate"], curve["threshold"]) if curve else None,
            )
    return None


def bounded(names: Sequence[str], counts: Sequence[Sequence[int]]) -> tuple[list[str], list[list[int]]]:
    """A matrix of no more than `CLASSES_DRAWN` classes: those with most mistakes stay, the others become one."""
    matrix = np.array(counts)
    if len(names) <= CLASSES_DRAWN:
        return list(names), matrix.tolist()
    mistakes = matrix.sum(axis=0) + matrix.sum(axis=1) - 2 * matrix.diagonal()
    kept = np.sort(np.argsort(-mistakes, kind="stable")[: CLASSES_DRAWN - 1])
    places = np.full(len(names), len(kept))
    places[kept] = np.arange(len(kept))
    small = np.zeros((CLASSES_DRAWN, CLASSES_DRAWN), dtype=np.int64)
    np.add.at(small, (places[:, None], places), matrix)
    return [*(names[i] for i in kept), f"{len(names) - len(kept)} others"], small.tolist()

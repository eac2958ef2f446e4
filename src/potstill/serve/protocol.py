"""Protocol: rows and answers as the tensors of the Open Inference Protocol, version 2.

https://github.com/kserve/open-inference-protocol. A text is a BYTES tensor `[rows]` named as its column, a feature one
of numbers or BYTES; what all rows lack is left out. A field of answers is a tensor; a null in one is an empty text.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictInt

from potstill.edge import EdgeModel, Row
from potstill.outcomes import Classification, Outcome, Part, Retrieval, parts_of

TEXTS, NUMBERS = "BYTES", "FP64"
# Fields of answers that are no numbers.
DATATYPES = {"label": TEXTS, "reply": TEXTS, "answer": TEXTS, "answers": TEXTS, "in_scope": "BOOL"}
SCORES = "answers_confidence"


class TensorIn(BaseModel):
    """A tensor of a request; its data may be nested or flat."""

    model_config = ConfigDict(extra="ignore")

    name: str
    shape: list[StrictInt] = Field(min_length=1, max_length=2)
    datatype: Literal["BYTES", "BOOL", "FP64", "FP32", "INT64", "INT32", "INT16", "INT8"]
    data: list[Any]


class Wanted(BaseModel):
    """An output that is asked for."""

    model_config = ConfigDict(extra="ignore")

    name: str


class InferRequest(BaseModel):
    """The body of `infer`."""

    model_config = ConfigDict(extra="ignore")

    id: str | None = None
    inputs: list[TensorIn] = Field(min_length=1, fail_fast=True)
    outputs: Annotated[list[Wanted] | None, Field(fail_fast=True)] = None


def rows_of(edge: EdgeModel, tensors: Sequence[TensorIn]) -> list[Row]:
    """The rows that tensors tell.

    Raises:
        ValueError: a name that the model doesn't know, or shapes that don't fit; says which.
    """
    known = [*edge.text_columns, *edge.features.names]
    columns: dict[str, list[Any]] = {}
    for tensor in tensors:
        if tensor.name not in known:
            raise ValueError(f"inputs: no column {tensor.name!r}; there is {', '.join(known)}")
        if tensor.name in columns:
            raise ValueError(f"inputs: {tensor.name!r} is there twice")
        if tensor.name in edge.text_columns and tensor.datatype != TEXTS:
            raise ValueError(f"inputs: {tensor.name!r} is {tensor.datatype}; a text is {TEXTS}")
        columns[tensor.name] = _values(tensor)
    lengths = {name: len(values) for name, values in columns.items()}
    if 0 in lengths.values():
        raise ValueError("inputs: there are no rows")
    if len(set(lengths.values())) > 1:
        raise ValueError(
            f"inputs: {', '.join(f'{name} has {n} rows' for name, n in lengths.items())}; give all as many"
        )
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _values(tensor: TensorIn) -> list[Any]:
    """A tensor `[rows]` or `[rows, 1]` as a list."""
    flat = [value for part in tensor.data for value in (part if isinstance(part, list) else [part])]
    rows = tensor.shape[0]
    if tensor.shape[1:] not in ([], [1]) or len(flat) != rows:
        raise ValueError(f"inputs: {tensor.name!r} has shape {tensor.shape} and {len(flat)} values; give [rows]")
    return flat


def tensors_of(outcome: Outcome, answers: Sequence[Mapping[str, Any]], wanted: Sequence[str]) -> list[dict[str, Any]]:
    """Answers as tensors: all, or those that are wanted.

    Raises:
        ValueError: one is wanted that isn't there.
    """
    found = {}
    for part in parts_of(outcome):
        own = [answer[part.task] for answer in answers] if part.task else list(answers)
        for field in part.outcome.fields:
            for tensor in _tensors(part, field, [answer[field] for answer in own]):
                found[tensor["name"]] = tensor
    missing = [name for name in wanted if name not in found]
    if missing:
        raise ValueError(f"outputs: no {missing[0]!r}; there is {', '.join(found)}")
    return [found[name] for name in wanted or found]


def _tensors(part: Part, field: str, values: Sequence[Any]) -> list[dict[str, Any]]:
    """A field of the answers; what a dictionary says is two of them, unless its keys are always the same."""
    if isinstance(part.outcome, Retrieval) and field == "answers":
        texts, scores = [list(told) for told in values], [list(told.values()) for told in values]
        return [_tensor(part.named(field), TEXTS, texts), _tensor(part.named(SCORES), NUMBERS, scores)]
    if isinstance(part.outcome, Classification) and field == "probabilities":
        tensor = _tensor(part.named(field), NUMBERS, [list(told.values()) for told in values])
        return [tensor | {"parameters": {"names": list(part.outcome.names)}}]
    datatype = DATATYPES.get(field, NUMBERS)
    return [_tensor(part.named(field), datatype, ["" if value is None else value for value in values])]


def _tensor(name: str, datatype: str, values: list[Any]) -> dict[str, Any]:
    """A tensor with its data flat, row after row."""
    if values and isinstance(values[0], list):
        shape = [len(values), len(values[0])]
        return {"name": name, "datatype": datatype, "shape": shape, "data": [v for row in values for v in row]}
    return {"name": name, "datatype": datatype, "shape": [len(values)], "data": values}


def metadata(name: str, version: str, edge: EdgeModel) -> dict[str, Any]:
    """What the model takes and gives; −1 stands for the rows."""
    numbers = {*edge.features.numeric}
    inputs = [
        {"name": column, "datatype": NUMBERS if column in numbers else TEXTS, "shape": [-1]}
        for column in (*edge.text_columns, *edge.features.names)
    ]
    return {
        "name": name,
        "versions": [version],
        "platform": "potstill_onnxruntime",
        "inputs": inputs,
        "outputs": [output for part in parts_of(edge.outcome) for output in _outputs(part)],
    }


def _outputs(part: Part) -> list[dict[str, Any]]:
    found = []
    for field in part.outcome.fields:
        shape = [-1, len(part.outcome)] if field == "probabilities" else [-1, -1] if field == "answers" else [-1]
        found.append({"name": part.named(field), "datatype": DATATYPES.get(field, NUMBERS), "shape": shape})
        if field == "answers":
            found.append({"name": part.named(SCORES), "datatype": NUMBERS, "shape": shape})
    return found

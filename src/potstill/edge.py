"""The edge model at work: text in, probabilities out, on ONNX Runtime and tokenizers alone.

This file also travels with each registered version: MLflow runs it on load ("models from code"), so that neither
Potstill nor torch must be installed where the model serves. Of Potstill it imports only the two modules that travel
with it.
"""

import copy
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
from tokenizers import Tokenizer

if __package__:
    from potstill.inputs import Features, is_absent, join_texts, split_pair
    from potstill.outcomes import Classification, Retrieval, outcome_of, parts_of, side_by_side, unsure
else:
    try:  # The two modules that travel with a registered version go first.
        from inputs import Features, is_absent, join_texts, split_pair  # type: ignore[import-not-found, no-redef]
        from outcomes import Classification, Retrieval, outcome_of, parts_of, side_by_side, unsure  # type: ignore[import-not-found, no-redef]
    except ModuleNotFoundError:  # MLflow runs this file once while it is registered, before they are beside it.
        from potstill.inputs import Features, is_absent, join_texts, split_pair
        from potstill.outcomes import Classification, Retrieval, outcome_of, parts_of, side_by_side, unsure

# A text alone, or a row of a table: column → value.
Row = str | Mapping[Any, Any]


CARD, TOKENIZER, CATALOGUE, VECTORS = "card.json", "tokenizer.json", "catalogue.json", "catalogue.f16"
# What drift is measured against. It travels with the model, which doesn't need it to answer: it counts for no size.
PROFILE = "profile.json"
# Little-endian on every machine.
VECTOR_TYPE = "<f2"
# Folder of the smaller model of a cascade, and the card's name for the confidence from which on its answer stands.
FIRST, SURE_FROM = "first", "sure_from"


class EdgeModel:
    """A folder with `model.onnx`, `tokenizer.json` and `card.json`; to retrieve answers, with a catalogue of them.

    Of a cascade the folder also holds `first`, the folder of a smaller model, whose answer stands where it is sure.

    Args:
        folder: what compress wrote: `edge/small` or `edge/float`.
        threads: of the session. One is fastest for a service with a process a core.

    Attributes:
        card: what the model is and where it comes from.
        outcome: what the probabilities mean.
        text_columns: the columns that the text has in a table; several are joined.
        features: the columns besides text.
        first: the smaller model that is asked before, of a cascade.
    """

    def __init__(self, folder: str | Path, threads: int = 1) -> None:
        folder = Path(folder)
        self.card: dict[str, Any] = json.loads((folder / CARD).read_text(encoding="utf-8"))
        self.outcome = outcome_of(self.card["outcome"])
        self.text_columns: tuple[str, ...] = tuple(self.card["text"])
        self._pair: bool = self.card.get("pair", False)
        self.features = Features.from_spec(self.card["features"])
        self._tokenizer = Tokenizer.from_file(str(folder / TOKENIZER))
        self._tokenizer.enable_truncation(self.card["max_tokens"])
        self._tokenizer.enable_padding(pad_id=self.card["pad_token_id"], pad_token=self.card["pad_token"])
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = threads
        self._session = onnxruntime.InferenceSession(folder / "model.onnx", options, providers=["CPUExecutionProvider"])
        self.first = EdgeModel(folder / FIRST, threads) if SURE_FROM in self.card else None
        self._vectors: npt.NDArray[np.float32] | None = None
        if (folder / CATALOGUE).is_file():
            answers = json.loads((folder / CATALOGUE).read_text(encoding="utf-8"))
            vectors = np.fromfile(folder / VECTORS, dtype=VECTOR_TYPE).reshape(len(answers), -1)
            self._know(answers, vectors.astype(np.float32))

    def learn_catalogue(self, answers: Sequence[str]) -> None:
        """Choose from these answers from now on."""
        self._know(answers, self.logits(answers))

    def _know(self, answers: Sequence[str], vectors: npt.NDArray[np.float32]) -> None:
        if not isinstance(self.outcome, Retrieval):
            raise TypeError(f"a {self.outcome.kind} has no catalogue")
        self.outcome, self._vectors = self.outcome.over(answers), vectors

    def logits(self, rows: Sequence[Row], batch_size: int = 1) -> npt.NDArray[np.float32]:
        """Logits `[rows, outcomes]`, in the order given; batches of like length, so that little is padding.

        Of a cascade they are the larger model's. A model that retrieves answers has no logits: it gives the texts'
        vectors `[rows, width]`.

        Args:
            rows: texts, or rows of a table: column → value.
            batch_size: rows a batch. More than one gains nothing on most CPUs, and makes what a dynamically quantised
                model says of a row depend on its neighbours: they share the scale of their activations.

        Raises:
            ValueError: a row has no text column, or a feature that can't be read.
        """
        tables = [{self.text_columns[0]: row} if isinstance(row, str) else row for row in rows]
        texts = [self.text(row) for row in tables]
        found: list[npt.NDArray[np.float32]] = []
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        for start in range(0, len(order), batch_size):
            chosen = order[start : start + batch_size]
            encodings = self._tokenizer.encode_batch([split_pair(texts[i]) for i in chosen])
            inputs = {
                "input_ids": np.array([encoding.ids for encoding in encodings], dtype=np.int64),
                "attention_mask": np.array([encoding.attention_mask for encoding in encodings], dtype=np.int64),
            }
            if self.features:
                inputs |= self.features.arrays([tables[i] for i in chosen])
            found.append(self._session.run(["logits"], inputs)[0])
            # A sum is no number where one of its parts is none, and takes less time than to look at each.
            if not math.isfinite(found[-1].sum()):
                raise ValueError("the model has no answer: a number among the features is too large for it")
        if len(rows) == 1:
            return found[0]
        logits = np.concatenate(found) if found else np.empty((0, len(self.outcome)), dtype=np.float32)
        return logits[np.argsort(order)]

    def probabilities(self, rows: Sequence[Row], batch_size: int = 1) -> npt.NDArray[np.float64]:
        """Probabilities `[rows, outcomes]`, in the order given; of a retrieval `[rows, answers]`."""
        if self.first is None:
            return self._own(rows, batch_size)
        found = self.first.probabilities(rows, batch_size)
        unsure = np.flatnonzero(self.escalates(found)).tolist()
        if unsure:
            found[unsure] = self._own([rows[i] for i in unsure], batch_size)
        return found

    def escalates(self, firsts: npt.NDArray[np.floating]) -> npt.NDArray[np.bool_]:
        """Rows `[rows]` of which the first of a cascade is not sure, or which it would refuse.

        Args:
            firsts: its probabilities `[rows, outcomes]`.
        """
        return unsure(self.outcome, firsts, self.card[SURE_FROM])

    def answering(self, row: Row) -> "EdgeModel":
        """The model whose answer to a row stands: of a cascade one of its two, else this one."""
        if self.first is None:
            return self
        return self.larger if self.escalates(self.first.probabilities([row]))[0] else self.first

    @property
    def larger(self) -> "EdgeModel":
        """The larger model of a cascade by itself; it shares what this one has loaded."""
        alone = copy.copy(self)
        alone.first = None
        return alone

    def _own(self, rows: Sequence[Row], batch_size: int) -> npt.NDArray[np.float64]:
        logits = self.logits(rows, batch_size)
        if isinstance(self.outcome, Retrieval):
            if self._vectors is None:
                raise ValueError("there is no catalogue to choose from")
            return self.outcome.probabilities(logits, self._vectors)
        return side_by_side(self.outcome, logits)

    def answer(self, rows: Sequence[Row], batch_size: int = 1) -> list[dict[str, Any]]:
        """For each row what its outcome says: a class with probabilities and its reply, or a forecast with its band.

        Of several tasks it is one such answer each, by the task's name.
        """
        answers = self.outcome.answers(self.probabilities(rows, batch_size))
        for part in parts_of(self.outcome):
            if isinstance(part.outcome, Classification) and part.outcome.replies:
                for row, answer in zip(rows, answers, strict=True):
                    known = {self.text_columns[0]: row} if isinstance(row, str) else row
                    own = answer[part.task] if part.task else answer
                    answerable = own.get("in_scope", True)
                    own["reply"] = part.outcome.reply(own["label"], known) if answerable else None
        return answers

    def text(self, row: Mapping[Any, Any]) -> str:
        """The text of a row; it may be blank, but one of its columns must be there, or it is a ValueError."""
        texts = [self._text_in(row, column) for column in self.text_columns]
        if texts.count(None) == len(texts):
            raise ValueError(f"no text in {' or '.join(map(repr, self.text_columns))}")
        return join_texts(texts, self._pair)

    @staticmethod
    def _text_in(row: Mapping[Any, Any], column: str) -> str | None:
        value = row.get(column)
        if isinstance(value, str):
            # Half a character, as at the end of a text that was cut, is no Unicode; the tokenizer would fail.
            return value.encode("utf-8", "replace").decode("utf-8")
        if is_absent(value):
            return None
        raise ValueError(f"{column}: {value!r} is not text")


if not __package__:  # MLflow has loaded this file by itself, from a registered version.
    import mlflow
    import pandas as pd

    class EdgePythonModel(mlflow.pyfunc.PythonModel):
        """The edge model as MLflow's generic flavour: a table with a text column in, a table of answers out."""

        def load_context(self, context: Any) -> None:
            """Open the files that travel with the version."""
            self._edge = EdgeModel(context.artifacts["edge"])

        def predict(
            self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None
        ) -> pd.DataFrame:
            """What `EdgeModel.answer` says as columns, a row for each row of the input."""
            answers = self._edge.answer(model_input.to_dict("records"))
            return pd.DataFrame(answers, columns=list(self._edge.outcome.fields), index=model_input.index)

    mlflow.models.set_model(EdgePythonModel())

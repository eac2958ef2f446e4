"""The edge model at work: text in, probabilities out, on ONNX Runtime and tokenizers alone.

This file also travels with each registered version: MLflow runs it on load ("models from code"), so that neither
Potstill nor torch must be installed where the model serves. It therefore imports nothing of Potstill.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
from tokenizers import Tokenizer


class EdgeModel:
    """A folder with `model.onnx`, `tokenizer.json` and `card.json`.

    Args:
        folder: what compress wrote: `edge/int8` or `edge/float`.
        threads: of the session. One is fastest for a service with a process a core.

    Attributes:
        card: what the model is and where it comes from.
        outcomes: names of the outcomes, in the order of the probabilities.
        text_column: the column that the text has in a table.
    """

    def __init__(self, folder: str | Path, threads: int = 1) -> None:
        folder = Path(folder)
        self.card: dict[str, Any] = json.loads((folder / "card.json").read_text(encoding="utf-8"))
        self.outcomes: tuple[str, ...] = tuple(self.card["outcomes"])
        self.text_column: str = self.card["text"]
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.enable_truncation(self.card["max_tokens"])
        self._tokenizer.enable_padding(pad_id=self.card["pad_token_id"], pad_token=self.card["pad_token"])
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = threads
        self._session = onnxruntime.InferenceSession(folder / "model.onnx", options, providers=["CPUExecutionProvider"])

    def logits(self, texts: Sequence[str], batch_size: int = 32) -> npt.NDArray[np.float32]:
        """Logits `[texts, outcomes]`, in the order given; batches of like length, so that little is padding."""
        found = np.empty((len(texts), len(self.outcomes)), dtype=np.float32)
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        for start in range(0, len(order), batch_size):
            chosen = order[start : start + batch_size]
            encodings = self._tokenizer.encode_batch([texts[i] for i in chosen])
            inputs = {
                "input_ids": np.array([encoding.ids for encoding in encodings], dtype=np.int64),
                "attention_mask": np.array([encoding.attention_mask for encoding in encodings], dtype=np.int64),
            }
            found[chosen] = self._session.run(["logits"], inputs)[0]
        return found

    def probabilities(self, texts: Sequence[str], batch_size: int = 32) -> npt.NDArray[np.float32]:
        """Probabilities `[texts, outcomes]`, in the order given."""
        logits = self.logits(texts, batch_size)
        exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
        probabilities: npt.NDArray[np.float32] = exponentials / exponentials.sum(axis=1, keepdims=True)
        return probabilities

    def answer(self, texts: Sequence[str]) -> list[dict[str, Any]]:
        """For each text its `label`, the `confidence` in it, and the `probabilities` by outcome."""
        answers = []
        for row in self.probabilities(texts).astype(float):
            best = int(row.argmax())
            by_outcome = dict(zip(self.outcomes, row.tolist(), strict=True))
            answers.append({"label": self.outcomes[best], "confidence": float(row[best]), "probabilities": by_outcome})
        return answers


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
            """Columns `label`, `confidence` and `probabilities`, a row for each row of the input."""
            texts = model_input[self._edge.text_column]
            if texts.isna().any():
                raise ValueError(f"{int(texts.isna().sum())} rows have no text in {texts.name!r}")
            answers = self._edge.answer([str(text) for text in texts])
            return pd.DataFrame(answers, columns=["label", "confidence", "probabilities"], index=model_input.index)

    mlflow.models.set_model(EdgePythonModel())

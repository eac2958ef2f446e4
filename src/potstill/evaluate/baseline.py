"""Baseline: TF-IDF and a linear model. A student must earn its milliseconds against it."""

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import Pipeline, make_pipeline

from potstill.metrics import better, primary, score
from potstill.outcomes import Classification, Floats, Outcome, Value

# Inverse strengths of regularisation among which the validation rows choose.
STRENGTHS = (1.0, 10.0, 100.0)
RIDGE_STRENGTHS = (0.1, 0.3, 1.0, 3.0)
FEW_ROWS = 1000


class Baseline:
    """Word 1–2-grams, or character 1–3-grams where most text is written without spaces, and a linear model.

    Classes come from logistic regression. A value comes from ridge regression on the outcome's scale, with a normal
    distribution around it as wide as the errors on the validation rows.

    Args:
        texts: training texts.
        values: `[rows]`, their labels as the outcome's values.
        validation_texts: texts that choose the strength of regularisation, by the family's first metric.
        validation_values: `[rows]`.
        outcome: the family.
    """

    def __init__(
        self,
        texts: Sequence[str],
        values: Floats,
        validation_texts: Sequence[str],
        validation_values: Floats,
        outcome: Outcome,
    ) -> None:
        vectorizer = _vectorizer(texts)
        counted, kept = vectorizer.fit_transform(texts), vectorizer.transform(validation_texts)
        best: tuple[float, Any, Outcome] | None = None
        for model in _models(outcome):
            model.fit(counted, _scaled(outcome, values))
            fitted = _fitted(model, outcome, kept, validation_values)
            found = score(outcome, validation_values, _answers(model, fitted, kept))
            worth = better(outcome, found[primary(outcome)])
            if best is None or worth > best[0]:
                best = worth, model, fitted
        assert best is not None  # noqa: S101 - there is at least one strength
        self._outcome = best[2]
        self._pipeline: Pipeline = make_pipeline(vectorizer, best[1])

    def probabilities(self, texts: Sequence[str]) -> Floats:
        """Probabilities `[texts, outcomes]`."""
        return _answers(self._pipeline[-1], self._outcome, self._pipeline[0].transform(texts))

    def size_bytes(self) -> int:
        """Bytes of the vocabulary as JSON and of the weights as float32."""
        vectorizer, model = self._pipeline[0], self._pipeline[-1]
        vocabulary = json.dumps({term: int(i) for term, i in vectorizer.vocabulary_.items()}, ensure_ascii=False)
        weights: list[Any] = [vectorizer.idf_, model.coef_, np.atleast_1d(model.intercept_)]
        return len(vocabulary.encode()) + 4 * sum(int(w.size) for w in weights)


def _models(outcome: Outcome) -> list[Any]:
    if isinstance(outcome, Classification):
        return [LogisticRegression(C=strength, max_iter=1000) for strength in STRENGTHS]
    return [Ridge(alpha=strength) for strength in RIDGE_STRENGTHS]


def _scaled(outcome: Outcome, values: Floats) -> npt.NDArray[Any]:
    """What the linear model is fitted to."""
    return values.astype(np.int64) if isinstance(outcome, Classification) else outcome.forward(values)


def _fitted(model: Any, outcome: Outcome, inputs: Any, values: Floats) -> Outcome:
    """The outcome with a value's spread as measured on rows that the model was not fitted to."""
    if isinstance(outcome, Classification):
        return outcome
    spread = float(np.std(outcome.forward(values) - model.predict(inputs)))
    return replace(outcome, smoothing=max(spread / outcome.width, outcome.smoothing))


def _answers(model: Any, outcome: Outcome, inputs: Any) -> Floats:
    if isinstance(outcome, Value):
        return outcome.targets(outcome.back(model.predict(inputs))).astype(np.float64)
    found = np.zeros((inputs.shape[0], len(outcome)))
    found[:, model.classes_] = model.predict_proba(inputs)
    return found


def _vectorizer(texts: Sequence[str]) -> TfidfVectorizer:
    ngrams: dict[str, Any] = {"analyzer": "word", "ngram_range": (1, 2), "token_pattern": r"(?u)\b\w+\b"}
    if _without_spaces(texts):
        ngrams = {"analyzer": "char", "ngram_range": (1, 3)}
    # A term seen once tells little and costs much; where rows are few, it may be all there is.
    rarest = 2 if len(texts) >= FEW_ROWS else 1
    return TfidfVectorizer(sublinear_tf=True, min_df=rarest, **ngrams)


def _without_spaces(texts: Sequence[str]) -> bool:
    """Whether a third of the first thousand texts' letters are Chinese, Japanese or Korean, or there are no letters."""
    letters = [character for text in texts[:1000] for character in text if character.isalpha()]
    return sum("\u3040" <= c <= "\u9fff" or "\uac00" <= c <= "\ud7a3" for c in letters) >= len(letters) / 3

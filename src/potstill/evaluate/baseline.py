"""Baseline: TF-IDF and a linear classifier. A student must earn its milliseconds against it."""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from sklearn.pipeline import Pipeline, make_pipeline

# Inverse strengths of regularisation among which the validation rows choose.
STRENGTHS = (1.0, 10.0, 100.0)
FEW_ROWS = 1000


class Baseline:
    """Word 1–2-grams, or character 1–3-grams where most text is written without spaces, and logistic regression.

    Args:
        texts: training texts.
        labels: `[rows]`, indices of outcomes.
        validation_texts: texts that choose the strength of regularisation, by macro-F1.
        validation_labels: `[rows]`.
        outcomes: how many there are.
    """

    def __init__(
        self,
        texts: Sequence[str],
        labels: npt.NDArray[np.int64],
        validation_texts: Sequence[str],
        validation_labels: npt.NDArray[np.int64],
        outcomes: int,
    ) -> None:
        self._outcomes = outcomes
        candidates = [_pipeline(texts, strength).fit(texts, labels) for strength in STRENGTHS]
        scores = [f1_score(validation_labels, c.predict(validation_texts), average="macro") for c in candidates]
        self._pipeline = candidates[int(np.argmax(scores))]

    def probabilities(self, texts: Sequence[str]) -> npt.NDArray[np.float64]:
        """Probabilities `[texts, outcomes]`."""
        found = np.zeros((len(texts), self._outcomes))
        found[:, self._pipeline.classes_] = self._pipeline.predict_proba(texts)
        return found

    def size_bytes(self) -> int:
        """Bytes of the vocabulary as JSON and of the weights as float32."""
        vectorizer, classifier = self._pipeline[0], self._pipeline[-1]
        vocabulary = json.dumps({term: int(i) for term, i in vectorizer.vocabulary_.items()}, ensure_ascii=False)
        weights: list[Any] = [vectorizer.idf_, classifier.coef_, classifier.intercept_]
        return len(vocabulary.encode()) + 4 * sum(int(w.size) for w in weights)


def _pipeline(texts: Sequence[str], strength: float) -> Pipeline:
    ngrams: dict[str, Any] = {"analyzer": "word", "ngram_range": (1, 2), "token_pattern": r"(?u)\b\w+\b"}
    if _without_spaces(texts):
        ngrams = {"analyzer": "char", "ngram_range": (1, 3)}
    # A term seen once tells little and costs much; where rows are few, it may be all there is.
    rarest = 2 if len(texts) >= FEW_ROWS else 1
    vectorizer = TfidfVectorizer(sublinear_tf=True, min_df=rarest, **ngrams)
    return make_pipeline(vectorizer, LogisticRegression(C=strength, max_iter=1000))


def _without_spaces(texts: Sequence[str]) -> bool:
    """Whether a third of the first thousand texts' letters are Chinese, Japanese or Korean, or there are no letters."""
    letters = [character for text in texts[:1000] for character in text if character.isalpha()]
    return sum("\u3040" <= c <= "\u9fff" or "\uac00" <= c <= "\ud7a3" for c in letters) >= len(letters) / 3

"""Baseline: TF-IDF and a linear model; where there are features, boosted trees on them, and each category's mean.

A student must earn its milliseconds against it.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy import sparse
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression, Ridge

from potstill.data.dataset import Rows, Schema
from potstill.edge import Row
from potstill.evaluate.trivial import tries
from potstill.inputs import Features, split_pair
from potstill.metrics import better, primary, score
from potstill.outcomes import Classification, Floats, Outcome, Value, softmax

# Inverse strengths of regularisation among which the validation rows choose.
STRENGTHS = (0.1, 1.0, 10.0, 100.0)
RIDGE_STRENGTHS = (0.1, 0.3, 1.0, 3.0)
FEW_ROWS = 1000
MOST_TREE_CATEGORIES = 255
LIKENESS_TAU = 0.1


class Baseline:
    """The best of some plain models, by the family's first metric on the validation rows.

    Linear models see word 1–2-grams, or character 1–3-grams where most text is written without spaces; of a pair, one
    sees the cosine of its two texts alone; one sees which categories a row has, and so how popular each article is, or
    how easily pleased each customer; boosted trees see all features. Classes and rates come with
    probabilities; a value with a normal distribution on the outcome's scale around its forecast, as wide as the errors
    on the validation rows.

    Args:
        train: rows to learn from.
        validation: rows that choose.
        schema: the family of outcomes, and the columns.
    """

    def __init__(self, train: Rows, validation: Rows, schema: Schema) -> None:
        self._column = schema.text[0]
        views: list[_View] = [_Words(train.text)]
        if schema.pair:
            views.append(_Pair(train.text))
        if schema.features:
            views.append(_Columns(schema.features))
        if schema.features.categorical:
            views.append(_Names(schema.features))
        self._found = [_best(view, train, validation, schema.outcome) for view in views]
        self._chosen = max(self._found, key=lambda found: found.worth)

    def probabilities(self, rows: Sequence[Row]) -> Floats:
        """Probabilities `[rows, outcomes]` of texts, or of rows of a table whose first text column holds all text."""
        return self._ask(self._chosen, rows)

    def each(self, rows: Sequence[Row]) -> dict[str, Floats]:
        """The same of the best model of each view, by the view's name."""
        return {found.view.name: self._ask(found, rows) for found in self._found}

    def size_bytes(self) -> int:
        """Bytes of what it would have to keep."""
        return self._chosen.view.size_bytes() + _weight(self._chosen.model)

    def _ask(self, found: "_Fitted", rows: Sequence[Row]) -> Floats:
        tables = [{self._column: row} if isinstance(row, str) else row for row in rows]
        return _answers(found.model, found.outcome, found.view.see([row[self._column] for row in tables], tables))


@dataclass(frozen=True)
class _Fitted:
    """A plain model: what it sees, how it answers, and what that was worth on the validation rows."""

    view: "_View"
    model: Any
    outcome: Outcome
    worth: float


def _best(view: "_View", train: Rows, validation: Rows, outcome: Outcome) -> _Fitted:
    """The best of the models that suit a view."""
    learnt, kept = view.see(train.text, train.features), view.see(validation.text, validation.features)
    found = []
    for model in view.models(outcome):
        _fit(model, outcome, learnt, train)
        fitted = _fitted(model, outcome, kept, validation.value)
        figures = score(outcome, validation.truth, _answers(model, fitted, kept))
        found.append(_Fitted(view, model, fitted, better(outcome, figures[primary(outcome)])))
    return max(found, key=lambda fitted: fitted.worth)


class Likeness:
    """Retrieval by the cosine of TF-IDF vectors, whose words are weighed by the training texts and answers.

    Args:
        train: rows to learn words from.
        schema: the family of outcomes with its catalogue, and the columns.
    """

    def __init__(self, train: Rows, schema: Schema) -> None:
        self._column = schema.text[0]
        texts = [*train.text, *train.catalogue]
        # Of an unknown catalogue any word may be the one that counts.
        self._vectorizer = _vectorizer(texts).set_params(min_df=1).fit([*texts, *schema.outcome.names])
        self._catalogue = self._vectorizer.transform(schema.outcome.names)

    def probabilities(self, rows: Sequence[Row]) -> Floats:
        """Probabilities `[rows, answers]`: the softmax of the cosines over a tenth."""
        texts = [row if isinstance(row, str) else row[self._column] for row in rows]
        likeness = (self._vectorizer.transform(texts) @ self._catalogue.T).toarray()
        return softmax(likeness / LIKENESS_TAU)

    def size_bytes(self) -> int:
        """The vocabulary as JSON, its weights, and the catalogue's vectors, as float32 with places."""
        terms = {term: int(i) for term, i in self._vectorizer.vocabulary_.items()}
        vectors = 8 * int(self._catalogue.nnz)
        return len(json.dumps(terms, ensure_ascii=False).encode()) + 4 * len(terms) + vectors


class _Words:
    """What a linear model sees."""

    name = "TF-IDF, linear"

    def __init__(self, texts: Sequence[str]) -> None:
        self._vectorizer = _vectorizer(texts).fit(texts)

    def see(self, texts: Sequence[str], rows: Sequence[Any]) -> Any:
        return self._vectorizer.transform(texts)

    def models(self, outcome: Outcome) -> list[Any]:
        return _linear(outcome)

    def size_bytes(self) -> int:
        """The vocabulary as JSON and its weights as float32."""
        terms = {term: int(i) for term, i in self._vectorizer.vocabulary_.items()}
        return len(json.dumps(terms, ensure_ascii=False).encode()) + 4 * len(terms)


class _Pair(_Words):
    """What is alike in the two texts of a pair."""

    name = "TF-IDF likeness"

    def see(self, texts: Sequence[str], rows: Sequence[Any]) -> Any:
        pairs = [found if isinstance(found := split_pair(text), tuple) else (found, "") for text in texts]
        first, second = (self._vectorizer.transform(side) for side in zip(*pairs, strict=True))
        return np.asarray(first.multiply(second).sum(axis=1))


class _Columns:
    """What boosted trees see."""

    name = "boosted trees"

    def __init__(self, features: Features) -> None:
        self._features = features

    def see(self, texts: Sequence[str], rows: Sequence[Any]) -> Any:
        found = self._features.arrays(rows)
        # The trees take a category by its rank only up to so many.
        names = np.minimum(found["categorical"], MOST_TREE_CATEGORIES - 1)
        return np.concatenate([found["numeric"], names.astype(np.float32)], axis=1)

    def models(self, outcome: Outcome) -> list[Any]:
        if not isinstance(outcome, Value):
            return [HistGradientBoostingClassifier(random_state=0)]
        return [HistGradientBoostingRegressor(loss="absolute_error", random_state=0)]

    def size_bytes(self) -> int:
        """The names of the columns and their categories as JSON."""
        return len(json.dumps(self._features.spec(), ensure_ascii=False).encode())


class _Names:
    """What a linear model sees of categories: a column of noughts and ones for each of their values."""

    name = "categories, linear"

    def __init__(self, features: Features) -> None:
        self._features = features
        self._starts = np.cumsum([0, *map(len, features.categorical)])

    def see(self, texts: Sequence[str], rows: Sequence[Any]) -> Any:
        places = self._features.arrays(rows)["categorical"] + self._starts[:-1]
        ends = np.arange(0, places.size + 1, places.shape[1])
        return sparse.csr_array((np.ones(places.size), places.ravel(), ends), shape=(len(rows), self._starts[-1]))

    def models(self, outcome: Outcome) -> list[Any]:
        return _linear(outcome)

    def size_bytes(self) -> int:
        """The categories as JSON."""
        return len(json.dumps(self._features.spec()["categorical"], ensure_ascii=False).encode())


_View = _Words | _Pair | _Columns | _Names


def _linear(outcome: Outcome) -> list[Any]:
    if isinstance(outcome, Value):
        return [Ridge(alpha=strength) for strength in RIDGE_STRENGTHS]
    return [LogisticRegression(C=strength, max_iter=1000) for strength in STRENGTHS]


def _weight(model: Any) -> int:
    """Bytes of a fitted model: weights as float32, trees as they are kept."""
    if hasattr(model, "coef_"):
        return 4 * sum(int(np.size(weights)) for weights in (model.coef_, model.intercept_))
    return sum(int(tree.nodes.nbytes) for trees in model._predictors for tree in trees)


def _fit(model: Any, outcome: Outcome, inputs: Any, rows: Rows) -> None:
    """Fit a plain model; rows count by their weight, a rate as so many yes and so many no."""
    if isinstance(outcome, Classification):
        model.fit(inputs, rows.value.astype(np.int64), rows.weight)
    elif isinstance(outcome, Value):
        model.fit(inputs, outcome.forward(rows.value), rows.weight)
    else:
        was, weights = tries(rows)
        seen = np.flatnonzero(weights)
        model.fit(inputs[seen % len(rows)], was[seen].astype(np.int64), weights[seen])


def _fitted(model: Any, outcome: Outcome, inputs: Any, values: Floats) -> Outcome:
    """The outcome with a value's spread as measured on rows that the model was not fitted to."""
    if not isinstance(outcome, Value):
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

"""Profile: what the training data looks like to a model, as histograms in a file that travels with it.

It is made of rows that the model hasn't learnt from, as production's are: of the rows that it has learnt from, its
vocabulary would know every word and its answers would be too sure. Only how often words occur is taken from these.
The file holds counts and numbers, pieces by their number, and the categories that the card names anyway: no texts.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from potstill.data.dataset import read_rows, read_schema
from potstill.drift.histogram import Histogram
from potstill.drift.observe import (
    Row,
    Scale,
    answer_columns,
    ask,
    input_columns,
    names_of_columns,
    text_columns,
)
from potstill.drift.pieces import Frequencies, Reader
from potstill.drift.quality import Quality
from potstill.edge import PROFILE, EdgeModel
from potstill.metrics import Truth
from potstill.store import write_text

# Enough for shares to within a percent.
MOST_ROWS = 5000
# Likewise for how often words and categories occur.
MOST_TRAINED = 50_000
DISTANCE = "answer: distance"


@dataclass(frozen=True)
class Profile:
    """What a window is compared with.

    Attributes:
        rows: how many the histograms were made of.
        frequencies: of the training texts' pieces.
        scale: of the model's vectors.
        columns: by name.
        labels: columns of the tasks' labels, where the quality is known.
        quality: of the answers to these rows.
    """

    rows: int
    frequencies: Frequencies
    scale: Scale
    columns: Mapping[str, Histogram]
    labels: tuple[str, ...] = ()
    quality: Quality | None = None


def learn(
    edge: Path, trained: Sequence[Row], rows: Sequence[Row], labels: tuple[str, ...] = (), truth: Truth | None = None
) -> Profile:
    """A model's profile.

    Args:
        edge: the model's folder.
        trained: rows that tell how often words and categories occur.
        rows: of the same kind, but not the same ones.
        labels: columns of the tasks' labels.
        truth: what these say of `rows`; none: the quality is not to be known.

    Raises:
        ValueError: a row can't be read.
    """
    model, reader = EdgeModel(edge), Reader(edge)
    frequencies = Frequencies.learn(reader.read([model.text(row) for row in trained]), reader.size)
    texts = [model.text(row) for row in rows]
    asked = ask(model, rows)
    scale = Scale.learn(asked.vectors)
    columns = text_columns(reader.read(texts), texts, reader.unknown, frequencies) | input_columns(model, rows)
    columns |= answer_columns(model, asked.answers) | {DISTANCE: scale.distance(asked.vectors)}
    names = names_of_columns(model, trained)
    learnt = {name: Histogram.learn(values, names.get(name, ())) for name, values in columns.items()}
    found = Profile(len(rows), frequencies, scale, learnt)
    if truth is None or asked.probabilities is None:
        return found
    return replace(found, labels=labels, quality=Quality.measure(model.outcome, truth, asked.probabilities))


def learn_from_dataset(edge: Path, dataset: Path) -> Profile:
    """The profile of a model that was made from a dataset: of its validation rows, with words of its training rows.

    The quality is known where rows have plain labels: neither weights nor groups, and no answers to choose from.
    """
    schema = read_schema(dataset)
    rows = read_rows(dataset, "validation", schema).spread(MOST_ROWS)
    trained = read_rows(dataset, "train", schema).spread(MOST_TRAINED)
    column = schema.text[0]
    truth = None if schema.weight or schema.group else rows.truth
    return learn(edge, trained.records(column), rows.records(column), schema.label, truth)


def write_profile(folder: Path, profile: Profile) -> None:
    """Write a profile beside its model. Equal data gives equal bytes."""
    told = {
        "rows": profile.rows,
        "pieces": profile.frequencies.spec(),
        "centre": profile.scale.centre.tolist(),
        "spread": profile.scale.spread.tolist(),
        "columns": {name: histogram.spec() for name, histogram in profile.columns.items()},
        "labels": profile.labels,
        "quality": None if profile.quality is None else asdict(profile.quality),
    }
    write_text(folder / PROFILE, json.dumps(told, ensure_ascii=False))


def read_profile(folder: Path) -> Profile | None:
    """Read it; none: the model was made before there were profiles."""
    if not (folder / PROFILE).is_file():
        return None
    told = json.loads((folder / PROFILE).read_text(encoding="utf-8"))
    return Profile(
        told["rows"],
        Frequencies.from_spec(told["pieces"]),
        Scale.from_spec(told),
        {name: Histogram.from_spec(spec) for name, spec in told["columns"].items()},
        tuple(told["labels"]),
        told["quality"] and Quality(**told["quality"]),
    )

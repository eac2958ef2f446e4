"""Tables of several tasks: files that lack columns, rows that lack labels."""

import re

import pytest

from potstill.data.dataset import read_rows, read_schema
from potstill.data.read import check_source
from potstill.errors import UserError
from potstill.recipe import Data, Features, Task
from potstill.steps.ingest import ingest

TASKS = {"tone": Task(label="tone"), "topic": Task(label="topic")}


def csv(path, header, rows):
    path.write_text("\n".join([header, *rows]) + "\n")
    return str(path)


def tones(tmp_path, count=40):
    return csv(tmp_path / "tones.csv", "text,tone", [f"text {i},{'good' if i % 2 else 'bad'}" for i in range(count)])


def topics(tmp_path, start=0, count=40):
    rows = [f"text {start + i},{'tea' if i % 3 else 'toys'},{i}" for i in range(count)]
    return csv(tmp_path / "topics.csv", "title,topic,price", rows)


def data(*places, **more):
    return Data.model_validate({"source": list(places), "text": ["text", "title"], **more})


def labels(dataset):
    schema = read_schema(dataset)
    found = {}
    for split in schema.rows:
        rows = read_rows(dataset, split, schema)
        for text, values in zip(rows.text, rows.value, strict=True):
            found.setdefault(text, []).append((split, tuple(values)))
    return found


def test_a_text_with_labels_from_two_files_is_two_rows_of_one_split(tmp_path):
    ingest(data(tones(tmp_path), topics(tmp_path)), TASKS, tmp_path / "dataset")
    assert read_schema(tmp_path / "dataset").rejected == {}
    for rows in labels(tmp_path / "dataset").values():
        assert len(rows) == 2
        assert len({split for split, _ in rows}) == 1


def test_a_second_label_for_the_same_task_is_a_contradiction_or_a_duplicate(tmp_path):
    again = csv(tmp_path / "again.csv", "text,tone", ["text 0,bad", "text 1,bad"])
    ingest(data(tones(tmp_path), topics(tmp_path), again), TASKS, tmp_path / "dataset")
    assert read_schema(tmp_path / "dataset").rejected == {"duplicate": 1, "conflicting label": 1}


def test_a_row_that_agrees_and_knows_more_is_kept(tmp_path):
    more = csv(tmp_path / "more.csv", "text,tone,topic", ["text 0,bad,tea", "text 1,bad,tea", "text 3,good,toys"])
    ingest(data(tones(tmp_path), more, topics(tmp_path, start=100)), TASKS, tmp_path / "dataset")
    # Text 1 is good elsewhere; the others add a topic to what is known.
    assert read_schema(tmp_path / "dataset").rejected == {"conflicting label": 1}


def test_features_that_a_file_lacks_are_missing(tmp_path):
    more = data(tones(tmp_path), topics(tmp_path, start=100), features=Features(numeric=["price"]))
    check_source(more, TASKS)
    ingest(more, TASKS, tmp_path / "dataset")
    rows = read_rows(tmp_path / "dataset", "train", read_schema(tmp_path / "dataset"))
    assert {row["price"] is None for row in rows.features} == {True, False}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"text": ["text", "titel"]}, "no file has a column 'titel'; did you mean 'title'?"),
        ({"features": {"numeric": ["prize"]}}, "no file has a column 'prize'; did you mean 'price'?"),
    ],
)
def test_a_column_that_no_file_has_is_named(tmp_path, change, message):
    with pytest.raises(UserError, match=re.escape(message)):
        check_source(data(tones(tmp_path), topics(tmp_path), **change), TASKS)


def test_a_file_without_any_label_is_named(tmp_path):
    bare = csv(tmp_path / "bare.csv", "text,stars", ["x,1"])
    with pytest.raises(UserError, match=r"bare\.csv: no column 'tone' for the label"):
        check_source(data(tones(tmp_path), topics(tmp_path), bare), TASKS)


def test_rows_without_any_label_are_all_that_is_wrong(tmp_path):
    empty = csv(tmp_path / "empty.csv", "text,tone,topic", ["x,,", "y,,"])
    with pytest.raises(UserError, match=r"all rows were rejected .* 2 empty label"):
        ingest(Data(source=empty), TASKS, tmp_path / "dataset")


def test_a_task_without_a_row_in_a_split_is_named(tmp_path):
    few = csv(tmp_path / "few.csv", "text,topic", ["text 100,tea", "text 101,toys", "text 102,tea", "text 103,toys"])
    with pytest.raises(UserError, match=r"has no row with a 'topic'|training has no row of"):
        ingest(Data.model_validate({"source": [tones(tmp_path, 400), few]}), TASKS, tmp_path / "dataset")


def test_words_in_a_column_of_bands_are_set_aside_and_told(tmp_path):
    banded = {"tone": Task(label="tone", bands=[1, 2]), "topic": TASKS["topic"]}
    with pytest.raises(UserError, match=r"'tone' has no label \(after setting aside 40 label not a number\)"):
        ingest(data(tones(tmp_path), topics(tmp_path, start=100)), banded, tmp_path / "dataset")

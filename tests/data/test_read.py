"""A file, a folder or a glob becomes one stream of rows."""

import pytest

from potstill.data.formats import Columns
from potstill.data.read import check_source, columns_of, find_files, stream_batches
from potstill.errors import UserError
from potstill.recipe import Data, Task

COLUMNS = Columns(("text",), ("label",))
CSV = "text,label\none,a\ntwo,b\n"
TASKS = {"intent": Task()}


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "deep").mkdir()
    (tmp_path / "b.csv").write_text(CSV)
    (tmp_path / "a.jsonl").write_text('{"text": "three", "label": 3}\n')
    (tmp_path / "deep" / "c.csv").write_text(CSV)
    for ignored in ("_SUCCESS", "notes.txt", ".hidden.csv", "_partial.csv"):
        (tmp_path / ignored).write_text("")
    return tmp_path


def names(location):
    return [file.name for file in find_files(str(location))]


def test_a_folder_is_searched_through_and_hidden_and_other_files_are_passed_over(folder):
    assert names(folder) == ["a.jsonl", "b.csv", "c.csv"]


def test_a_glob_takes_what_it_matches(folder):
    assert names(folder / "*.csv") == ["_partial.csv", "b.csv"]
    assert names(folder / "dee?") == ["c.csv"]
    assert names(folder / "**" / "c.*") == ["c.csv"]


def test_a_file_whose_name_looks_like_a_glob_is_that_file(tmp_path):
    (tmp_path / "rows[1].csv").write_text(CSV)

    assert names(tmp_path / "rows[1].csv") == ["rows[1].csv"]


def test_batches_say_where_their_rows_stand(folder):
    batches = list(stream_batches(str(folder), COLUMNS))

    assert [(batch.file, batch.first_row, batch.table.num_rows) for batch in batches] == [
        (str(folder / "a.jsonl"), 1, 1),
        (str(folder / "b.csv"), 1, 2),
        (str(folder / "deep" / "c.csv"), 1, 2),
    ]


@pytest.mark.parametrize(
    ("location", "expected"),
    [
        ("missing.csv", "missing.csv: no such file"),
        ("*.parquet", "*.parquet: no such file, folder or match"),
        ("notes.txt", "unknown kind of file; expected one of .parquet, .csv, .jsonl, .ndjson"),
        ("other", "other: holds no file ending in .parquet"),
        ("*.txt", "holds no file ending in"),
    ],
)
def test_nothing_to_read_is_named(folder, location, expected):
    (folder / "other").mkdir()

    with pytest.raises(UserError) as caught:
        find_files(str(folder / location))

    assert expected in str(caught.value)


def test_another_kind_of_place_is_refused_in_words():
    with pytest.raises(UserError, match=r"gs://shop/x\.parquet: only local files and s3:// are read"):
        find_files("gs://shop/x.parquet")


def test_check_source_looks_at_every_location_and_column(folder):
    good = str(folder / "b.csv")
    check_source(Data(source=good), TASKS)
    check_source(Data(train=good, test=str(folder)), TASKS)

    for data, tasks, expected in [
        (Data(train=good, test="nowhere.csv"), TASKS, "nowhere.csv: no such file"),
        (Data(source=good, text="txt"), TASKS, "no column 'txt' for the text; did you mean 'text'?"),
        (Data(source=good), {"intent": Task(label="intent")}, "no column 'intent' for the label"),
        (Data(source=good, split={"by": "shop"}), TASKS, "no column 'shop' for the split"),
        (Data(source=good, text="label"), TASKS, "'label' can't be both the text and the label"),
    ]:
        with pytest.raises(UserError) as caught:
            check_source(data, tasks)
        assert expected in str(caught.value)


@pytest.mark.parametrize(
    ("task", "known"),
    [
        (Task(decides="auc"), "macro_f1, accuracy"),
        (Task(kind="rate", decides="calibration"), "log_loss, auc"),
        (Task(kind="rate", decides="ndcg_at_10"), "log_loss, auc"),
        (Task(kind="value", scale="count", decides="mae_log"), "wape, mae, rmsle, r2, pinball"),
    ],
)
def test_a_metric_that_the_kind_has_not_is_refused_before_any_work(task, known):
    with pytest.raises(UserError, match=f"'{task.decides}' can't decide here; one of these can: {known}$"):
        columns_of(Data(source="rows.csv"), {"task": task})


def test_a_reference_that_is_no_numeric_feature_is_refused():
    with pytest.raises(UserError, match="reference: 'sold' is not among"):
        columns_of(Data(source="rows.csv"), {"task": Task(kind="rate", reference=["sold"])})
    with pytest.raises(UserError, match=r"season: 'lag_52' is not among data\.features\.numeric"):
        columns_of(Data(source="rows.csv"), {"task": Task(kind="value", season="lag_52")})

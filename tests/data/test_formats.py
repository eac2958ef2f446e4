"""The three formats give the same rows, and each kind of broken file is named in one line."""

import io
import json
import threading

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from potstill.data import formats
from potstill.data.formats import BATCH_ROWS, Columns, read_tables
from potstill.errors import UserError

COLUMNS = Columns(("text",), ("label",))
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=30)


def rows_of(path, columns=COLUMNS):
    """Rows with the one text and the one label column under their own names."""
    tables = [table.rename_columns({"text_0": "text", "label_0": "label"}) for table in read_tables(path, columns)]
    return [row for table in tables for row in table.to_pylist()]


def complaint(path, columns=COLUMNS):
    with pytest.raises(UserError) as caught:
        rows_of(path, columns)
    message = str(caught.value)
    assert message.startswith(str(path))
    assert "\n" not in message
    return message


def write(path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def write_rows(path, rows):
    """Write `(text, label)` pairs with this file's own idea of each format, not the product's."""
    if path.suffix == ".parquet":
        pq.write_table(pa.table({"text": [t for t, _ in rows], "label": [n for _, n in rows]}), path)
    elif path.suffix == ".csv":
        quoted = [",".join('"' + value.replace('"', '""') + '"' for value in row) for row in rows]
        write(path, "\n".join(["text,label", *quoted]) + "\n")
    else:
        write(path, "".join(json.dumps({"text": t, "label": n}) + "\n" for t, n in rows))
    return path


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".jsonl", ".ndjson"])
@given(rows=st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=5))
def test_any_text_survives_the_round_trip_through_each_format(tmp_path_factory, suffix, rows):
    path = write_rows(tmp_path_factory.mktemp("rows") / f"rows{suffix}", rows)

    assert rows_of(path) == [{"text": text, "label": label} for text, label in rows]


def test_parquet_is_read_by_the_thread_that_asks(tmp_path, monkeypatch):
    """What a thread of Arrow's own still holds when Python ends aborts the process."""
    readers = set()

    class Watched(io.FileIO):
        def read(self, size=-1):
            readers.add(threading.get_ident())
            return super().read(size)

    path = tmp_path / "rows.parquet"
    pq.write_table(pa.table({"text": ["a", "b"], "label": ["x", "y"]}), path)
    monkeypatch.setattr(formats, "opened", Watched)
    assert next(read_tables(path, COLUMNS)).num_rows == 2
    assert readers == {threading.get_ident()}


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".jsonl"])
def test_a_long_file_comes_in_several_tables_in_order(tmp_path, suffix):
    rows = [(f"text {i} " + "x" * 600, "a") for i in range(BATCH_ROWS + 10)]
    path = write_rows(tmp_path / f"rows{suffix}", rows)

    assert len(list(read_tables(path, COLUMNS))) > 1
    assert [row["text"] for row in rows_of(path)] == [text for text, _ in rows]


def test_parquet_labels_of_every_countable_type_become_names(tmp_path):
    kinds = {
        "int": pa.array([1, 20, None]),
        "bool": pa.array([True, False, None]),
        "float": pa.array([1.0, 20.0, None]),
        "category": pa.array(["x", "y", None]).dictionary_encode(),
        "large": pa.array(["x", "y", None], pa.large_string()),
        "view": pa.array(["x", "y", None], pa.string_view()),
    }
    expected = {"int": ["1", "20"], "bool": ["true", "false"], "float": ["1", "20"]}
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.table({"text": ["a", "b", "c"], **kinds}), path)

    for kind in kinds:
        labels = [row["label"] for row in rows_of(path, Columns(("text",), (kind,)))]
        assert labels == [*expected.get(kind, ["x", "y"]), None], kind


def test_json_labels_may_change_their_type_from_line_to_line(tmp_path):
    path = write(
        tmp_path / "rows.jsonl",
        '{"text": "a", "label": 1}\n\n{"text": "b", "label": "one"}\n{"text": "c", "label": true}\n{"text": "d"}\n',
    )

    assert [row["label"] for row in rows_of(path)] == ["1", "one", "true", None]


def test_csv_reads_quotes_line_breaks_a_byte_order_mark_and_other_columns(tmp_path):
    path = write(tmp_path / "rows.csv", '\ufeffid,text,label\n7,"one ""two""\nthree, four",a\n8,NA,null\n')

    assert rows_of(path) == [{"text": 'one "two"\nthree, four', "label": "a"}, {"text": "NA", "label": "null"}]


def test_one_column_may_serve_as_label_and_group(tmp_path):
    path = write(tmp_path / "rows.csv", "text,label\nx,a\n")

    assert rows_of(path, Columns(("text",), ("label",), "label")) == [{"text": "x", "label": "a", "split": "a"}]


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".jsonl"])
def test_an_empty_file_is_named(tmp_path, suffix):
    assert "the file is empty" in complaint(write(tmp_path / f"rows{suffix}", b""))


def test_a_truncated_parquet_is_named(tmp_path):
    path = write_rows(tmp_path / "rows.parquet", [(f"text {i}", "a") for i in range(1000)])
    whole = path.read_bytes()

    for cut in (len(whole) // 2, len(whole) - 1, 10):
        assert "can't be read as Parquet (cut short or corrupt?)" in complaint(write(path, whole[:cut]))


def test_a_parquet_with_damaged_pages_is_named(tmp_path):
    path = write_rows(tmp_path / "rows.parquet", [(f"text {i}", "a") for i in range(1000)])
    whole = path.read_bytes()

    assert "can't be read as Parquet" in complaint(write(path, whole[:100] + bytes(2000) + whole[2100:]))


def test_a_parquet_string_that_is_not_utf8_is_named(tmp_path):
    bad = pa.StringArray.from_buffers(1, pa.py_buffer(b"\0\0\0\0\4\0\0\0"), pa.py_buffer(b"caf\xe9"))
    pq.write_table(pa.table({"text": bad, "label": ["a"]}), tmp_path / "rows.parquet")

    assert "Invalid UTF8" in complaint(tmp_path / "rows.parquet")


def test_a_latin1_csv_is_named_with_line_and_byte(tmp_path):
    path = write(tmp_path / "rows.csv", "text,label\nhello,a\ncafé,b\n".encode("latin-1"))

    # "text,label\n" is 11 bytes, "hello,a\n" is 8, "caf" is 3.
    assert "not UTF-8: line 3 holds 0xe9 at byte 22; save the file as UTF-8" in complaint(path)


def test_a_utf16_csv_is_named(tmp_path):
    path = write(tmp_path / "rows.csv", "text,label\nhello,a\n".encode("utf-16"))

    assert "not UTF-8: line 1 holds 0xff at byte 0" in complaint(path)


def test_a_csv_row_with_too_many_values_is_named_with_its_row(tmp_path):
    message = complaint(write(tmp_path / "rows.csv", "text,label\none,a\ntwo, three,b\n"))

    assert "not a valid CSV" in message
    assert "Row #3: Expected 2 columns, got 3" in message


def test_a_quotation_mark_left_open_is_suspected_when_a_row_never_ends(tmp_path):
    rows = "".join(f"text number {i},a\n" for i in range(150_000))

    assert "is a quotation mark left open?" in complaint(write(tmp_path / "rows.csv", f'text,label\n"open,a\n{rows}'))


def test_a_missing_column_is_named_with_the_nearest_and_the_existing_ones(tmp_path):
    for suffix in (".parquet", ".csv", ".jsonl"):
        path = write_rows(tmp_path / f"rows{suffix}", [("x", "a")])

        message = complaint(path, Columns(("text",), ("lable",)))

        assert "no column 'lable' for the label; did you mean 'label'? (columns: text, label)" in message


def test_another_delimiter_is_recognised_in_the_header(tmp_path):
    message = complaint(write(tmp_path / "rows.csv", "text;label\nx;a\n"))

    assert "values must be separated by commas" in message


def test_a_column_that_appears_twice_is_refused(tmp_path):
    assert "column 'text' appears 2 times" in complaint(write(tmp_path / "rows.csv", "text,label,text\nx,a,y\n"))


def test_a_text_column_of_numbers_is_refused(tmp_path):
    pq.write_table(pa.table({"text": [1, 2], "label": ["a", "b"]}), tmp_path / "rows.parquet")

    assert "text column 'text' holds int64; expected text" in complaint(tmp_path / "rows.parquet")
    path = write(tmp_path / "rows.jsonl", '{"text": "x", "label": "a"}\n{"text": 5, "label": "a"}\n')
    assert complaint(path).endswith("rows.jsonl:2: text: expected text, found 5")


def test_labels_with_fractions_are_refused(tmp_path):
    pq.write_table(pa.table({"text": ["x", "y"], "label": [0.5, 1.0]}), tmp_path / "rows.parquet")

    assert "label column 'label' holds fractions" in complaint(tmp_path / "rows.parquet")
    path = write(tmp_path / "rows.jsonl", '{"text": "x", "label": 0.5}\n')
    assert "rows.jsonl:1: label: expected text, a whole number or a boolean, found 0.5" in complaint(path)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b'{"text": "y",', "rows.jsonl:2: not valid JSON"),
        (b'[{"text": "y"}', "one object a line, not a list of them"),
        (b'"just text"', "rows.jsonl:2: expected an object {…} a line, found a str"),
        (b'{"text": "caf\xe9", "label": "a"}', "rows.jsonl:2: not UTF-8: 0xe9"),
        (b'{"text": "\\ud83d", "label": "a"}', "rows.jsonl:2: text: half of a surrogate pair"),
        (b'{"text": ' + b"9" * 5000 + b"}", "rows.jsonl:2: not valid JSON"),
    ],
)
def test_a_broken_json_line_is_named_with_its_number(tmp_path, line, expected):
    path = write(tmp_path / "rows.jsonl", b'{"text": "x", "label": "a"}\n' + line + b"\n")

    assert expected in complaint(path)

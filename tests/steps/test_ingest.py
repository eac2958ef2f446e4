"""Ingest, whole: files in, a clean and divided dataset out."""

import json
import random

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from potstill.data.dataset import read_rows, read_schema
from potstill.data.digest import row_digest
from potstill.errors import UserError
from potstill.recipe import Data, Task
from potstill.steps.ingest import ingest

TASKS = {"intent": Task()}
SPLITS = ("train", "validation", "test")


def write(path, rows, columns=("text", "label", "shop")):
    """Write rows as the suffix says."""
    records = [dict(zip(columns, row, strict=False)) for row in rows]
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(records), path)
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(record) + "\n" for record in records))
    else:
        path.write_text("".join(",".join(line) + "\n" for line in [columns[: len(rows[0])], *rows]))
    return str(path)


def some_rows(count=60):
    """Rows of three classes and ten shops."""
    return [(f"question number {i}", "abc"[i % 3], f"shop {i // 3 % 10}") for i in range(count)]


def read(dataset, split):
    schema = read_schema(dataset)
    rows = read_rows(dataset, split, schema)
    return list(zip(rows.row, rows.text, rows.value.tolist(), strict=True))


def members(dataset):
    """Text → split."""
    return {text: split for split in SPLITS for _, text, _ in read(dataset, split)}


def rejected(dataset):
    return pq.read_table(dataset / "rejected.parquet").to_pylist()


def test_every_good_row_is_in_one_split_and_the_folder_describes_itself(tmp_path, capsys):
    source = write(tmp_path / "rows.parquet", some_rows())

    metrics = ingest(Data(source=source), TASKS, tmp_path / "dataset")

    texts = [text for split in SPLITS for _, text, _ in read(tmp_path / "dataset", split)]
    assert sorted(texts) == sorted(text for text, _, _ in some_rows())
    # 20 rows a class: 4 test and 2 validate.
    counts = {"train": 42, "validation": 6, "test": 12}
    schema = read_schema(tmp_path / "dataset")
    assert schema.rows == counts
    assert (schema.task, schema.outcome.kind, schema.text, schema.label) == (
        "intent",
        "classification",
        ("text",),
        ("label",),
    )
    assert schema.outcome.names == ("a", "b", "c")
    assert metrics == {f"rows_{k}": v for k, v in counts.items()} | {"rows_read": 60, "rows_rejected": 0, "outcomes": 3}
    assert capsys.readouterr().out == "60 rows: 42 train, 6 validation, 12 test; 3 outcomes\n"


def test_stored_rows_carry_the_digest_of_what_is_stored(tmp_path):
    rows = [(f"  {text} ", f" {label}") for text, label, _ in some_rows()]
    ingest(Data(source=write(tmp_path / "rows.csv", rows)), TASKS, tmp_path / "dataset")

    table = pq.read_table(tmp_path / "dataset" / "train")

    assert table.column_names == ["row", "text", "label"]
    for row in table.to_pylist():
        assert row["text"] == row["text"].strip()
        assert row["row"] == row_digest(row["text"], row["label"])


def test_all_formats_shard_sizes_and_folders_give_the_same_dataset(tmp_path):
    rows = some_rows()
    (tmp_path / "folder").mkdir()
    write(tmp_path / "folder" / "1.csv", rows[:25])
    write(tmp_path / "folder" / "2.jsonl", rows[25:40])
    write(tmp_path / "folder" / "3.parquet", rows[40:])
    sources = [write(tmp_path / f"rows{suffix}", rows) for suffix in (".parquet", ".csv", ".jsonl")]

    digests = set()
    for i, source in enumerate([*sources, str(tmp_path / "folder"), str(tmp_path / "folder" / "[0-9].*")]):
        ingest(Data(source=source, shard_rows=50_000 if i % 2 else 7), TASKS, tmp_path / "dataset")
        digests.add(read_schema(tmp_path / "dataset").digest)

    assert len(digests) == 1


@pytest.mark.parametrize("split", [{}, {"by": "shop"}])
def test_the_order_of_rows_moves_no_row_to_another_split_but_the_seed_does(tmp_path, split):
    rows = some_rows()
    shuffled = random.Random(1).sample(rows, len(rows))

    ingest(Data(source=write(tmp_path / "a.csv", rows), split=split), TASKS, tmp_path / "a")
    ingest(Data(source=write(tmp_path / "b.csv", shuffled), split=split), TASKS, tmp_path / "b")
    ingest(Data(source=str(tmp_path / "a.csv"), split=split | {"seed": 8}), TASKS, tmp_path / "c")

    assert members(tmp_path / "a") == members(tmp_path / "b")
    assert members(tmp_path / "a") != members(tmp_path / "c")


def test_no_group_crosses_and_the_group_is_stored(tmp_path):
    source = write(tmp_path / "rows.csv", some_rows())

    ingest(Data(source=source, split={"by": "shop"}), TASKS, tmp_path / "dataset")

    groups = [set(pq.read_table(tmp_path / "dataset" / split)["split"].to_pylist()) for split in SPLITS]
    # Ten shops of six rows: 20 % of 60 rows are two shops, 10 % are one.
    assert [len(shops) for shops in groups] == [7, 1, 2]
    assert len(set.union(*groups)) == 10


def test_rejected_rows_are_kept_as_they_were_with_file_row_and_reason(tmp_path, capsys):
    rows = some_rows()
    rows[1:1] = [(None, "a"), ("  ", "a"), ("no label", None), rows[0]]
    source = write(tmp_path / "rows.jsonl", rows)

    metrics = ingest(Data(source=source), TASKS, tmp_path / "dataset")

    assert [tuple(row.values()) for row in rejected(tmp_path / "dataset")] == [
        (source, 2, "empty text", None, "a"),
        (source, 3, "empty text", "  ", "a"),
        (source, 4, "empty label", "no label", None),
        (source, 5, "duplicate", "question number 0", "a"),
    ]
    assert metrics["rows_rejected"] == 4
    assert read_schema(tmp_path / "dataset").rejected == {"empty text": 2, "empty label": 1, "duplicate": 1}
    assert "rejected 4 of 64 rows: 2 empty text, 1 empty label, 1 duplicate (see rejected.parquet)" in (
        capsys.readouterr().out
    )


def test_rejected_rows_of_later_batches_keep_their_row_numbers(tmp_path):
    rows = [(f"question number {i}", "abc"[i % 3]) for i in range(20_000)]
    rows[17_000] = rows[5]
    source = write(tmp_path / "rows.parquet", rows)

    ingest(Data(source=source), TASKS, tmp_path / "dataset")

    assert [(row["row"], row["text"]) for row in rejected(tmp_path / "dataset")] == [(17_001, "question number 5")]
    assert len(members(tmp_path / "dataset")) == 19_999


def test_given_splits_are_kept_and_validation_is_cut_from_training(tmp_path):
    rows = some_rows()
    train, test = (
        write(tmp_path / "train.csv", rows[:40]),
        write(tmp_path / "test.csv", [*rows[40:], ("new", "d", "s")]),
    )

    ingest(Data(train=train, test=test), TASKS, tmp_path / "dataset")

    where = members(tmp_path / "dataset")
    assert {where[text] for text, _, _ in rows[:40]} == {"train", "validation"}
    assert {where[text] for text, _, _ in rows[40:]} == {"test"}
    assert read_schema(tmp_path / "dataset").rows == {"train": 36, "validation": 4, "test": 20}
    assert [row["reason"] for row in rejected(tmp_path / "dataset")] == ["unknown label"]


def test_three_given_splits_are_kept_as_they_are(tmp_path):
    rows = dict(zip(SPLITS, (some_rows()[start : start + 20] for start in (0, 20, 40)), strict=True))
    files = {split: write(tmp_path / f"{split}.csv", rows[split]) for split in SPLITS}

    ingest(Data(**files), TASKS, tmp_path / "dataset")

    assert members(tmp_path / "dataset") == {text: split for split in SPLITS for text, _, _ in rows[split]}


def refusal(tmp_path, **data):
    with pytest.raises(UserError) as caught:
        ingest(Data(**data), TASKS, tmp_path / "out" / "dataset")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists() or not any((tmp_path / "out").iterdir()), "half-written output stays"
    return str(caught.value)


def test_bad_rows_are_refused_in_one_line_and_leave_nothing_behind(tmp_path):
    file = tmp_path / "rows.csv"
    for rows, expected in [
        ([("x", "a"), ("y", "a")], "has one class, 'a'"),
        ([*some_rows(), ("z", "rare", "s")], "1 class with one row only: 'rare'"),
        ([("", "a"), ("", "b")], "all rows were rejected (2 rows read, of these 2 empty text)"),
        ([("x", "a"), ("y", "a"), ("v", "b"), ("w", "b")], "4 rows are too few: validation is left empty"),
    ]:
        assert expected in refusal(tmp_path, source=write(file, rows))


def test_a_group_column_that_leaves_a_split_empty_is_refused(tmp_path):
    rows = [(text, label, f"s{i % 2}") for i, (text, label, _) in enumerate(some_rows())]

    message = refusal(tmp_path, source=write(tmp_path / "rows.csv", rows), split={"by": "shop"})

    assert "column 'shop' has 2 values, which don't fill every split" in message


def test_a_class_that_lives_in_one_held_out_group_is_refused(tmp_path):
    # Class d fills shop 0; a seed that holds this shop out leaves it untaught.
    rows = [(text, "d" if shop == "shop 0" else label, shop) for text, label, shop in some_rows()]
    source = write(tmp_path / "rows.csv", rows)
    messages = []
    for seed in range(20):
        try:
            ingest(Data(source=source, split={"by": "shop", "seed": seed}), TASKS, tmp_path / "dataset")
        except UserError as error:
            messages.append(str(error))

    assert 0 < len(messages) < 20
    assert all("divided by 'shop', training has no row of 1 class of 'label': 'd'" in message for message in messages)


def test_given_test_rows_that_are_all_rejected_are_refused(tmp_path):
    train = write(tmp_path / "train.csv", some_rows())
    test = write(tmp_path / "test.csv", [("new one", "x"), ("new two", "y")])

    assert f"{test}: all rows were rejected" in refusal(tmp_path, train=train, test=test)


def test_training_rows_that_all_stand_in_the_test_are_refused(tmp_path):
    rows = write(tmp_path / "rows.csv", some_rows())

    assert "60 also in test" in refusal(tmp_path, train=rows, test=rows)


def test_an_output_folder_that_cant_be_written_is_refused_before_reading(tmp_path):
    (tmp_path / "file").write_text("")

    with pytest.raises(UserError, match="can't write there"):
        ingest(Data(source="nowhere.csv"), TASKS, tmp_path / "file" / "dataset")


def test_a_new_ingest_replaces_the_old_dataset_and_a_failed_one_leaves_it(tmp_path):
    ingest(Data(source=write(tmp_path / "rows.csv", some_rows())), TASKS, tmp_path / "dataset")
    before = read_schema(tmp_path / "dataset")

    with pytest.raises(UserError):
        ingest(Data(source="nowhere.csv"), TASKS, tmp_path / "dataset")
    assert read_schema(tmp_path / "dataset") == before

    ingest(Data(source=write(tmp_path / "rows.csv", some_rows(90))), TASKS, tmp_path / "dataset")
    assert sum(read_schema(tmp_path / "dataset").rows.values()) == 90


def test_a_reply_to_a_class_that_no_row_has_is_refused(tmp_path):
    source = write(tmp_path / "rows.csv", some_rows())
    tasks = {"intent": Task(replies={"a": "Hello.", "aa": "Good-bye."})}

    with pytest.raises(UserError, match=r"replies: no row has the label 'aa'; did you mean 'a'\?"):
        ingest(Data(source=source), tasks, tmp_path / "dataset")

    assert not (tmp_path / "dataset").exists()

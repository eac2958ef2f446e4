"""Ingest of numbers, such as prices: each that can't be used is set aside with its reason."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from potstill.data.dataset import read_rows, read_schema
from potstill.errors import UserError
from potstill.outcomes import Value
from potstill.recipe import Data, Task
from potstill.steps.ingest import ingest

PRICE = {"price": Task(kind="value", label="price", bins=16)}


def priced(rows: int) -> dict[str, list[Any]]:
    return {
        "brand": [None if i % 3 == 0 else f" Brand {i % 4} " for i in range(rows)],
        "title": [f"coat number {i}" for i in range(rows)],
        "price": [10.5 + i for i in range(rows)],
    }


def write(path: Path, columns: dict[str, list[Any]]) -> str:
    pq.write_table(pa.table(columns), path)
    return str(path)


def rejected(dataset: Path) -> list[tuple[int, str, str]]:
    return [(r["row"], r["reason"], r["label"]) for r in pq.read_table(dataset / "rejected.parquet").to_pylist()]


def test_prices_are_kept_as_numbers_and_bins_span_the_training_rows(tmp_path: Path):
    source = write(tmp_path / "rows.parquet", priced(200))

    ingest(Data(source=source, text=["brand", "title"]), PRICE, tmp_path / "dataset")

    schema = read_schema(tmp_path / "dataset")
    rows = read_rows(tmp_path / "dataset", "train", schema)
    assert isinstance(schema.outcome, Value)
    assert (len(schema.outcome), schema.text) == (16, ("brand", "title"))
    assert pq.read_schema(tmp_path / "dataset" / "train" / "part-00000.parquet").field("label").type == pa.float64()
    assert schema.outcome.edges[0] < rows.value.min()
    assert rows.value.max() < schema.outcome.edges[-1]


def test_several_text_columns_are_joined_and_missing_ones_left_out(tmp_path: Path):
    source = write(tmp_path / "rows.parquet", priced(50))

    ingest(Data(source=source, text=["brand", "title"]), PRICE, tmp_path / "dataset")

    schema = read_schema(tmp_path / "dataset")
    texts = {text for split in schema.rows for text in read_rows(tmp_path / "dataset", split, schema).text}
    assert {"coat number 0", "Brand 1 | coat number 1", "Brand 2 | coat number 2", "coat number 3"} <= texts


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_labels_that_are_no_usable_number_are_set_aside_with_their_reason(tmp_path: Path, suffix: str):
    bad = ["No rating available", "0", "-3", "inf", "nan", "1,299", ""]
    labels = [*bad, *(str(10 + i) for i in range(30))]
    path = tmp_path / f"rows{suffix}"
    if suffix == ".csv":
        lines = ["title,price", *(f'coat {i},"{label}"' for i, label in enumerate(labels))]
    else:
        lines = [f'{{"title": "coat {i}", "price": "{label}"}}' for i, label in enumerate(labels)]
    path.write_text("\n".join(lines) + "\n")

    counts = ingest(Data(source=str(path), text="title"), PRICE, tmp_path / "dataset")

    assert rejected(tmp_path / "dataset") == [
        (1, "label not a number", "No rating available"),
        (2, "label not above zero", "0"),
        (3, "label not above zero", "-3"),
        (4, "label not finite", "inf"),
        (5, "label not finite", "nan"),
        (6, "label not a number", "1,299"),
        (7, "empty label", ""),
    ]
    assert counts["rows_rejected"] == 7


def test_parquet_prices_missing_or_infinite_are_set_aside(tmp_path: Path):
    prices = [None, float("nan"), float("inf"), 0.0, *(float(10 + i) for i in range(30))]
    source = write(tmp_path / "rows.parquet", {"title": [f"coat {i}" for i in range(34)], "price": prices})

    ingest(Data(source=source, text="title"), PRICE, tmp_path / "dataset")

    assert [reason for _, reason, _ in rejected(tmp_path / "dataset")] == [
        "empty label",
        "empty label",
        "label not finite",
        "label not above zero",
    ]


def test_on_a_linear_scale_zero_and_below_are_numbers_like_others(tmp_path: Path):
    source = write(tmp_path / "rows.parquet", {"title": [f"coat {i}" for i in range(30)], "price": range(-15, 15)})

    ingest(Data(source=source, text="title"), {"p": Task(kind="value", label="price", scale="linear")}, tmp_path / "d")

    assert rejected(tmp_path / "d") == []


def test_one_title_may_have_two_prices_but_never_in_two_splits(tmp_path: Path):
    titles = [f"coat {i // 2}" for i in range(400)]
    source = write(tmp_path / "rows.parquet", {"title": titles, "price": [5.0 + i % 2 + i // 4 for i in range(400)]})

    ingest(Data(source=source, text="title"), PRICE, tmp_path / "dataset")

    schema = read_schema(tmp_path / "dataset")
    texts = [read_rows(tmp_path / "dataset", split, schema).text for split in schema.rows]
    assert sum(map(len, texts)) == 400
    assert all(split.count(text) == 2 for split in texts for text in split)
    assert schema.rows["test"] == pytest.approx(80, abs=2)


def test_what_was_seen_again_counts_again_so_that_rates_stay_what_they_are(tmp_path: Path):
    # Twenty ads shown a thousand times each, one time in fifty with a click.
    shown = [(f"ad number {ad}", str(i % 50 == 0).lower()) for ad in range(20) for i in range(1000)]
    path = tmp_path / "rows.csv"
    path.write_text("text,clicked\n" + "".join(f"{text},{clicked}\n" for text, clicked in shown))

    task = Task(kind="rate", label="clicked")
    counts = ingest(Data(source=str(path), split={"test": 0.2, "validation": 0.1}), {"click": task}, tmp_path / "d")

    schema = read_schema(tmp_path / "d")
    assert counts["rows_rejected"] == 0
    assert schema.outcome.prior == pytest.approx(0.02)
    texts = [set(read_rows(tmp_path / "d", split, schema).text) for split in schema.rows]
    assert [len(found) for found in texts] == [14, 2, 4]
    assert not texts[0] & texts[1] | texts[0] & texts[2] | texts[1] & texts[2]


def test_a_title_may_have_the_same_price_again(tmp_path: Path):
    columns = priced(30)
    columns["title"] += ["coat number 4", "coat number 4", "coat number 4"]
    columns["price"] += [99.0, 14.5, 99.0]
    columns["brand"] += [None] * 3
    source = write(tmp_path / "rows.parquet", columns)

    assert ingest(Data(source=source, text="title"), PRICE, tmp_path / "dataset")["rows_rejected"] == 0


def test_given_test_rows_keep_their_titles_and_training_loses_them(tmp_path: Path):
    train, test = priced(40), priced(44)
    test = {name: values[38:] for name, values in test.items()}
    test["price"] = [price * 2 for price in test["price"]]
    data = Data(train=write(tmp_path / "a.parquet", train), test=write(tmp_path / "b.parquet", test), text="title")

    ingest(data, PRICE, tmp_path / "dataset")

    assert read_schema(tmp_path / "dataset").rows["test"] == 6
    assert [reason for _, reason, _ in rejected(tmp_path / "dataset")] == ["also in test", "also in test"]


def test_prices_that_are_all_the_same_teach_nothing(tmp_path: Path):
    source = write(tmp_path / "rows.parquet", {"title": [f"coat {i}" for i in range(30)], "price": [5.0] * 30})

    with pytest.raises(UserError, match="has one label, '5'; at least two are needed"):
        ingest(Data(source=source, text="title"), PRICE, tmp_path / "dataset")
    assert not (tmp_path / "dataset").exists()


def test_the_order_of_rows_changes_neither_split_nor_bins(tmp_path: Path):
    columns = priced(120)
    order = np.random.default_rng(0).permutation(120)
    turned = {name: [values[i] for i in order] for name, values in columns.items()}
    found = []
    for name, rows in (("a", columns), ("b", turned)):
        ingest(Data(source=write(tmp_path / f"{name}.parquet", rows), text="title"), PRICE, tmp_path / name)
        schema = read_schema(tmp_path / name)
        splits = {split: sorted(read_rows(tmp_path / name, split, schema).text) for split in schema.rows}
        found.append((schema.outcome, splits))
    assert found[0] == found[1]


def test_features_are_kept_with_what_training_knows_of_them(tmp_path: Path):
    columns = priced(120) | {
        "lag": [None if i == 5 else i / 2 for i in range(120)],
        "week": [f"2026-01-{i % 28 + 1:02}" for i in range(120)],
    }
    data = Data(
        source=write(tmp_path / "rows.parquet", columns),
        text="title",
        features={"numeric": ["lag"], "dates": ["week"], "categorical": ["brand"]},
    )

    ingest(data, PRICE, tmp_path / "dataset")

    schema = read_schema(tmp_path / "dataset")
    assert schema.features.categorical[0].values == ("Brand 0", "Brand 1", "Brand 2", "Brand 3")
    found = {}
    for split in schema.rows:
        rows = read_rows(tmp_path / "dataset", split, schema)
        found |= dict(zip(rows.text, rows.features, strict=True))
    assert found["coat number 5"] == {"lag": None, "week": "2026-01-06", "brand": "Brand 1"}
    assert found["coat number 3"] == {"lag": 1.5, "week": "2026-01-04", "brand": None}


def test_features_that_cannot_be_read_set_their_row_aside(tmp_path: Path):
    columns = priced(40) | {"rating": ["4.5"] * 40, "week": ["2026-01-05"] * 40}
    columns["rating"][0], columns["rating"][1], columns["week"][2] = "No rating available", "inf", "15/03/16"
    features = {"numeric": ["rating"], "dates": ["week"]}
    data = Data(source=write(tmp_path / "rows.parquet", columns), text="title", features=features)

    ingest(data, PRICE, tmp_path / "dataset")

    reasons = [reason for _, reason, _ in rejected(tmp_path / "dataset")]
    assert reasons == ["feature not a number: rating", "feature not a number: rating", "feature not a date: week"]
    assert read_schema(tmp_path / "dataset").rejected == {"feature not a number": 2, "feature not a date": 1}


def test_a_recipe_may_declare_what_stands_for_a_missing_feature(tmp_path: Path):
    columns = priced(40) | {"rating": ["4.5"] * 39 + [" No rating available "], "shop": ["-"] + ["s1"] * 39}
    features = {"numeric": ["rating"], "categorical": ["shop"], "missing": ["No rating available", "-"]}
    data = Data(source=write(tmp_path / "rows.parquet", columns), text="title", features=features)

    assert ingest(data, PRICE, tmp_path / "dataset")["rows_rejected"] == 0

    schema = read_schema(tmp_path / "dataset")
    assert schema.features.missing == ("No rating available", "-")
    found = {}
    for split in schema.rows:
        rows = read_rows(tmp_path / "dataset", split, schema)
        found |= dict(zip(rows.text, rows.features, strict=True))
    assert found["coat number 39"] == {"rating": None, "shop": "s1"}
    assert found["coat number 0"] == {"rating": 4.5, "shop": None}


def test_a_column_of_very_many_categories_keeps_the_commonest_and_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    rows = 110_000
    columns = {"title": [f"coat {i}" for i in range(rows)], "price": [5.0 + i % 7 for i in range(rows)]}
    # Ten thousand shops have two rows each, ninety thousand one.
    columns["shop"] = [f"s{i if i < 90_000 else 90_000 + (i - 90_000) // 2}" for i in range(rows)]
    data = Data(source=write(tmp_path / "rows.parquet", columns), text="title", features={"categorical": ["shop"]})

    ingest(data, PRICE, tmp_path / "dataset")

    schema = read_schema(tmp_path / "dataset")
    known = schema.features.categorical[0].values
    assert 0 < len(known) <= 10_000
    assert all(int(name[1:]) >= 90_000 for name in known)
    assert f"shop: {len(known):,} of " in capsys.readouterr().out


def test_rows_that_differ_in_a_feature_are_no_duplicates(tmp_path: Path):
    columns = {"title": ["lamp"] * 60, "price": [5.0 + i % 3 for i in range(60)], "lag": list(range(60))}
    data = Data(source=write(tmp_path / "rows.parquet", columns), text="title", features={"numeric": ["lag"]})

    assert ingest(data, PRICE, tmp_path / "dataset")["rows_rejected"] == 0


def test_a_recipe_says_how_many_rows_may_be_flawed(tmp_path: Path):
    columns = priced(40)
    columns["price"][3] = 0.0
    source = write(tmp_path / "rows.parquet", columns)

    ingest(Data(source=source, text="title", most_flawed=0.1), PRICE, tmp_path / "dataset")
    with pytest.raises(UserError, match=r"parquet: row 4: label not above zero: 1 of 40 rows can't be used"):
        ingest(Data(source=source, text="title", most_flawed=0), PRICE, tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_categories_of_a_csv_are_those_that_a_service_sends(tmp_path: Path):
    # As pandas writes whole numbers of which one is missing, and booleans.
    lines = [
        "title,price,size,gift",
        *(f"coat {i},{5 + i},{'' if i == 3 else f'{i % 3}.0'},{i % 2 == 0}" for i in range(60)),
    ]
    path = tmp_path / "rows.csv"
    path.write_text("\n".join(lines) + "\n")
    data = Data(source=str(path), text="title", features={"categorical": ["size", "gift"], "missing": ["-1"]})

    ingest(data, PRICE, tmp_path / "dataset")

    features = read_schema(tmp_path / "dataset").features
    assert [category.values for category in features.categorical] == [("0", "1", "2"), ("false", "true")]
    sent = [{"size": 1, "gift": True}, {"size": "1.0", "gift": "True"}, {"size": 1.0, "gift": np.bool_(True)}]
    assert len({tuple(row) for row in features.arrays(sent)["categorical"].tolist()}) == 1


@pytest.mark.parametrize(("clicked", "message"), [(0, "has no yes in 'clicked'"), (1, "has no no in 'clicked'")])
def test_a_rate_that_is_all_yes_or_all_no_is_refused_before_any_work(tmp_path: Path, clicked: int, message: str):
    test = write(
        tmp_path / "test.parquet", {"text": [f"ad {i}" for i in range(10)], "clicked": [i % 2 for i in range(10)]}
    )
    columns = {"text": [f"text {i}" for i in range(60)], "clicked": [clicked] * 59 + [1 - clicked]}
    data = Data(train=write(tmp_path / "train.parquet", columns), test=test)

    with pytest.raises(UserError, match=message):
        ingest(data, {"click": Task(kind="rate", label="clicked")}, tmp_path / "dataset")


def test_numbers_beyond_what_a_graph_takes_are_set_aside(tmp_path: Path):
    columns = priced(40) | {"size": ["1.5"] * 37 + ["1e39", "-nan", "+NaN"]}
    columns["price"][0] = 1e300
    data = Data(source=write(tmp_path / "rows.parquet", columns), text="title", features={"numeric": ["size"]})

    ingest(data, PRICE, tmp_path / "dataset")

    assert read_schema(tmp_path / "dataset").rejected == {"label not finite": 1, "feature not a number": 1}
    tables = [
        pq.read_table(tmp_path / "dataset" / split)["feature_size"].to_pylist()
        for split in ("train", "validation", "test")
    ]
    kept = [value for table in tables for value in table]
    assert kept.count(None) == 2
    assert all(value is None or value == 1.5 for value in kept)


def test_an_infinite_name_is_told_as_such(tmp_path: Path):
    columns = priced(40) | {"shop": [1.0] * 39 + [float("inf")]}
    data = Data(source=write(tmp_path / "rows.parquet", columns), text="title", features={"categorical": ["shop"]})

    with pytest.raises(UserError, match="column 'shop' holds infinite numbers"):
        ingest(data, PRICE, tmp_path / "dataset")


def test_weeks_made_of_sales_and_the_sales_left_out_lie_beside_the_splits(tmp_path: Path):
    days = [f"2026-{1 + day // 28:02d}-{1 + day % 28:02d}" for day in range(140)]
    sales = {
        "sku": ["A"] * 140,
        "when": days,
        "units": [1 + i % 5 if i != 7 else -4 for i in range(140)],
        "price": [2.0] * 140,
        "name": ["red lamp"] * 140,
    }
    weeks = {"item": "sku", "time": "when", "quantity": "units", "price": "price", "description": "name", "lags": 2}
    data = Data(
        source=write(tmp_path / "sales.parquet", sales),
        item_weeks=weeks,
        text="description",
        features={"numeric": ["lag_1", "lag_2"]},
        split={"time": "week", "test": 0.2, "validation": 0.1},
    )

    ingest(data, {"units": Task(kind="value", label="quantity", scale="count", bins=16)}, tmp_path / "dataset")

    left_out = pq.read_table(tmp_path / "dataset" / "left_out.parquet").to_pylist()
    assert [(row["row"], row["reason"]) for row in left_out] == [(8, "returned")]
    made = pq.read_table(tmp_path / "dataset" / "item_weeks.parquet")
    assert made.num_rows == sum(read_schema(tmp_path / "dataset").rows.values())


def test_a_column_that_must_never_be_an_input_must_be_there(tmp_path: Path):
    columns = priced(40) | {"units": [1] * 40}
    data = Data(source=write(tmp_path / "rows.parquet", columns), text="title", never=["unitz"])

    with pytest.raises(UserError, match=r"data\.never: no file has a column 'unitz'; did you mean 'units'\?"):
        ingest(data, PRICE, tmp_path / "dataset")
    ingest(data.model_copy(update={"never": ["units"]}), PRICE, tmp_path / "dataset")

"""What each item sold in each week, against sales added up by hand."""

from pathlib import Path

import pandas as pd
import pytest

from potstill.data.item_weeks import check_sales, item_weeks
from potstill.errors import UserError
from potstill.recipe import ItemWeeks

RETAIL = Path(__file__).parents[3] / "shared" / "data" / "online_retail"
SETTINGS = ItemWeeks(item="sku", time="when", quantity="units", price="price", description="name", lags=2)
HEADER = "sku,when,units,price,name"


def csv(tmp_path, *rows):
    path = tmp_path / "sales.csv"
    path.write_text("\n".join([HEADER, *rows]) + "\n")
    return path


# Mondays of 2026: 5, 12, 19, 26 January, 2 February.
SALES = [
    "A,2026-01-06 10:00,3,2.0,lamp",
    "A,2026-01-11 23:59,1,2.5,red lamp",
    "A,2026-01-13,5,3.0,red lamp",
    "A,2026-01-13,-2,3.0,red lamp",
    "A,2026-02-01,4,2.0,red lamp",
    "B,2026-01-14,7,9.0,",
    "B,2026-01-15,50,0.0,cup",
    "B,2026-01-20,1,9.0,cup",
    ",2026-01-20,1,9.0,cup",
]


def test_weeks_are_added_up_with_their_past_and_weeks_of_nothing_are_there(tmp_path):
    found, left_out = item_weeks([csv(tmp_path, *SALES)], SETTINGS)

    rows = found[["item", "week", "lag_1", "lag_2", "quantity", "unit_price", "description"]]
    assert [(str(item), str(week)[:10], *rest) for item, week, *rest in rows.itertuples(index=False)] == [
        # Sunday, 1 February, closes the last week, so it is whole.
        ("A", "2026-01-19", 5, 4, 0, 3.0, "red lamp"),
        ("A", "2026-01-26", 0, 5, 4, 3.0, "red lamp"),
        ("B", "2026-01-26", 1, 7, 0, 9.0, "cup"),
    ]
    assert found["week_of_year"].tolist() == [4, 5, 5]
    assert [(row.row, row.reason) for row in left_out.itertuples()] == [
        (4, "returned"),
        (7, "price not above zero"),
        (9, "no item"),
    ]


def test_a_week_that_is_not_over_is_left_out(tmp_path):
    found, _ = item_weeks([csv(tmp_path, *SALES, "A,2026-02-03,50,2.0,red lamp")], SETTINGS)

    assert found["week"].max() == pd.Timestamp("2026-01-26")


def test_nothing_of_a_week_itself_is_known_before_it(tmp_path):
    late = [*SALES, "A,2026-01-30,1,99.0,a very long new name of the red lamp"]

    found, _ = item_weeks([csv(tmp_path, *late)], SETTINGS)
    (row,) = found[(found["item"] == "A") & (found["week"] == pd.Timestamp("2026-01-26"))].to_dict("records")

    assert (row["unit_price"], row["description"], row["quantity"]) == (3.0, "red lamp", 5)


def test_weeks_of_an_item_at_rest_are_left_out(tmp_path):
    found, _ = item_weeks([csv(tmp_path, *SALES)], SETTINGS.model_copy(update={"active": 2}))

    # A's week after one without a sale is gone; what is kept is chosen by the past alone.
    assert [(row.item, row.quantity) for row in found.itertuples()] == [("A", 0), ("B", 0)]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (["A,soon,1,2,x"], "row 1: when: 'soon' can't be read"),
        (["A,2026-01-06,1,2,x", "A,2026-01-06,few,2,x"], "row 2: units: 'few' can't be read"),
        (["A,2026-01-06,1,2,x", "A,2026-01-06,inf,2,x"], "row 2: units: 'inf' can't be read"),
        (["A,2026-01-06,1,No price,x"], r"row 1: price: 'No price' can't be read \(such rows: 1\)"),
        (["A,2026-01-06,-1,2,x"], "holds no sale"),
    ],
)
def test_sales_that_can_not_be_read_are_refused(tmp_path, rows, message):
    with pytest.raises(UserError, match=message):
        item_weeks([csv(tmp_path, *rows)], SETTINGS)


def test_a_missing_column_is_named_before_any_work(tmp_path):
    path = csv(tmp_path, *SALES)
    path.write_text(path.read_text().replace("units", "pieces"))

    with pytest.raises(UserError, match=r"no column 'units' for data.item_weeks.quantity \(columns: sku, when, pieces"):
        check_sales(path, SETTINGS)


def test_one_form_of_file_is_as_good_as_another(tmp_path):
    path = csv(tmp_path, *SALES)
    table = pd.read_csv(path)
    table.assign(when=pd.to_datetime(table["when"], format="mixed")).to_parquet(tmp_path / "s.parquet")

    made, _ = item_weeks([tmp_path / "s.parquet"], SETTINGS)

    pd.testing.assert_frame_equal(made, item_weeks([path], SETTINGS)[0])


def test_times_of_several_zones_are_moments_all_the_same(tmp_path):
    zoned = [row.replace("2026-01-06 10:00", "2026-01-06T10:00:00+01:00") for row in SALES]
    zoned = [row.replace("2026-01-20,", "2026-01-20T00:30:00+02:00,") for row in zoned]

    made, _ = item_weeks([csv(tmp_path, *zoned)], SETTINGS)

    assert made["lag_2"].tolist() == [4, 5, 7]


@pytest.mark.skipif(not RETAIL.is_dir(), reason="needs shared/data/online_retail beside the project")
def test_real_sales_add_up_to_the_weeks_that_others_prepared():
    columns = {"item": "stock_code", "time": "invoice_date", "quantity": "quantity", "price": "unit_price"}
    settings = ItemWeeks(**columns, description="description")

    made, _ = item_weeks([RETAIL / "transactions.parquet"], settings)

    prepared = pd.concat([pd.read_parquet(RETAIL / f"weekly_demand_{split}.parquet") for split in ("train", "test")])
    made = made.rename(columns={"item": "stock_code"})
    both = prepared.merge(made, on=["stock_code", "week"], suffixes=("_theirs", "_ours"))
    assert len(both) > 16_000
    for name in ("quantity", "lag_1", "lag_8"):
        assert (both[f"{name}_theirs"] == both[f"{name}_ours"]).mean() > 0.9999

"""Sales as they were rung up → what each item sold in each week, with the weeks before as columns."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from potstill.data.formats import Source, opened
from potstill.errors import UserError
from potstill.recipe import ItemWeeks

SALES = ("item", "description", "time", "quantity", "price")
COLUMNS = ("item", "description", "week", "unit_price", "week_of_year", "quantity")


def item_weeks(files: Sequence[Source], settings: ItemWeeks) -> tuple[pd.DataFrame, pd.DataFrame]:
    """One row an item and week, from the item's first sale to the last week of all, sales of nothing included.

    Sales that don't count are left out, each with its reason: see `_reasons`. The first `lags` weeks of an item have no
    row, for they lack a past; nor has the last week of all, unless it is whole (seven days), nor a week before which
    the item was at rest (`active`).

    Args:
        files: of the sales, Parquet or CSV.
        settings: which columns say what.

    Returns:
        The weeks, with the columns `item`, `description` (the longest that the item had before), `week` (its Monday),
        `unit_price` (the last one known before it), `week_of_year` (1 to 53), `lag_1` … (units sold so many weeks
        before) and `quantity`; and the sales that were left out: `file`, `row` from 1, and `reason`.

    Raises:
        UserError: a column is missing, or a time, a quantity or a price can't be read.
    """
    sales = pd.concat([_table(path, settings) for path in files], ignore_index=True)
    reasons = _reasons(sales)
    left_out = sales[["file", "row"]].assign(reason=reasons).dropna().reset_index(drop=True)
    sales = sales[reasons.isna()].copy()
    if sales.empty:
        raise UserError(f"{files[0]}: holds no sale: no row with an item, a time and a quantity above zero")
    sales["week"] = sales["time"].dt.to_period("W-SUN").dt.start_time
    table = _with_past(_by_week(sales), settings.lags)
    sold = (table[[f"lag_{lag}" for lag in range(1, settings.lags + 1)]] > 0).sum(axis=1)
    return table[sold >= settings.active].reset_index(drop=True), left_out


def _reasons(sales: pd.DataFrame) -> pd.Series:
    """Why each sale does not count; none where it does. A sale whose price is merely unknown counts."""
    flaws = {
        "no item": sales["item"].isna(),
        "no time": sales["time"].isna(),
        "no quantity": sales["quantity"].isna(),
        "returned": sales["quantity"] < 0,
        "nothing sold": sales["quantity"] == 0,
        "price not above zero": sales["price"] <= 0,
    }
    found = np.select([flaw.to_numpy(dtype=bool) for flaw in flaws.values()], list(flaws), default="")
    return pd.Series(found, index=sales.index).replace("", None)


def check_sales(path: Source, settings: ItemWeeks) -> None:
    """A cheap look: the file opens and has the columns. Raises UserError."""
    _require(path, settings, list(_read(path, only_names=True).columns))


def _table(path: Source, settings: ItemWeeks) -> pd.DataFrame:
    table = _read(path)
    wanted = _require(path, settings, list(table.columns))
    table = table[list(wanted)].rename(columns=wanted)
    # Zones may be mixed, for summer and winter: what counts is the moment.
    moments = pd.to_datetime(table["time"], errors="coerce", format="ISO8601", utc=True).dt.tz_localize(None)
    return table.assign(
        item=table["item"].astype("string"),
        time=_readable(moments, table["time"], path, settings.time),
        quantity=_readable(_numbers(table["quantity"]), table["quantity"], path, settings.quantity),
        price=_readable(_numbers(table["price"]), table["price"], path, settings.price),
        file=str(path),
        row=np.arange(1, len(table) + 1),
    )


def _numbers(given: pd.Series) -> pd.Series:
    """A column as finite numbers, NaN where it holds none."""
    found = pd.to_numeric(given, errors="coerce")
    return found.where(np.isfinite(found))


def _require(path: Source, settings: ItemWeeks, found: list[str]) -> dict[str, str]:
    """The column of the source → our name of it. Raises UserError where one is missing."""
    wanted = {getattr(settings, name): name for name in SALES}
    missing = [column for column in wanted if column not in found]
    if missing:
        names = ", ".join(map(str, found[:30]))
        raise UserError(f"{path}: no column {missing[0]!r} for data.item_weeks.{wanted[missing[0]]} (columns: {names})")
    return wanted


def _read(path: Source, only_names: bool = False) -> pd.DataFrame:
    try:
        if path.suffix.lower() == ".parquet":
            with opened(path) as file:
                return pq.read_schema(file).empty_table().to_pandas() if only_names else pd.read_parquet(file)
        if path.suffix.lower() == ".csv":
            with opened(path) as file:
                return pd.read_csv(file, nrows=0 if only_names else None)
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: can't be read: {str(error).splitlines()[0]}") from error
    raise UserError(f"{path}: sales are read from Parquet or CSV, not from {path.suffix}")


def _readable(read: pd.Series, given: pd.Series, path: Source, column: str) -> pd.Series:
    """The column as read; a value that is there and can't be read refuses the file."""
    odd = given[read.isna() & given.notna()]
    if len(odd):
        where = f"{path}: row {odd.index[0] + 1}: {column}"
        raise UserError(f"{where}: {str(odd.iloc[0])!r} can't be read (such rows: {len(odd):,}); mend or drop them")
    return read


def _by_week(sales: pd.DataFrame) -> pd.DataFrame:
    """Units, price and description of each item in each week, weeks of nothing included."""
    sales = sales.sort_values(["item", "time"], kind="stable")
    grouped = sales.groupby(["item", "week"])
    sold = grouped.agg(quantity=("quantity", "sum"), price=("price", "last"), description=("description", _longest))
    last = sales["time"].max()
    whole = last.dayofweek == 6  # a week that Sunday closed
    end = sales["week"].max() - (pd.Timedelta(0) if whole else pd.Timedelta(weeks=1))
    weeks = {item: pd.date_range(first, end, freq="7D") for item, first in sales.groupby("item")["week"].min().items()}
    pairs = [(item, week) for item, span in weeks.items() for week in span]
    return sold.reindex(pd.MultiIndex.from_tuples(pairs, names=["item", "week"]))


def _longest(texts: pd.Series) -> str | None:
    known = texts.dropna().astype(str)
    return max(known, key=len) if len(known) else None


def _with_past(weeks: pd.DataFrame, lags: int) -> pd.DataFrame:
    """The table of weeks, with what was known before each."""
    weeks["quantity"] = weeks["quantity"].fillna(0).astype("int64")
    items = weeks.groupby(level="item")
    past = {f"lag_{lag}": items["quantity"].shift(lag) for lag in range(1, lags + 1)}
    known = {
        "unit_price": items["price"].transform(lambda prices: prices.ffill().shift(1)),
        "description": items["description"].transform(lambda texts: texts.ffill().shift(1)),
    }
    table = weeks.assign(**known, **past).reset_index()
    table["week_of_year"] = table["week"].dt.isocalendar().week.astype("int64")
    table = table.dropna(subset=[f"lag_{lags}", "description"])
    table = table.astype({f"lag_{lag}": "int64" for lag in range(1, lags + 1)})
    return table[[*COLUMNS[:-1], *past, COLUMNS[-1]]]

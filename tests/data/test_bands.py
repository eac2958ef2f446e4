"""Numbers as classes: price bands."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from potstill.data.dataset import read_schema
from potstill.data.read import band_names
from potstill.recipe import Data, Task
from potstill.steps.ingest import ingest


def test_a_band_holds_its_lower_end():
    assert band_names([100, 250.5]) == ["below 100", "100 to 250.5", "from 250.5"]


@pytest.mark.parametrize("suffix", [".parquet", ".csv"])
def test_prices_become_bands_and_what_is_no_number_is_set_aside(tmp_path, suffix):
    prices = ["99.99", "100", "250.49", "250.5", "free", "nan", "1e3", "-5"] * 10
    texts = [f"thing {i}" for i in range(80)]
    path = tmp_path / f"rows{suffix}"
    if suffix == ".csv":
        path.write_text("text,price\n" + "".join(f"{t},{p}\n" for t, p in zip(texts, prices, strict=True)))
    else:
        pq.write_table(pa.table({"text": texts, "price": prices}), path)
    ingest(Data(source=str(path)), {"band": Task(label="price", bands=[100, 250.5])}, tmp_path / "dataset")
    schema = read_schema(tmp_path / "dataset")
    assert schema.outcome.names == ("100 to 250.5", "below 100", "from 250.5")
    assert schema.rejected == {"label not a number": 10, "label not finite": 10, "label not above zero": 10}
    labels = [
        label for split in schema.rows for label in pq.read_table(tmp_path / "dataset" / split)["label"].to_pylist()
    ]
    assert [labels.count(name) for name in ("below 100", "100 to 250.5", "from 250.5")] == [10, 20, 20]


def test_which_numbers_may_be_divided_is_the_scales_to_say(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text("text,units\n" + "".join(f"thing {i},{i % 4 - 1}\n" for i in range(40)))
    kept = {}
    for scale in ("log", "count", "linear"):
        task = Task(label="units", bands=[1.5], scale=scale)
        ingest(Data(source=str(path)), {"band": task}, tmp_path / scale)
        kept[scale] = sum(read_schema(tmp_path / scale).rows.values())
    assert kept == {"log": 20, "count": 30, "linear": 40}


def test_floats_are_taken_whatever_their_type(tmp_path):
    pq.write_table(
        pa.table({"text": [f"thing {i}" for i in range(40)], "price": [1.5, 20.0] * 20}), tmp_path / "rows.parquet"
    )
    task = Task(label="price", bands=[10])
    ingest(Data(source=str(tmp_path / "rows.parquet")), {"band": task}, tmp_path / "dataset")
    assert read_schema(tmp_path / "dataset").outcome.names == ("below 10", "from 10")

"""Two texts a row: training, the exported graph and the edge see the same tokens."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from potstill.data.dataset import read_rows, read_schema
from potstill.edge import EdgeModel
from potstill.learn.model import encode, load_model, predict_logits
from potstill.recipe import Data, Task
from tests.conftest import THINGS
from tests.steps.conftest import Line, run_line


@pytest.fixture(scope="module")
def couples(tmp_path_factory: pytest.TempPathFactory, encoder: Path) -> Line:
    """Whether the second text names the first's thing; some second texts are missing."""
    random = np.random.default_rng(0)
    rows = []
    for i in range(300):
        first, second = random.choice(THINGS, size=2)
        history = None if i % 10 == 0 else " ".join([f"n{i % 40}", str(second)] * 12)
        rows.append({"item": f"a {first} n{i % 40} n{i // 40}", "history": history, "same": str(first == second)})
    root = tmp_path_factory.mktemp("couples")
    pq.write_table(pa.Table.from_pylist(rows), root / "rows.parquet")
    data = Data(source=str(root / "rows.parquet"), text=["item", "history"], pair=True)
    return run_line(root, encoder, data, {"same": Task(label="same")}, distill={"epochs": 1}, teacher={"epochs": 1})


def test_both_texts_keep_their_share_of_the_tokens(couples: Line):
    model, tokenizer = load_model(couples.student)
    schema = read_schema(couples.dataset)
    rows = read_rows(couples.dataset, "test", schema)
    ids = encode(tokenizer, rows, model.head).ids
    separator = tokenizer.sep_token_id
    paired = [row.count(separator) for row in ids]
    assert set(paired) == {1, 2}
    # The longer one is cut: the item is whole.
    assert all(row.index(separator) == 5 for row in map(list, ids))
    assert max(map(len, ids)) == 16


def test_the_edge_sees_what_training_saw_joined_or_as_columns(couples: Line):
    model, tokenizer = load_model(couples.student)
    schema = read_schema(couples.dataset)
    rows = read_rows(couples.dataset, "test", schema)
    expected = predict_logits(model, encode(tokenizer, rows, model.head), tokenizer.pad_token_id).numpy()
    edge = EdgeModel(couples.edge / "float")
    assert edge.logits(rows.records("item")) == pytest.approx(expected, abs=1e-4)
    assert edge.text_columns == ("item", "history")
    table = [{"item": "a lamp n1", "history": "n2 chair"}, {"item": "a lamp n1", "history": None}]
    joined = ["a lamp n1 ␞ n2 chair", "a lamp n1"]
    assert edge.logits(table) == pytest.approx(edge.logits(joined), abs=1e-6)

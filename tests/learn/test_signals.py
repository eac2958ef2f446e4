from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from potstill.errors import UserError
from potstill.learn.signals import Batch, read_manifest, read_signals, write_signals

LOGITS = np.array([[1.5, -2.25], [0.0, 3.0], [-7.5, 0.125]], dtype=np.float32)


def write(folder: Path) -> None:
    batches = [Batch("train", ["aa", "bb"], LOGITS[:2]), Batch("test", ["cc"], LOGITS[2:])]
    write_signals(folder, batches, teacher_digest="t", dataset_digest="d", outcomes=("no", "yes"))


def test_logits_come_back_joined_by_row_and_not_by_order(tmp_path: Path):
    write(tmp_path)
    assert read_signals(tmp_path, ["cc", "aa"]).tolist() == [[-7.5, 0.125], [1.5, -2.25]]


def test_a_row_that_came_again_gets_its_logits_again(tmp_path: Path):
    write(tmp_path)
    assert read_signals(tmp_path, ["cc", "aa", "cc"]).tolist() == [[-7.5, 0.125], [1.5, -2.25], [-7.5, 0.125]]


def test_anyone_can_read_the_table_with_pandas(tmp_path: Path):
    write(tmp_path)
    table = pd.read_parquet(tmp_path / "part-00000.parquet")
    assert table["row"].tolist() == ["aa", "bb"]
    assert table["split"].tolist() == ["train", "train"]
    assert np.stack(table["logits"].to_numpy()).tolist() == LOGITS[:2].tolist()


def test_logits_are_stored_as_float16_and_the_manifest_says_what_they_are(tmp_path: Path):
    write(tmp_path)
    assert str(pq.read_schema(tmp_path / "part-00000.parquet").field("logits").type.value_type) == "halffloat"
    manifest = read_manifest(tmp_path)
    assert (manifest.teacher_digest, manifest.dataset_digest, manifest.outcomes) == ("t", "d", ("no", "yes"))
    assert (manifest.rows, [part.rows for part in manifest.parts]) == (3, [2, 1])


def test_a_row_without_logits_is_refused(tmp_path: Path):
    write(tmp_path)
    with pytest.raises(UserError, match="no teacher logits for 1 of 2 rows, such as zz"):
        read_signals(tmp_path, ["aa", "zz"])


def test_a_tampered_shard_is_named(tmp_path: Path):
    write(tmp_path)
    shard = tmp_path / "part-00001.parquet"
    shard.write_bytes(shard.read_bytes()[:-1] + b"X")
    with pytest.raises(UserError, match=r"part-00001\.parquet.*not the one that the manifest names"):
        read_signals(tmp_path, ["aa"])


def test_a_missing_shard_is_named(tmp_path: Path):
    write(tmp_path)
    (tmp_path / "part-00000.parquet").unlink()
    with pytest.raises(UserError, match=r"part-00000\.parquet.*missing"):
        read_signals(tmp_path, ["cc"])


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e6])
def test_logits_that_float16_can_not_hold_are_refused(tmp_path: Path, bad: float):
    batch = Batch("train", ["aa"], np.array([[bad, 0.0]], dtype=np.float32))
    with pytest.raises(ValueError, match="not finite in float16"):
        write_signals(tmp_path, [batch], teacher_digest="t", dataset_digest="d", outcomes=("no", "yes"))

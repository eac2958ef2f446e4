"""Adapt: what of the dataset is read, and who starts from what it writes."""

import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from potstill.learn.model import load_encoder, load_model
from potstill.recipe import Adapt, Data, Distill, Split, Student, Task
from potstill.steps.adapt import adapt
from potstill.steps.control import control
from potstill.steps.ingest import ingest
from potstill.steps.teach import teach
from potstill.store import Folder, folder_digest
from tests.conftest import reviews
from tests.steps.conftest import QUICK, Line

BRIEFLY = Adapt(epochs=2, learning_rate=1e-2, batch_size=16)
STILL = QUICK | {"epochs": 1, "learning_rate": 1e-12, "weight_decay": 0}


@pytest.fixture(scope="module")
def adapted(line: Line, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("adapt") / "adapted"
    found = adapt(line.dataset, line.settings, BRIEFLY, folder)
    assert 0 < found["validation_loss"] < 4
    return folder


def test_the_same_recipe_gives_the_same_encoder(line: Line, adapted: Path, tmp_path: Path):
    adapt(line.dataset, line.settings, BRIEFLY, tmp_path / "again", checkpoints=Folder(tmp_path / "checkpoints"))
    assert folder_digest(tmp_path / "again") == folder_digest(adapted)
    assert not list((tmp_path / "checkpoints").iterdir())


def dataset_of(folder: Path, labels: list[str], pool: list[str] | None = None) -> Path:
    folder.mkdir()
    pq.write_table(pa.table(reviews(240) | {"sentiment": labels}), folder / "rows.parquet")
    data = {"source": str(folder / "rows.parquet"), "split": Split(by="product")}
    if pool:
        pq.write_table(pa.table({"text": pool}), folder / "pool.parquet")
        data["unlabelled"] = str(folder / "pool.parquet")
    ingest(Data.model_validate(data), {"task": Task(label="sentiment")}, folder / "dataset")
    return folder / "dataset"


def test_it_looks_at_texts_alone_and_at_those_without_a_label(line: Line, tmp_path: Path):
    labels = reviews(240)["sentiment"]
    other = ["negative" if label == "positive" else "positive" for label in labels]
    pool = [f"the lamp was a {word} n3" for word in ("lovely", "awful", "solid")]
    found = {}
    for name, told in (("plain", (labels,)), ("turned", (other,)), ("pooled", (labels, pool))):
        adapt(dataset_of(tmp_path / name, *told), line.settings, BRIEFLY, tmp_path / name / "adapted")
        shutil.rmtree(tmp_path / name / "dataset")
        found[name] = folder_digest(tmp_path / name / "adapted")
    assert found["plain"] == found["turned"] != found["pooled"]


def test_teacher_and_control_start_from_it(line: Line, adapted: Path, tmp_path: Path):
    start = line.settings.model_copy(update={"encoder": str(adapted), "epochs": 1, "learning_rate": 1e-12})
    teach(line.dataset, start, tmp_path / "teacher")
    control(line.dataset, start, Student(layers=2), Distill.model_validate(STILL), tmp_path / "control")
    encoder = load_encoder(str(adapted))[0]
    for name, layers in (("teacher", range(4)), ("control", (0, 3))):
        own = load_model(tmp_path / name)[0].encoder.encoder.layer
        for mine, number in zip(own, layers, strict=True):
            its = encoder.encoder.layer[number].output.dense.weight
            torch.testing.assert_close(mine.output.dense.weight, its, atol=1e-6, rtol=0)


def test_a_trimmed_vocabulary_stays_trimmed(line: Line, tmp_path: Path):
    trimmed = line.settings.model_copy(update={"vocabulary": "trim"})
    adapt(line.dataset, trimmed, BRIEFLY, tmp_path / "adapted")
    encoder, tokenizer = load_encoder(str(tmp_path / "adapted"))
    assert len(tokenizer) == encoder.config.vocab_size < load_encoder(line.settings.encoder)[0].config.vocab_size
    teach(line.dataset, trimmed.model_copy(update={"encoder": str(tmp_path / "adapted"), "epochs": 1}), tmp_path / "t")
    assert len(load_model(tmp_path / "t")[1]) == len(tokenizer)

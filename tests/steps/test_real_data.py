"""The line on real texts with the real packaged encoder, small enough for a test."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from potstill.data.dataset import read_rows, read_schema
from potstill.edge import EdgeModel
from potstill.learn.model import encode, load_model, predict_logits
from potstill.learn.signals import read_signals
from potstill.metrics import auc
from potstill.recipe import Compress, Data, Distill, Features, Recipe, Signals, Task, Teacher, load_recipe
from potstill.steps.compress import compress
from potstill.steps.distill import distill
from potstill.steps.extract import extract
from potstill.steps.ingest import ingest
from potstill.steps.made import Origin
from potstill.steps.teach import teach

SHARED = Path(__file__).parents[3] / "shared" / "data"
BANKING, CLICKS = SHARED / "banking77", SHARED / "ad_clicks"


@pytest.fixture(scope="module")
def recipe() -> Recipe:
    return load_recipe(Path("recipes/review-sentiment.yaml"))


@pytest.fixture(scope="module")
def reviews(recipe: Recipe, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample data, ingested as shipped."""
    dataset = tmp_path_factory.mktemp("reviews") / "dataset"
    ingest(recipe.data, recipe.tasks, dataset)
    return dataset


def test_the_sample_keeps_its_rows_and_sets_repeats_aside_with_a_reason(reviews: Path, recipe: Recipe):
    schema = read_schema(reviews)
    source = pq.read_table(recipe.data.source)
    rejected = pq.read_table(reviews / "rejected.parquet").to_pylist()
    assert sum(schema.rows.values()) + len(rejected) == source.num_rows == 3708
    assert schema.outcome.names == ("negative", "neutral", "positive")
    texts = source["text"].to_pylist()
    for row in rejected:
        assert row["reason"] in {"duplicate", "conflicting label"}
        assert texts[row["row"] - 1].strip() == row["text"]
        assert sum(" ".join(text.split()) == " ".join(row["text"].split()) for text in texts) > 1


def test_no_product_of_the_sample_stands_in_two_splits(reviews: Path):
    groups = [set(pq.read_table(reviews / split)["split"].to_pylist()) for split in ("train", "validation", "test")]
    assert not groups[0] & groups[1]
    assert not groups[0] & groups[2]
    assert not groups[1] & groups[2]
    rows = read_schema(reviews).rows
    assert rows["test"] / sum(rows.values()) == pytest.approx(0.2, abs=0.02)
    assert rows["validation"] / sum(rows.values()) == pytest.approx(0.1, abs=0.02)


def test_a_real_encoder_learns_real_reviews_and_int8_keeps_its_student(
    recipe: Recipe, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
):
    source = tmp_path / "few.parquet"
    pq.write_table(pq.read_table(recipe.data.source).slice(0, 900), source)
    data = recipe.data.model_copy(update={"source": str(source)})
    ingest(data, recipe.tasks, tmp_path / "dataset")
    schema = read_schema(tmp_path / "dataset")
    rows = read_rows(tmp_path / "dataset", "test", schema)
    majority = np.bincount(rows.value.astype(int)).max() / len(rows)

    settings = Teacher.model_validate(recipe.teacher.model_dump() | {"epochs": 2, "max_tokens": 32})
    teach(tmp_path / "dataset", settings, tmp_path / "teacher")
    extract(tmp_path / "dataset", tmp_path / "teacher", tmp_path / "signals", Signals(), schema.digest, "t")
    knobs = Distill.model_validate(recipe.distill.model_dump() | {"epochs": 2})
    folders = tmp_path / "dataset", tmp_path / "teacher", tmp_path / "signals"
    distill(*folders, recipe.student, knobs, tmp_path / "student")
    compress(
        tmp_path / "dataset",
        tmp_path / "student",
        Compress(),
        Origin("r", schema.digest, "t", "s"),
        tmp_path / "edge",
    )

    teacher = read_signals(tmp_path / "signals", rows.row)
    plain, small = (EdgeModel(tmp_path / "edge" / name).logits(rows.text) for name in ("float", "small"))
    assert (teacher.argmax(1) == rows.value).mean() > majority + 0.1
    assert (plain.argmax(1) == rows.value).mean() > majority + 0.05
    assert (plain.argmax(1) == small.argmax(1)).mean() >= 0.95
    sizes = [(tmp_path / "edge" / name / "model.onnx").stat().st_size for name in ("float", "small")]
    assert sizes[1] < sizes[0] / 3.5


@pytest.mark.skipif(not BANKING.is_dir(), reason="needs shared/data/banking77 beside the project")
def test_banking77_keeps_the_division_of_its_publisher(tmp_path: Path):
    recipe = load_recipe(
        Path("recipes/support-intent.yaml"),
        [f"data.train={BANKING / 'train.parquet'}", f"data.test={BANKING / 'test.parquet'}"],
    )
    ingest(recipe.data, recipe.tasks, tmp_path / "dataset")
    schema = read_schema(tmp_path / "dataset")
    assert len(schema.outcome) == 77
    assert sum(schema.rows.values()) + sum(schema.rejected.values()) == 10_003 + 3_080
    train, test = (set(pq.read_table(tmp_path / "dataset" / split)["text"].to_pylist()) for split in ("train", "test"))
    assert not train & test


@pytest.mark.skipif(not CLICKS.is_dir(), reason="needs shared/data/ad_clicks beside the project")
def test_numbers_decide_where_the_text_is_noise_and_are_served_as_they_were_learnt(tmp_path: Path, recipe: Recipe):
    numeric = ["daily_time_spent_on_site", "age", "area_income", "daily_internet_usage"]
    files = {split: str(CLICKS / f"{split}.parquet") for split in ("train", "test")}
    features = Features(numeric=numeric, categorical=["country", "gender"])
    data = Data(**files, text="ad_text", features=features, never=["timestamp"])
    ingest(data, {"click": Task(kind="rate", label="clicked", decides="auc")}, tmp_path / "dataset")
    knobs = {"epochs": 3, "learning_rate": 1e-3, "max_tokens": 16, "freeze_embeddings": True}
    teach(tmp_path / "dataset", Teacher(encoder=recipe.teacher.encoder, **knobs), tmp_path / "model")
    compress(tmp_path / "dataset", tmp_path / "model", Compress(), Origin("r", "d", "t", "s"), tmp_path / "edge")

    raw = pq.read_table(files["test"]).to_pylist()
    schema = read_schema(tmp_path / "dataset")
    rows = read_rows(tmp_path / "dataset", "test", schema)
    model, tokenizer = load_model(tmp_path / "model")
    learnt = predict_logits(model, encode(tokenizer, rows, model.head), tokenizer.pad_token_id).numpy()
    served = EdgeModel(tmp_path / "edge" / "float").logits(raw)
    rates = np.array([answer["rate"] for answer in EdgeModel(tmp_path / "edge" / "small").answer(raw)])

    assert [row["ad_text"].strip() for row in raw] == rows.text
    assert np.abs(learnt - served).max() < 1e-3
    assert auc(np.ones((1, len(raw))), rows.value, rates)[0] > 0.9

"""Small shared things: a tiny encoder with random weights, and a tiny shop's reviews."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
GOOD, BAD, THINGS = ["great", "lovely", "solid"], ["poor", "broken", "awful"], ["kettle", "lamp", "chair", "radio"]
WORDS = ["the", "a", "is", "was", "very", *GOOD, *BAD, *THINGS, *(f"n{i}" for i in range(40))]


@pytest.fixture(scope="session")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT of 4 layers × 16 with its tokenizer, as a Hugging Face folder."""
    folder = tmp_path_factory.mktemp("encoder")
    vocabulary = {word: i for i, word in enumerate([*SPECIAL, *WORDS])}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
    )
    fast.save_pretrained(folder)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=16,
        num_hidden_layers=4,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=64,
        initializer_range=0.2,
    )
    BertModel(config, add_pooling_layer=False).save_pretrained(folder)
    return folder


def reviews(rows: int, seed: int = 0) -> dict[str, list[str]]:
    """Distinct short reviews whose words tell their sentiment, each of one of twelve products."""
    random = np.random.default_rng(seed)
    columns: dict[str, list[str]] = {"text": [], "sentiment": [], "product": []}
    for i in range(rows):
        good = bool(random.integers(2))
        word = random.choice(GOOD if good else BAD)
        columns["text"].append(f"the {random.choice(THINGS)} n{i % 40} n{i // 40} is very {word}")
        columns["sentiment"].append("positive" if good else "negative")
        columns["product"].append(f"p{random.integers(12)}")
    return columns


@pytest.fixture(scope="session")
def reviews_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """240 tiny reviews as Parquet."""
    path = tmp_path_factory.mktemp("reviews") / "reviews.parquet"
    pq.write_table(pa.table(reviews(240)), path)
    return path

"""A trimmed encoder answers as before on text of kept pieces, and still reads every other text."""

from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from potstill.compress.trim import trim
from potstill.errors import UserError
from potstill.learn.model import load_encoder

CHINESE = [("<s>", 0.0), ("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -1.0), ("很", -5.0), ("好", -5.0)]
CHINESE += [("用", -5.0), ("很好", -3.0), ("好用", -2.0), ("质量", -2.0), ("质", -6.0), ("量", -6.0)]


@pytest.fixture
def unigram() -> tuple[BertModel, Any]:
    made = Tokenizer(models.Unigram(CHINESE, unk_id=3))
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    made.post_processor = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=made,
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        pad_token="<pad>",
        cls_token="<s>",
        sep_token="</s>",
        mask_token="<mask>",
    )
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        pad_token_id=1,
    )
    return BertModel(config, add_pooling_layer=False).eval(), tokenizer


def answer(encoder: Any, tokenizer: Any, text: str) -> torch.Tensor:
    ids = tokenizer([text], return_tensors="pt")["input_ids"]
    with torch.no_grad():
        found: torch.Tensor = encoder(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state
    return found


def test_text_of_kept_pieces_is_answered_as_before(unigram: tuple[BertModel, Any]):
    encoder, tokenizer = unigram
    before, size = answer(encoder, tokenizer, "好用"), len(tokenizer)
    encoder, small = trim(encoder, tokenizer, ["好用", "很"])
    assert len(small) < size
    assert encoder.config.vocab_size == encoder.get_input_embeddings().num_embeddings == len(small)
    assert torch.equal(answer(encoder, small, "好用"), before)


def test_other_words_fall_apart_into_smaller_pieces(unigram: tuple[BertModel, Any]):
    encoder, tokenizer = unigram
    assert "质量" in tokenizer.tokenize("质量好用")
    _, small = trim(encoder, tokenizer, ["好用"])
    assert small.tokenize("质量好用") == ["▁", "质", "量", "好用"]
    assert small.convert_tokens_to_ids("<pad>") == small.pad_token_id


def test_a_trimmed_pair_survives_saving_and_loading(unigram: tuple[BertModel, Any], tmp_path: Path):
    encoder, small = trim(*unigram, ["好用"])
    encoder.save_pretrained(tmp_path)
    small.save_pretrained(tmp_path)
    loaded, tokenizer = load_encoder(str(tmp_path))
    assert tokenizer("很好用")["input_ids"] == small("很好用")["input_ids"]
    assert torch.equal(answer(loaded.eval(), tokenizer, "好用"), answer(encoder, small, "好用"))


def test_word_pieces_are_trimmed_too(encoder: Path):
    model, tokenizer = load_encoder(str(encoder))
    before = answer(model.eval(), tokenizer, "the kettle is great")
    size = len(tokenizer)
    model, small = trim(model, tokenizer, ["the kettle is great"])
    assert len(small) < size
    assert torch.equal(answer(model, small, "the kettle is great"), before)
    assert small.tokenize("n7") == ["[UNK]"]


def test_a_tokenizer_of_another_kind_is_refused(encoder: Path):
    model, _ = load_encoder(str(encoder))
    words = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel({"a": 0, "?": 1}, unk_token="?")))
    with pytest.raises(UserError, match="can't trim a tokenizer of the kind WordLevel"):
        trim(model, words, ["a"])

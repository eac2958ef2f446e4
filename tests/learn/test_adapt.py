"""Going on with masked-language-model training."""

from pathlib import Path

import pytest
import torch
from transformers import (
    AutoModel,
    AutoModelForMaskedLM,
    BertConfig,
    DataCollatorForLanguageModeling,
    DistilBertConfig,
    ElectraConfig,
    MobileBertConfig,
    MPNetConfig,
    RobertaConfig,
    TrainingArguments,
)

from potstill.errors import UserError
from potstill.learn.adapt import KNOWN, _batch, _masked_once, _Trainer, _with_head, adapt_encoder
from potstill.learn.model import load_encoder
from potstill.learn.static import StaticConfig, StaticEncoder
from potstill.recipe import Adapt
from tests.conftest import reviews

TEXTS = reviews(200)["text"]
SMALL = {"vocab_size": 60, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
KINDS = {
    "bert": BertConfig(**SMALL),
    "distilbert": DistilBertConfig(vocab_size=60, dim=16, n_layers=2, n_heads=2, hidden_dim=32),
    "electra": ElectraConfig(**SMALL, embedding_size=8),
    "mobilebert": MobileBertConfig(
        **SMALL, embedding_size=8, intra_bottleneck_size=16, true_hidden_size=16, num_feedforward_networks=1
    ),
    "mpnet": MPNetConfig(**SMALL),
    "roberta": RobertaConfig(**SMALL),
}


class KilledError(Exception):
    """What a kill is to the code that it ends."""


def adapted(encoder: Path, checkpoints: Path | None = None, killed_after: int = 0, **knobs: object) -> tuple:
    def on_epoch(figures: object) -> None:
        if figures["epoch"] == killed_after:  # type: ignore[index]
            raise KilledError

    settings = Adapt.model_validate({"epochs": 4, "learning_rate": 1e-2, "batch_size": 16} | knobs)
    model, tokenizer = load_encoder(str(encoder))
    return adapt_encoder(model, tokenizer, (TEXTS[:160], TEXTS[160:]), settings, 16, on_epoch, checkpoints)


def test_it_learns_which_pieces_stand_where(encoder: Path):
    model, epochs = adapted(encoder, epochs=10)
    assert [epoch.epoch for epoch in epochs] == list(range(1, 11))
    # Of some sixty pieces one guesses with a loss of 4; the words around a masked one leave few to choose from.
    assert 2.5 < epochs[0].validation_loss < 4
    assert epochs[-1].validation_loss < 0.7 * epochs[0].validation_loss
    before = load_encoder(str(encoder))[0].state_dict()
    assert set(model.state_dict()) == set(before)
    assert not torch.equal(
        model.state_dict()["encoder.layer.0.output.dense.weight"], before["encoder.layer.0.output.dense.weight"]
    )


def test_same_seed_gives_the_same_encoder(encoder: Path):
    first, again, other = (adapted(encoder, epochs=1, seed=seed)[0].state_dict() for seed in (7, 7, 8))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


def test_a_killed_one_goes_on_and_ends_with_the_same_encoder(encoder: Path, tmp_path: Path):
    unbroken = adapted(encoder)
    with pytest.raises(KilledError):
        adapted(encoder, tmp_path, killed_after=3)
    again = adapted(encoder, tmp_path)
    assert again[1] == unbroken[1]
    assert all(torch.equal(unbroken[0].state_dict()[name], weight) for name, weight in again[0].state_dict().items())


@pytest.mark.parametrize("kind", KINDS)
def test_the_loss_is_that_of_transformers(encoder: Path, tmp_path: Path, kind: str):
    torch.manual_seed(1)
    model = AutoModelForMaskedLM.from_config(KINDS[kind]).eval()
    tokenizer = load_encoder(str(encoder))[1]
    mask = DataCollatorForLanguageModeling(tokenizer, mlm_probability=0.3)
    batch = _batch(mask, [{"input_ids": ids} for ids in tokenizer(TEXTS[:8])["input_ids"]])
    trainer = _Trainer(model=model, args=TrainingArguments(output_dir=str(tmp_path), report_to=[]))
    found = trainer.compute_loss(model, batch)
    torch.testing.assert_close(found, model(**batch).loss)


@pytest.mark.parametrize("kind", KINDS)
def test_the_head_guesses_by_the_encoders_own_token_vectors(encoder: Path, kind: str):
    own = AutoModel.from_config(KINDS[kind])
    model = _with_head(own, load_encoder(str(encoder))[1])
    assert model.base_model is own
    name = next(name for name in model._tied_weights_keys if name.endswith("weight"))
    assert model.get_parameter(name) is own.get_input_embeddings().weight


def test_a_batch_without_a_masked_piece_teaches_nothing_and_harms_nothing(encoder: Path, tmp_path: Path):
    model = AutoModelForMaskedLM.from_config(KINDS["bert"])
    trainer = _Trainer(model=model, args=TrainingArguments(output_dir=str(tmp_path), report_to=[]))
    ids = torch.tensor([[2, 9, 3]])
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": torch.full_like(ids, KNOWN)}
    loss = trainer.compute_loss(model, batch)
    loss.backward()  # type: ignore[union-attr]
    assert loss == 0
    assert all(weight.grad is None or not weight.grad.isnan().any() for weight in model.parameters())


def test_the_validation_texts_are_masked_alike_each_time(encoder: Path):
    tokenizer = load_encoder(str(encoder))[1]
    mask = DataCollatorForLanguageModeling(tokenizer, mlm_probability=0.3)
    ids = tokenizer(TEXTS[:20])["input_ids"]
    state = torch.random.get_rng_state()
    first, again, other = (_masked_once(mask, ids, seed) for seed in (7, 7, 8))
    assert first == again != other
    assert torch.equal(torch.random.get_rng_state(), state)
    batch = _batch(mask, first)
    asked = batch["labels"] != KNOWN
    assert 0.15 < float(asked.sum() / batch["attention_mask"].sum()) < 0.45
    # What is to be guessed is what stood there.
    whole = tokenizer.pad({"input_ids": ids}, return_tensors="pt")["input_ids"]
    assert torch.equal(batch["labels"][asked], whole[asked])


def test_what_guesses_no_pieces_is_refused(encoder: Path):
    tokenizer = load_encoder(str(encoder))[1]
    with pytest.raises(UserError, match="static guess no masked pieces; leave adapt out"):
        adapt_encoder(StaticEncoder(StaticConfig(60, 8)), tokenizer, (TEXTS, TEXTS), Adapt(), 16)
    tokenizer.mask_token = None
    with pytest.raises(UserError, match="tokenizer has no mask"):
        adapt_encoder(load_encoder(str(encoder))[0], tokenizer, (TEXTS, TEXTS), Adapt(), 16)

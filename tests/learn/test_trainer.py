from pathlib import Path

import numpy as np
import pytest
import torch

from potstill.learn import follow
from potstill.learn.model import Head, Inputs, TaskModel, encode_texts, load_encoder, predict_logits
from potstill.learn.objective import hard_loss
from potstill.learn.trainer import Epoch, Examples, Units, in_precision, repeats, train
from potstill.machine import has_bfloat16_units
from potstill.metrics import Truth
from potstill.outcomes import Classification, Together
from potstill.progress import Progress
from potstill.recipe import Training
from tests.conftest import reviews

HEAD = Head("sentiment", Classification(("negative", "positive")), "mean", 16)


def tiny(encoder: Path, rows: int = 160, **knobs: object) -> tuple[TaskModel, list[Epoch]]:
    made = reviews(rows)
    labels = HEAD.outcome.encode(made["sentiment"])
    tokenizer = load_encoder(str(encoder))[1]
    ids = encode_texts(tokenizer, made["text"], 16).ids
    cut = rows * 3 // 4
    settings = Training.model_validate({"epochs": 4, "learning_rate": 5e-3, "batch_size": 16} | knobs)
    return train(
        lambda: (TaskModel(load_encoder(str(encoder))[0], HEAD), hard_loss(settings, HEAD.outcome)),
        Examples(Inputs(ids[:cut]), Truth(labels[:cut])),
        Examples(Inputs(ids[cut:]), Truth(labels[cut:])),
        settings,
        pad_token_id=0,
        on_epoch=lambda _: None,
    )


def weights(model: TaskModel) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def test_a_model_learns_what_the_words_tell(encoder: Path):
    _, epochs = tiny(encoder)
    assert epochs[-1].validation["accuracy"] > 0.95
    assert epochs[-1].loss < epochs[0].loss


def test_same_seed_gives_the_same_weights_and_another_seed_gives_others(encoder: Path):
    first, again, other = (weights(tiny(encoder, epochs=1, seed=seed)[0]) for seed in (7, 7, 8))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


def test_training_stops_when_validation_no_longer_improves_and_keeps_the_best_epoch(encoder: Path):
    model, epochs = tiny(encoder, epochs=30, patience=1)
    scores = [epoch.validation["macro_f1"] for epoch in epochs]
    assert len(epochs) < 30
    assert max(scores) > scores[-1] or scores[-1] == scores[-2]
    made = reviews(160)
    ids = encode_texts(load_encoder(str(encoder))[1], made["text"][120:], 16)
    labels = HEAD.outcome.encode(made["sentiment"])[120:]
    accuracy = (predict_logits(model, ids, 0).numpy().argmax(1) == labels).mean()
    assert accuracy == epochs[int(np.argmax(scores))].validation["accuracy"]


def test_frozen_embeddings_stay_as_they_are(encoder: Path):
    model, _ = tiny(encoder, epochs=1, freeze_embeddings=True)
    before = load_encoder(str(encoder))[0].state_dict()["embeddings.word_embeddings.weight"]
    assert torch.equal(model.state_dict()["encoder.embeddings.word_embeddings.weight"], before)


def test_balance_brings_small_tasks_up_to_the_largest_and_shows_every_row():
    both = Together((("many", Classification(("a", "b"))), ("few", Classification(("c", "d")))))
    values = np.full((110, 2), np.nan)
    values[:100, 0], values[100:, 1] = 0, 1
    truth = Truth(values)
    assert (repeats(both, truth, 0.0, seed=7) == 1).all()
    whole = repeats(both, truth, 1.0, seed=7)
    assert (whole[:100] == 1).all()
    assert (whole[100:] == 10).all()
    half = np.mean([repeats(both, truth, 0.5, seed)[100:].mean() for seed in range(200)])
    assert abs(half - 10**0.5) < 0.05
    values[:5, 1] = 0  # labels for both: as often as the smaller task asks
    assert (repeats(both, Truth(values), 1.0, seed=7)[:5] >= 6).all()


def test_repeated_rows_do_not_swell_a_batch():
    examples = Examples(Inputs([[1, 2]] * 10), Truth(np.zeros(10)))
    units = Units(examples, False, np.full(10, 3))
    assert len(units) == 30
    assert units.in_a_batch(8) == 8


def test_bfloat16_learns_as_well_and_leaves_float32_weights_that_answer_in_float32(encoder: Path):
    exact, rounded = (tiny(encoder, precision=precision) for precision in ("float32", "bfloat16"))
    first, second = weights(exact[0]), weights(rounded[0])
    assert all(value.dtype == torch.float32 for value in second.values())
    assert any(not torch.equal(first[name], second[name]) for name in first)
    assert rounded[1][-1].validation["accuracy"] > 0.95
    assert rounded[1][-1].loss == pytest.approx(exact[1][-1].loss, abs=0.1)


def test_only_what_is_learnt_from_is_rounded(encoder: Path):
    model = load_encoder(str(encoder))[0].eval()
    batch = {"input_ids": torch.tensor([[2, 9, 3]]), "attention_mask": torch.ones(1, 3, dtype=torch.long)}
    exact = model(**batch).last_hidden_state
    with in_precision(Training(precision="bfloat16"), model):
        measured = model(**batch).last_hidden_state
        model.train()
        for layer in model.modules():
            if isinstance(layer, torch.nn.Dropout):
                layer.p = 0.0
        learnt = model(**batch).last_hidden_state
    assert torch.equal(measured, exact)
    assert not torch.equal(learnt, exact)
    assert torch.allclose(learnt, exact, atol=0.1)
    model.eval()
    assert torch.equal(model(**batch).last_hidden_state, exact)


def test_auto_takes_bfloat16_where_the_processor_has_it_and_nowhere_else(encoder: Path):
    chosen, other = ("bfloat16", "float32") if has_bfloat16_units() else ("float32", "bfloat16")
    auto, same, differs = (weights(tiny(encoder, epochs=1, precision=p)[0]) for p in ("auto", chosen, other))
    assert all(torch.equal(auto[name], same[name]) for name in auto)
    assert any(not torch.equal(auto[name], differs[name]) for name in auto)


def test_progress_never_runs_past_the_last_epoch(
    encoder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(follow, "Progress", lambda total, unit, before: Progress(total, unit, 0, before=before))
    tiny(encoder, epochs=2)
    shown = [line for line in capsys.readouterr().out.splitlines() if "… epoch" in line]
    # 120 rows in batches of 16 are eight steps.
    assert [line.split(",")[0] for line in shown] == ["… epoch 1/2"] * 8 + ["… epoch 2/2"] * 8


def test_what_stands_on_the_encoder_may_learn_faster(encoder: Path):
    start = load_encoder(str(encoder))[0].state_dict()["embeddings.word_embeddings.weight"]
    slow, fast = (
        tiny(encoder, epochs=1, learning_rate=1e-7, head_learning_rate=rate)[0].state_dict() for rate in (1e-7, 1e-1)
    )
    name = "on_top.classifier.weight"
    assert (fast[name] - slow[name]).abs().max() > 0.1
    # Adam moves a weight by its rate at most, or little more, at each of eight steps.
    assert (fast["encoder.embeddings.word_embeddings.weight"] - start).abs().max() < 1e-5


@pytest.mark.parametrize("balance", [0.0, 1.0])
def test_rows_without_a_label_are_drawn_too(balance: float):
    one = Truth(np.array([0.0, 1, np.nan, np.nan]))
    assert repeats(HEAD.outcome, one, balance, 7).tolist() == [1, 1, 1, 1]
    both = Together((("one", HEAD.outcome), ("two", Classification(("c", "d")))))
    several = Truth(np.array([[0.0, np.nan], [1, 0], [np.nan, np.nan]]))
    assert repeats(both, several, balance, 7).min() == 1

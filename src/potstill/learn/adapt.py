"""Adapt: let an encoder go on guessing masked pieces, now of the shop's own texts, before it is taught a task.

What a public encoder lacks of a shop's words it learns without any label (Gururangan et al. 2020). Pieces are masked
anew in each epoch (Liu et al. 2019); those of the validation texts stay masked alike, so that epochs can be compared.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModelForMaskedLM, DataCollatorForLanguageModeling, set_seed
from transformers.trainer_callback import PrinterCallback

from potstill.errors import UserError
from potstill.learn.checkpoint import ResumableTrainer, last_whole
from potstill.learn.follow import Follower
from potstill.learn.model import encode_texts
from potstill.learn.trainer import arguments, folder_of, in_precision
from potstill.recipe import Adapt

# What is not to be guessed, in PyTorch's cross-entropy and in transformers.
KNOWN = -100
# Enough to tell epochs apart.
JUDGED_TEXTS = 2000


@dataclass(frozen=True)
class Guesses:
    """What an epoch gave: mean cross-entropy of the masked pieces, in training and on the validation texts."""

    epoch: int
    loss: float
    validation_loss: float


def adapt_encoder(
    encoder: nn.Module,
    tokenizer: Any,
    texts: tuple[Sequence[str], Sequence[str]],
    settings: Adapt,
    max_tokens: int,
    on_epoch: Callable[[Mapping[str, float]], None] = lambda _: None,
    checkpoints: Path | None = None,
) -> tuple[nn.Module, list[Guesses]]:
    """The encoder after going on with masked-language-model training; the epoch that guesses best is kept.

    Args:
        encoder: a transformers encoder of a kind that has a masked-language-model head; it is changed.
        tokenizer: its tokenizer.
        texts: those to learn from, and those that judge.
        settings: the recipe's knobs.
        max_tokens: longer texts are cut.
        on_epoch: called after each epoch with its figures.
        checkpoints: folder for the state after each epoch; none: a training that is cut short is lost.

    Raises:
        UserError: this kind of encoder, or its tokenizer, knows no masks.
    """
    set_seed(settings.seed)
    model = _with_head(encoder, tokenizer)
    mask = DataCollatorForLanguageModeling(tokenizer, mlm_probability=settings.mask)
    own, judged = (encode_texts(tokenizer, part, max_tokens).ids for part in (texts[0], texts[1][:JUDGED_TEXTS]))
    follower = _Follower(settings.epochs, on_epoch)
    with folder_of(checkpoints, model) as folder:
        trainer = _Trainer(
            model=model,
            args=arguments(
                settings,
                -(-len(own) // settings.batch_size),
                folder,
                keeps_all=checkpoints is not None,
                per_device_train_batch_size=settings.batch_size,
                per_device_eval_batch_size=settings.batch_size,
                metric_for_best_model="loss",
                greater_is_better=False,
                prediction_loss_only=True,
            ),
            train_dataset=[{"input_ids": ids} for ids in own],
            eval_dataset=_masked_once(mask, judged, settings.seed),
            data_collator=lambda rows: _batch(mask, rows),
            callbacks=[follower],
        )
        trainer.remove_callback(PrinterCallback)
        with in_precision(settings, model.base_model):
            trainer.go_on_from(last_whole(folder))
    return model.base_model.cpu().eval(), follower.epochs


def _with_head(encoder: nn.Module, tokenizer: Any) -> Any:
    """The encoder under a fresh head that guesses pieces, by the encoder's own token vectors."""
    config: Any = encoder.config
    try:
        model = AutoModelForMaskedLM.from_config(config)
    except ValueError as error:
        raise UserError(
            f"adapt: encoders of type {config.model_type} guess no masked pieces; leave adapt out"
        ) from error
    if tokenizer.mask_token is None:
        raise UserError("adapt: the encoder's tokenizer has no mask; leave adapt out")
    setattr(model, model.base_model_prefix, encoder)
    model.tie_weights()
    return model


def _masked_once(
    mask: DataCollatorForLanguageModeling, ids: Sequence[Sequence[int]], seed: int
) -> list[dict[str, Any]]:
    """Texts whose pieces are masked for good."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        made = [mask([{"input_ids": list(row)}]) for row in ids]
    return [{name: part[0].tolist() for name, part in row.items()} for row in made]


def _batch(mask: DataCollatorForLanguageModeling, rows: list[dict[str, Any]]) -> dict[str, Tensor]:
    """Rows as a batch, masked unless they are already."""
    if "labels" not in rows[0]:
        return dict(mask(rows))
    longest = max(len(row["input_ids"]) for row in rows)
    fill = {"input_ids": mask.tokenizer.pad_token_id, "attention_mask": 0, "labels": KNOWN}
    return {
        name: torch.tensor([[*row[name], *[filler] * (longest - len(row[name]))] for row in rows])
        for name, filler in fill.items()
    }


class _Trainer(ResumableTrainer):
    """Guesses masked pieces alone: a head over the whole vocabulary at every place would cost more than the encoder."""

    def compute_loss(
        self, model: Any, inputs: dict[str, Tensor], return_outputs: bool = False, **_: Any
    ) -> Tensor | tuple[Tensor, dict[str, Tensor]]:
        """Mean cross-entropy of the masked pieces; 0 where a batch has none."""
        asked = inputs["labels"] != KNOWN

        def only_asked(_module: nn.Module, _given: Any, said: Any) -> Any:
            said.last_hidden_state = said.last_hidden_state[asked][None]
            return said

        handle = model.base_model.register_forward_hook(only_asked)
        try:
            logits = model(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"]).logits[0]
        finally:
            handle.remove()
        total = nn.functional.cross_entropy(logits.float(), inputs["labels"][asked], reduction="sum")
        loss = total / max(int(asked.sum()), 1)
        return (loss, {}) if return_outputs else loss


class _Follower(Follower):
    """Collects the epochs."""

    def __init__(self, epochs: int, on_epoch: Callable[[Mapping[str, float]], None]) -> None:
        super().__init__(epochs)
        self.epochs: list[Guesses] = []
        self._on_epoch = on_epoch

    def reached(self, epoch: int, loss: float, measured: Mapping[str, float]) -> str:
        self.epochs.append(Guesses(epoch, loss, measured["eval_loss"]))
        self._on_epoch(vars(self.epochs[-1]))
        return f"loss {measured['eval_loss']:.3f}"

"""An encoder with a pooling and a head: the form of every teacher and student.

On disk it is a Hugging Face folder (encoder and tokenizer, which plain transformers can load) plus
`head.safetensors` and `head.json`.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, AutoTokenizer

from potstill.errors import UserError
from potstill.hub import check_encoder
from potstill.outcomes import Outcome, outcome_of
from potstill.store import resolve


@dataclass(frozen=True)
class Head:
    """What turns an encoder into a task's model."""

    task: str
    outcome: Outcome
    pooling: str
    max_tokens: int


class TaskModel(nn.Module):
    """Encoder, pooling, dropout, one linear head: token ids `[batch, tokens]` → logits `[batch, outcomes]`."""

    def __init__(self, encoder: nn.Module, head: Head) -> None:
        super().__init__()
        config: Any = encoder.config
        self.encoder = encoder
        self.head = head
        self.dropout = nn.Dropout(getattr(config, "hidden_dropout_prob", 0.1))
        self.classifier = nn.Linear(config.hidden_size, len(head.outcome))
        nn.init.normal_(self.classifier.weight, std=0.02)
        nn.init.zeros_(self.classifier.bias)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Logits `[batch, outcomes]`."""
        tokens = self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        logits: Tensor = self.classifier(self.dropout(pool(tokens, attention_mask, self.head.pooling)))
        return logits


def pool(tokens: Tensor, attention_mask: Tensor, pooling: str) -> Tensor:
    """One vector a text `[batch, width]` from `[batch, tokens, width]`: the first, or the mean of the real ones."""
    if pooling == "cls":
        return tokens[:, 0]
    mask = attention_mask.unsqueeze(-1).to(tokens.dtype)
    return (tokens * mask).sum(1) / mask.sum(1)


def load_encoder(location: str) -> tuple[nn.Module, Any]:
    """The encoder and the tokenizer at a hub name, a folder or `package:NAME/path`; safetensors only.

    Raises:
        UserError: nothing there that can be loaded.
    """
    check_encoder(location)
    source = resolve(location)
    try:
        tokenizer = AutoTokenizer.from_pretrained(source)
        config = AutoConfig.from_pretrained(source)
        options = (
            {"add_pooling_layer": False} if config.model_type in {"bert", "roberta", "xlm-roberta", "electra"} else {}
        )
        options = {} if config.model_type == "electra" else options
        encoder = AutoModel.from_pretrained(source, use_safetensors=True, dtype=torch.float32, **options)
    except (OSError, ValueError, SafetensorError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"teacher.encoder: {location}: can't be loaded: {reason}") from error
    if not tokenizer.is_fast:
        raise UserError(f"teacher.encoder: {location}: its tokenizer has no tokenizer.json; a fast tokenizer is needed")
    return encoder, tokenizer


def save_model(model: TaskModel, tokenizer: Any, folder: Path) -> None:
    """Write encoder, tokenizer and head into an existing folder."""
    encoder: Any = model.encoder
    encoder.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    save_file({k: v.contiguous() for k, v in model.classifier.state_dict().items()}, folder / "head.safetensors")
    head = {**vars(model.head), "outcome": model.head.outcome.spec()}
    (folder / "head.json").write_text(json.dumps(head, indent=1, ensure_ascii=False), encoding="utf-8")


def load_model(folder: Path) -> tuple[TaskModel, Any]:
    """The model, in evaluation mode, and its tokenizer, as `save_model` wrote them."""
    encoder, tokenizer = load_encoder(str(folder))
    head = json.loads((folder / "head.json").read_text(encoding="utf-8"))
    model = TaskModel(encoder, Head(**head | {"outcome": outcome_of(head["outcome"])}))
    model.classifier.load_state_dict(load_file(folder / "head.safetensors"))
    return model.eval(), tokenizer


def encode_texts(tokenizer: Any, texts: Sequence[str], max_tokens: int) -> list[list[int]]:
    """Token ids of each text, special tokens included, cut at `max_tokens`."""
    ids: list[list[int]] = tokenizer(list(texts), truncation=True, max_length=max_tokens)["input_ids"]
    return ids


def pad_batch(ids: Sequence[Sequence[int]], pad_token_id: int) -> dict[str, Tensor]:
    """`input_ids` and `attention_mask`, both `[batch, longest]`, padded on the right."""
    longest = max(len(row) for row in ids)
    return {
        "input_ids": torch.tensor([[*row, *[pad_token_id] * (longest - len(row))] for row in ids]),
        "attention_mask": torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in ids]),
    }


@torch.inference_mode()
def predict_logits(model: TaskModel, ids: Sequence[Sequence[int]], pad_token_id: int, batch_size: int = 64) -> Tensor:
    """Logits `[rows, outcomes]` in the order given; batches of like length, so that little is padding."""
    model.eval()
    order = sorted(range(len(ids)), key=lambda i: len(ids[i]))
    logits = torch.empty(len(ids), len(model.head.outcome))
    for start in range(0, len(order), batch_size):
        chosen = order[start : start + batch_size]
        logits[chosen] = model(**pad_batch([ids[i] for i in chosen], pad_token_id))
    return logits

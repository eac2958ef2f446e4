"""An encoder with a pooling and a head: the form of every teacher and student.

On disk it is a Hugging Face folder (encoder and tokenizer, which plain transformers can load) plus
`head.safetensors` and `head.json`.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, AutoTokenizer

from potstill.data.dataset import Rows
from potstill.errors import UserError
from potstill.hub import check_encoder
from potstill.inputs import MISSING, UNSEEN, Features, split_pair
from potstill.learn.pruned import drop_zeros, state_on_disk
from potstill.learn.static import StaticEncoder, is_static
from potstill.outcomes import Outcome, Rate, Retrieval, Together, Value, outcome_of
from potstill.store import resolve

# So often a known category is taken for an unseen one while learning, so that the unseen has a meaning.
FORGET = 0.05
CATEGORY_WIDTH, TOWER_WIDTH, JOINED_WIDTH = 16, 128, 256
# A number further out tells no more, and would drown the rest.
MOST_DEVIATIONS = 5.0
# Of a normal head, in halves of the whole scale; learning soon finds its own.
FIRST_SPREAD = 0.25
NO_FEATURES = Features()
# What comes before the name of what a model takes of an answer.
ANSWER = "answer_"
# What a model takes of a batch.
ARGUMENTS = ("input_ids", "attention_mask", "numeric", "categorical", "answer_input_ids", "answer_attention_mask")
HEAD = "head.json"
# At a time: what a tokenizer tells of a text besides its ids takes several times their memory.
TOKENIZED_TEXTS = 10_000


@dataclass(frozen=True)
class Head:
    """What turns an encoder into a task's model."""

    task: str
    outcome: Outcome
    pooling: str
    max_tokens: int
    features: Features = NO_FEATURES


@dataclass(frozen=True)
class Inputs:
    """Rows ready for a model.

    Attributes:
        ids: token ids of each row.
        features: `numeric` `[rows, numbers]` and `categorical` `[rows, columns]`; empty where the head has none.
        answers: token ids of each row's answer, where answers are retrieved.
    """

    ids: Sequence[Sequence[int]]
    features: Mapping[str, npt.NDArray[Any]] = field(default_factory=dict)
    answers: Sequence[Sequence[int]] | None = None

    def __len__(self) -> int:
        return len(self.ids)

    def batch(self, rows: Sequence[int], pad_token_id: int) -> dict[str, Tensor]:
        """The model's arguments for some rows: ids and mask padded to the longest, features as they are.

        Answers come beside them, as `answer_input_ids` and `answer_attention_mask`.
        """
        named = {name: torch.from_numpy(values[rows]) for name, values in self.features.items()}
        if self.answers is not None:
            padded = pad_batch([self.answers[row] for row in rows], pad_token_id)
            named |= {ANSWER + name: values for name, values in padded.items()}
        return pad_batch([self.ids[row] for row in rows], pad_token_id) | named

    def alone(self, pad_token_id: int) -> list[dict[str, npt.NDArray[Any]]]:
        """What a graph takes of each row by itself; without answers."""
        single = replace(self, answers=None)
        batches = (single.batch([row], pad_token_id) for row in range(len(self)))
        return [{name: part.numpy() for name, part in batch.items()} for batch in batches]


class FeatureTower(nn.Module):
    """Numbers and categories → one vector a row `[batch, TOWER_WIDTH]`.

    A number is seen twice, standardised as it is and by its logarithm, beside a flag that says whether it was missing;
    means and deviations come from the training rows and travel in the graph. Missing and unseen categories start from
    nothing, and while learning some known ones pass for unseen.
    """

    plain_mean: Tensor
    plain_deviation: Tensor
    logarithm_mean: Tensor
    logarithm_deviation: Tensor

    def __init__(self, features: Features) -> None:
        super().__init__()
        for name in ("plain", "logarithm"):
            self.register_buffer(f"{name}_mean", torch.zeros(features.numbers))
            self.register_buffer(f"{name}_deviation", torch.ones(features.numbers))
        self.embeddings = nn.ModuleList(nn.Embedding(len(known), CATEGORY_WIDTH) for known in features.categorical)
        with torch.no_grad():
            for embedding in self.embeddings:
                embedding.weight[[MISSING, UNSEEN]] = 0.0  # type: ignore[operator]
        width = 3 * features.numbers + CATEGORY_WIDTH * len(features.categorical)
        self.layers = nn.Sequential(
            nn.Linear(width, TOWER_WIDTH), nn.GELU(), nn.Linear(TOWER_WIDTH, TOWER_WIDTH), nn.GELU()
        )

    @property
    def is_fitted(self) -> bool:
        """Whether means and deviations have been taken."""
        return bool(self.plain_mean.any() or (self.plain_deviation != 1).any())

    def fit(self, numeric: Tensor) -> None:
        """Take means and deviations from training rows `[rows, numbers]`, NaN where missing."""
        for name, values in (("plain", numeric), ("logarithm", _signed_log(numeric))):
            mean = torch.nanmean(values, dim=0).nan_to_num(0.0)
            deviation = torch.nanmean((values - mean) ** 2, dim=0).sqrt().nan_to_num(1.0)
            getattr(self, f"{name}_mean").copy_(mean)
            getattr(self, f"{name}_deviation").copy_(deviation.clamp(min=1e-6))

    def forward(self, numeric: Tensor, categorical: Tensor) -> Tensor:
        """The vector, from `numeric` `[batch, numbers]` and `categorical` `[batch, columns]`."""
        missing = torch.isnan(numeric)
        known = torch.where(missing, torch.zeros_like(numeric), numeric)
        plain = (known - self.plain_mean) / self.plain_deviation
        logarithm = (_signed_log(known) - self.logarithm_mean) / self.logarithm_deviation
        seen = torch.stack([plain, logarithm]).clamp(-MOST_DEVIATIONS, MOST_DEVIATIONS)
        seen = torch.where(missing, torch.zeros_like(seen), seen)
        if self.training:
            forgotten = (torch.rand(categorical.shape, device=categorical.device) < FORGET) & (categorical != MISSING)
            categorical = categorical.masked_fill(forgotten, UNSEEN)
        names = [embed(categorical[:, i]) for i, embed in enumerate(self.embeddings)]
        vector: Tensor = self.layers(torch.cat([seen[0], seen[1], missing.to(numeric.dtype), *names], dim=1))
        return vector


def _signed_log(values: Tensor) -> Tensor:
    return torch.sign(values) * torch.log1p(values.abs())


class NormalHead(nn.Module):
    """A vector → logits `[batch, bins]` of a normal distribution: plain regression, in the form of the histogram.

    One linear unit gives its centre; its spread is one learnt number for all rows. The cross-entropy with the label's
    histogram is then the squared error on the outcome's scale, divided by twice the variance, but for what the spread
    alone decides; and the divergence of two such models is that of their centres.
    """

    middles: Tensor

    def __init__(self, width: int, outcome: Value) -> None:
        super().__init__()
        self.centre = nn.Linear(width, 1)
        self.log_spread = nn.Parameter(torch.tensor(math.log(FIRST_SPREAD)))
        # Places on a scale on which the bins reach from −1 to 1.
        self.register_buffer("middles", (2 * torch.arange(len(outcome)) + 1) / len(outcome) - 1)

    def forward(self, vector: Tensor) -> Tensor:
        """Logits `[batch, bins]` of vectors `[batch, width]`."""
        distance: Tensor = (self.middles - self.centre(vector)) / self.log_spread.exp()
        return -(distance**2) / 2


class Heads(nn.Module):
    """A vector → logits `[batch, outcomes]` of several tasks side by side, each from a last layer of its own."""

    def __init__(self, width: int, outcome: Together) -> None:
        super().__init__()
        self.tasks = nn.ModuleList(_last_layer(width, part.outcome) for part in outcome.parts)

    def forward(self, vector: Tensor) -> Tensor:
        """Logits `[batch, outcomes]` of vectors `[batch, width]`."""
        return torch.cat([layer(vector) for layer in self.tasks], dim=1)


class TaskModel(nn.Module):
    """Encoder, pooling, dropout, one linear head: token ids `[batch, tokens]` → logits `[batch, outcomes]`.

    A static encoder may have a hidden layer between its pooled vector and the head. Features join the text's vector
    before the head, through one more layer. Where answers are retrieved there is no head: the text's vector, brought to
    length 1, stands in place of logits.
    """

    def __init__(self, encoder: nn.Module, head: Head) -> None:
        super().__init__()
        config: Any = encoder.config
        self.encoder = encoder
        self.head = head
        self.dropout = nn.Dropout(getattr(config, "hidden_dropout_prob", 0.1))
        self.pooling = Pooling(head.pooling)
        self.on_top = nn.ModuleDict()
        # What a student's states go through to be compared with a wider teacher's; it is left behind.
        self.projections = nn.ModuleDict()
        width, has_head = config.hidden_size, not isinstance(head.outcome, Retrieval)
        if isinstance(encoder, StaticEncoder) and config.intermediate_size and has_head:
            self.on_top["hidden"] = nn.Sequential(nn.Linear(width, config.intermediate_size), nn.ReLU())
            width = config.intermediate_size
        if head.features:
            self.on_top["tower"] = FeatureTower(head.features)
            self.on_top["join"] = nn.Sequential(nn.Linear(width + TOWER_WIDTH, JOINED_WIDTH), nn.GELU())
            width = JOINED_WIDTH
        if has_head:
            self.on_top["classifier"] = _last_layer(width, head.outcome)

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        numeric: Tensor | None = None,
        categorical: Tensor | None = None,
        answer_input_ids: Tensor | None = None,
        answer_attention_mask: Tensor | None = None,
    ) -> Tensor:
        """Logits `[batch, outcomes]`; features where the head has them; of pairs both vectors `[batch, 2 · width]`."""
        said = self._say(input_ids, attention_mask, numeric, categorical)
        if answer_input_ids is None or answer_attention_mask is None:
            return said
        return torch.cat([said, self._say(answer_input_ids, answer_attention_mask)], dim=1)

    def _say(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        numeric: Tensor | None = None,
        categorical: Tensor | None = None,
    ) -> Tensor:
        tokens = self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        vector = self.pooling(tokens, attention_mask)
        if "hidden" in self.on_top:
            vector = self.on_top["hidden"](vector)
        if self.head.features:
            vector = self.on_top["join"](torch.cat([vector, self.on_top["tower"](numeric, categorical)], dim=1))
        if isinstance(self.head.outcome, Retrieval):
            return nn.functional.normalize(vector, dim=1)
        logits: Tensor = self.on_top["classifier"](self.dropout(vector))
        return logits

    def respond(self, batch: Mapping[str, Tensor]) -> Tensor:
        """What the model says of a batch, in which there may be more than it takes."""
        said: Tensor = self(**arguments_in(batch))
        return said

    def inherit(self, main: "TaskModel", teachers: Sequence["TaskModel"]) -> None:
        """Take over what stands on the encoder of the main teacher, but each task's last layer from its own teacher."""
        if len(teachers) == 1:
            self.on_top.load_state_dict(main.on_top.state_dict())
            return
        for name, module in self.on_top.items():
            if name != "classifier":
                module.load_state_dict(main.on_top[name].state_dict())
        for layer, teacher in zip(self.on_top["classifier"].tasks, teachers, strict=True):  # type: ignore[arg-type]
            layer.load_state_dict(teacher.on_top["classifier"].state_dict())

    def fit_features(self, inputs: Inputs) -> None:
        """Learn the scale of numbers from the training rows, unless it was inherited with what was learnt on it."""
        if self.head.features and not self.on_top["tower"].is_fitted:
            self.on_top["tower"].fit(torch.from_numpy(inputs.features["numeric"]))  # type: ignore[operator]


def arguments_in(batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What a model takes of a batch."""
    return {name: batch[name] for name in ARGUMENTS if name in batch}


def _last_layer(width: int, outcome: Outcome) -> nn.Module:
    if isinstance(outcome, Together):
        return Heads(width, outcome)
    if isinstance(outcome, Value) and outcome.head == "normal":
        return NormalHead(width, outcome)
    last = nn.Linear(width, len(outcome))
    nn.init.normal_(last.weight, std=0.02)
    nn.init.zeros_(last.bias)
    if isinstance(outcome, Rate):
        # Where a yes is rare, the first steps would be lost on learning just that (Lin et al. 2017, section 3.3).
        odds = torch.logit(torch.tensor(outcome.prior), eps=1e-6)
        last.bias.data.copy_(torch.stack([-odds / 2, odds / 2]))
    return last


class Pooling(nn.Module):
    """One vector a text `[batch, width]` from `[batch, tokens, width]`: the first, or the mean of the real ones."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind

    def forward(self, tokens: Tensor, attention_mask: Tensor) -> Tensor:
        """The vector."""
        if self.kind == "cls":
            return tokens[:, 0]
        mask = attention_mask.unsqueeze(-1).to(tokens.dtype)
        return (tokens * mask).sum(1) / mask.sum(1)


def load_encoder(location: str, knob: str = "teacher.encoder") -> tuple[nn.Module, Any]:
    """The encoder and the tokenizer at a hub name, a folder or `package:NAME/path`; safetensors only.

    Args:
        location: where they are.
        knob: of the recipe, for an error to name.

    Raises:
        UserError: nothing there that can be loaded.
    """
    check_encoder(location, knob)
    source = resolve(location)
    try:
        tokenizer = AutoTokenizer.from_pretrained(source)
        if is_static(Path(source)):
            return StaticEncoder.from_pretrained(Path(source)), tokenizer
        config = AutoConfig.from_pretrained(source)
        options = (
            {"add_pooling_layer": False} if config.model_type in {"bert", "roberta", "xlm-roberta", "electra"} else {}
        )
        options = {} if config.model_type == "electra" else options
        encoder = AutoModel.from_pretrained(source, use_safetensors=True, dtype=torch.float32, **options)
        drop_zeros(encoder)
    except (OSError, ValueError, SafetensorError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"{knob}: {location}: can't be loaded: {reason}") from error
    if not tokenizer.is_fast:
        raise UserError(f"{knob}: {location}: its tokenizer has no tokenizer.json; a fast tokenizer is needed")
    return encoder, tokenizer


def best_device() -> torch.device:
    """Where a model learns and answers fastest: a GPU, if this machine has one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def save_encoder(encoder: Any, tokenizer: Any, folder: Path) -> None:
    """Write an encoder, whole where it was pruned, and its tokenizer into an existing folder."""
    padded = state_on_disk(encoder)
    encoder.save_pretrained(folder, **({} if padded is None else {"state_dict": padded}))
    tokenizer.save_pretrained(folder)


def save_model(model: TaskModel, tokenizer: Any, folder: Path) -> None:
    """Write encoder, tokenizer and head into an existing folder."""
    encoder: Any = model.encoder
    save_encoder(encoder, tokenizer, folder)
    save_file({k: v.contiguous() for k, v in model.on_top.state_dict().items()}, folder / "head.safetensors")
    head = {**vars(model.head), "outcome": model.head.outcome.spec(), "features": model.head.features.spec()}
    (folder / HEAD).write_text(json.dumps(head, indent=1, ensure_ascii=False), encoding="utf-8")


def load_model(folder: Path) -> tuple[TaskModel, Any]:
    """The model, in evaluation mode, and its tokenizer, as `save_model` wrote them."""
    encoder, tokenizer = load_encoder(str(folder))
    head = json.loads((folder / HEAD).read_text(encoding="utf-8"))
    families = {"outcome": outcome_of(head["outcome"]), "features": Features.from_spec(head["features"])}
    model = TaskModel(encoder, Head(**head | families))
    model.on_top.load_state_dict(load_file(folder / "head.safetensors"))
    return model.eval(), tokenizer


def encode(tokenizer: Any, rows: Rows, head: Head) -> Inputs:
    """Rows as a model with this head takes them."""
    ids = encode_texts(tokenizer, rows.text, head.max_tokens).ids
    answers = None if rows.answer is None else encode_texts(tokenizer, rows.answer, head.max_tokens).ids
    return Inputs(ids, head.features.arrays(rows.features) if head.features else {}, answers)


def encode_texts(tokenizer: Any, texts: Sequence[str], max_tokens: int) -> Inputs:
    """Token ids of each text, special tokens included, cut at `max_tokens`; of a pair the longer one first."""
    ids: list[list[int]] = []
    for start in range(0, len(texts), TOKENIZED_TEXTS):
        pairs = [split_pair(text) for text in texts[start : start + TOKENIZED_TEXTS]]
        ids += tokenizer(pairs, truncation=True, max_length=max_tokens)["input_ids"]
    return Inputs(ids)


def pad_batch(ids: Sequence[Sequence[int]], pad_token_id: int) -> dict[str, Tensor]:
    """`input_ids` and `attention_mask`, both `[batch, longest]`, padded on the right."""
    longest = max(len(row) for row in ids)
    return {
        "input_ids": torch.tensor([[*row, *[pad_token_id] * (longest - len(row))] for row in ids]),
        "attention_mask": torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in ids]),
    }


def predict_logits(model: TaskModel, inputs: Inputs, pad_token_id: int, batch_size: int = 64) -> Tensor:
    """What `respond` says of each row, in the order given."""
    return predict(model, inputs, pad_token_id, batch_size)[0]


@torch.inference_mode()
def predict(model: TaskModel, inputs: Inputs, pad_token_id: int, batch_size: int = 64) -> tuple[Tensor, Tensor]:
    """What `respond` says of each row, and its pooled vector `[rows, width]`, in the order given.

    Batches are of like length, so that little is padding. Of a pair the vector is the answer's.
    """
    model.eval()
    device = next(model.parameters()).device
    order = sorted(range(len(inputs)), key=lambda i: len(inputs.ids[i]))
    said: list[Tensor] = []
    vectors: list[Tensor] = []
    last: dict[str, Tensor] = {}
    handle = model.pooling.register_forward_hook(lambda _module, _given, vector: last.update(vector=vector))
    try:
        for start in range(0, len(order), batch_size):
            batch = inputs.batch(order[start : start + batch_size], pad_token_id)
            said.append(model.respond({name: part.to(device) for name, part in batch.items()}).cpu())
            vectors.append(last["vector"].cpu())
    finally:
        handle.remove()
    back = np.argsort(order)
    return torch.cat(said)[back], torch.cat(vectors)[back]

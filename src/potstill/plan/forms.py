"""The forms of student that a plan tries, and what of each is known before it has learnt."""

import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from potstill.compress.index import catalogue_of
from potstill.compress.pack import MODEL, pack
from potstill.compress.quantize import quantize
from potstill.compress.shape import shape
from potstill.compress.trim import trim
from potstill.data.dataset import Rows, Schema, read_rows, read_schema
from potstill.edge import VECTOR_TYPE, EdgeModel, Row
from potstill.evaluate.latency import times_ms
from potstill.learn.anatomy import BERT_LIKE, layer_stack
from potstill.learn.model import Inputs, TaskModel, encode, load_model
from potstill.learn.pruned import PRUNED, prunable
from potstill.learn.student import texts_of
from potstill.outcomes import Floats, Retrieval
from potstill.plan.predict import Measures, Timed
from potstill.recipe import Compress, Distill, Prune, Student
from potstill.store import PACKAGE_SCHEME, folder_bytes

LAYERS = (1, 2, 3, 4, 6, 8, 12)
# Of heads and feed-forward units, where the recipe doesn't say how much goes.
HALF = 0.5
TIMED_ROWS, ROUNDS = 60, 5


def candidates(layers: int, form: Student, can_prune: bool) -> list[Student]:
    """Students of the teacher's layers, from one layer to all, whole and pruned.

    Args:
        layers: of the teacher.
        form: the recipe's; how it prunes stays. If it doesn't, half of heads and feed-forward units go.
        can_prune: whether the encoder is of a kind that can be.
    """
    pruned = form.prune or Prune(heads=HALF, feed_forward=HALF)
    prunes = [None, pruned] if can_prune else [None]
    plain = form.model_copy(update={"keep": None, "static": None, "encoder": None, "narrow": None})
    counts = [*(count for count in LAYERS if count < layers), layers]
    return [plain.model_copy(update={"layers": count, "prune": prune}) for count in counts for prune in prunes]


def words_of(form: Student) -> str:
    """A student's form in a few words."""
    if form.static is not None:
        return "static student"
    layers = (
        f"layers {', '.join(map(str, form.keep))}"
        if isinstance(form.keep, list)
        else f"{form.layers} layer{'s' * (form.layers > 1)}"
    )
    if form.encoder is not None:
        layers = _short(form.encoder) + (f", {layers}" if isinstance(form.keep, list) else "")
    narrow = f", {form.narrow.width} wide" if form.narrow else ""
    return f"student of {layers}{narrow}" + (", pruned" if form.prune else "")


def _short(encoder: str) -> str:
    """An encoder's name without where it lies."""
    package = encoder.removeprefix(PACKAGE_SCHEME)
    return package.partition("/")[0] if package != encoder else Path(encoder).name


def name_of_form(form: Student) -> str:
    """A form of the teacher's layers as the name of a step: `2-layers-pruned`."""
    return f"{form.layers}-layer{'s' * (form.layers > 1)}" + ("-pruned" if form.prune else "")


@dataclass(frozen=True)
class Bench:
    """Times forms before they have learnt: cut from the teacher, packed as the recipe says, asked row by row.

    Attributes:
        dataset: what ingest wrote.
        teacher: what teach wrote.
        form: the recipe's; how it prunes stays.
        distill: how forms would be taught, which some can't be.
        compress: how they would be packed.
        scratch: an empty folder.
    """

    dataset: Path
    teacher: Path
    form: Student
    distill: Distill
    compress: Compress
    scratch: Path

    @cached_property
    def schema(self) -> Schema:
        """Of the dataset."""
        return read_schema(self.dataset)

    @cached_property
    def _teacher(self) -> tuple[TaskModel, Any]:
        model, tokenizer = load_model(self.teacher)
        if self.compress.vocabulary == "trim":
            texts = texts_of(self.dataset, self.schema)
            model.encoder, tokenizer = trim(model.encoder, tokenizer, texts, "compress.vocabulary")
        return model, tokenizer

    @cached_property
    def forms(self) -> list[Student]:
        """What may be tried of this teacher."""
        model, _ = self._teacher
        config: Any = model.encoder.config
        layers = len(layer_stack(model.encoder)[1])
        can_prune = config.model_type in BERT_LIKE and not getattr(config, PRUNED, False)
        found = candidates(layers, self.form, can_prune)
        return [form for form in found if self.distill.why_not(form) is None]

    @cached_property
    def rows(self) -> Rows:
        """Validation rows, evenly spread."""
        return read_rows(self.dataset, "validation", self.schema).spread(TIMED_ROWS)

    @cached_property
    def _inputs(self) -> Inputs:
        model, tokenizer = self._teacher
        return encode(tokenizer, self.rows, model.head)

    @cached_property
    def tokens(self) -> Floats:
        """Of each of these rows `[rows]`."""
        return np.array([len(ids) for ids in self._inputs.ids], dtype=np.float64)

    def measures(self, form: Student) -> Measures:
        """Of a form."""
        model, _ = self._teacher
        config: Any = model.encoder.config
        heads, units = (1 - share for share in _pruned(form))
        return Measures(
            layers=form.layers,
            width=config.hidden_size,
            attention=round(config.hidden_size * heads),
            feed_forward=round(_units(config) * units),
            first_alone=model.head.pooling == "cls" and config.model_type in BERT_LIKE,
        )

    @cached_property
    def _catalogue_bytes(self) -> int:
        """Of the answers that a retrieval ships, and of their vectors."""
        if not isinstance(self.schema.outcome, Retrieval):
            return 0
        config: Any = self._teacher[0].encoder.config
        answers = catalogue_of(self.dataset, self.schema)
        vectors: int = len(answers) * config.hidden_size * np.dtype(VECTOR_TYPE).itemsize
        return vectors + len(json.dumps(answers, ensure_ascii=False).encode())

    def timed(self, form: Student) -> tuple[Timed, int]:
        """Times of an untaught student of this form, and the size of its folder in bytes."""
        model, tokenizer = self._teacher
        untaught = TaskModel(shape(form, model.encoder, tokenizer, [], model.head.pooling)[0], model.head)
        untaught.on_top.load_state_dict(model.on_top.state_dict())
        if form.prune is not None:
            for layer in prunable(untaught.encoder):
                parts = zip((layer.heads, layer.units), _pruned(form), strict=True)
                layer.keep(*(range(max(1, round(all_ * (1 - share)))) for all_, share in parts))
        with tempfile.TemporaryDirectory(dir=self.scratch) as place:
            folder = pack(untaught, tokenizer, Path(place, "plain"), self.schema)
            if ways := self.compress.quantize:
                plain = (folder / MODEL).rename(folder.with_suffix(".onnx"))
                quantize(ways[0], plain, folder / MODEL, lambda: self._inputs.alone(tokenizer.pad_token_id))
            size_bytes = folder_bytes(folder) + self._catalogue_bytes
            records = self.rows.records(self.schema.text[0])
            return Timed(self.measures(form), self.tokens, _times(EdgeModel(folder), records)), size_bytes


def _pruned(form: Student) -> tuple[float, float]:
    """Shares of heads and of feed-forward units that go."""
    return (form.prune.heads, form.prune.feed_forward) if form.prune else (0.0, 0.0)


def _units(config: Any) -> int:
    """Feed-forward units of a layer; DistilBERT calls them otherwise."""
    found: int = getattr(config, "intermediate_size", None) or config.hidden_dim
    return found


def _times(model: EdgeModel, records: Sequence[Row]) -> Floats:
    """Median milliseconds of an answer to each row `[rows]`, after a round that isn't counted."""
    rounds = [times_ms(lambda row: model.logits([row]), records) for _ in range(ROUNDS + 1)]
    found: Floats = np.median(rounds[1:], axis=0)
    return found

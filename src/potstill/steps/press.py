"""Press: the steps of compression, each judged by what it costs on the validation rows."""

import copy
import math
import zlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from potstill.compress.card import read_card
from potstill.compress.cascade import cascade, least_sure
from potstill.compress.export import check_parity
from potstill.compress.index import catalogue_of, index
from potstill.compress.pack import MODEL, pack, write_words
from potstill.compress.quantize import Batch, quantize
from potstill.compress.settle import settle
from potstill.compress.sparse import sparsify, sparsity
from potstill.compress.trim import changed_tokens, trim
from potstill.data.dataset import Schema, read_rows, read_schema
from potstill.edge import SURE_FROM
from potstill.errors import UserError
from potstill.evaluate.candidates import Candidate, from_edge
from potstill.evaluate.fidelity import flips
from potstill.evaluate.judge import Judge
from potstill.evaluate.latency import measure
from potstill.learn.model import Inputs, TaskModel, encode, load_model
from potstill.learn.student import texts_of
from potstill.machine import instruction_set
from potstill.metrics import better, primary
from potstill.outcomes import Probabilities, Retrieval, parts_of, unsure
from potstill.recipe import Compress, Quantization
from potstill.steps.made import First, Made, Origin, Step

TIMED_ROWS = 100
# How what some steps have to tell is said.
TOLD = {
    "changed_tokens": "{:.1%} of the test rows' tokens are read otherwise",
    "pieces": "{:,.0f} pieces",
    "packed_share": "zipped {:.0%} of what it was",
    "zeros": "{:.0%} of the layers' weights are zero",
    "escalated": "the larger model is asked for {:.0%} of the rows",
}


@dataclass
class Press:
    """Makes candidates in a scratch folder and judges each against the one before, on the validation rows.

    Attributes:
        dataset: what ingest wrote.
        settings: of the recipe.
        origin: goes onto the cards.
        scratch: an empty folder.
        first: the smaller student of a cascade, if there is to be one.
        steps: what was told of each.
    """

    dataset: Path
    settings: Compress
    origin: Origin
    scratch: Path
    first: First | None = None
    steps: list[Step] = field(default_factory=list)

    @cached_property
    def judge(self) -> Judge:
        """Holds candidates against the validation rows."""
        return Judge(self.dataset, "validation")

    @cached_property
    def schema(self) -> Schema:
        """Of the dataset."""
        return read_schema(self.dataset)

    @cached_property
    def catalogue(self) -> list[str]:
        """All answers of the dataset, where answers are retrieved."""
        return catalogue_of(self.dataset, self.schema) if isinstance(self.schema.outcome, Retrieval) else []

    @property
    def _texts(self) -> list[str]:
        """Those whose pieces stay: what the student has met, and the answers that it is to choose from."""
        return [*texts_of(self.dataset, self.schema), *self.catalogue]

    def run(self, student: Path) -> list[Made]:
        """The student as it is after each step that stayed: exported, trimmed, with zeros, as integers, in a cascade.

        Raises:
            ParityError: a graph does not answer like its model.
            UserError: the tokenizer is of a kind that can't be trimmed.
        """
        made = [self._packed("export", *load_model(student), {})]
        self._judge(None, made[0], math.inf)
        if self.settings.vocabulary == "trim":
            made += self._staying(made[-1], self._trimmed(made[-1]))
        if self.settings.sparsity:
            made += self._staying(made[-1], self._sparse(made[-1]))
        # All ways are tried, so that they can be compared; the first that may stay does.
        ways = [self._staying(made[-1], self._by_integers(way, made[-1])) for way in self.settings.quantize]
        made += next((found for found in ways if found), [])
        if self.first is not None:
            made += self._staying(made[-1], self._cascade(self.first, made[-1]), self.first.settings.most_lost)
        names = {one.name for one in made}
        self.steps = [replace(step, kept=step.name in names) for step in self.steps]
        return made

    def _trimmed(self, was: Made) -> Made:
        tokenizer = was.tokenizer
        kept = copy.deepcopy(was.model)
        kept.encoder, small = trim(kept.encoder, tokenizer, self._texts, "compress.vocabulary")
        texts = read_rows(self.dataset, "test", self.schema).text
        more = {"changed_tokens": changed_tokens(tokenizer, small, texts), "pieces": len(small)}
        return self._packed("trim", kept, small, more)

    def _sparse(self, was: Made) -> Made:
        thin = copy.deepcopy(was.model)
        sparsify(thin.encoder, self.settings.sparsity)
        made = self._packed("sparse", thin, was.tokenizer, {})
        packed, before = (len(zlib.compress((folder / MODEL).read_bytes())) for folder in (made.folder, was.folder))
        return replace(made, more={"zeros": sparsity(thin.encoder), "packed_share": packed / before})

    def _staying(self, before: Made, after: Made, most_lost: float | None = None) -> list[Made]:
        """What a step made, unless it costs more than it may: by itself, or as any."""
        may = self.settings.most_lost if most_lost is None else most_lost
        return [after] if self._judge(before, after, may) else []

    def _packed(self, name: str, model: TaskModel, tokenizer: Any, more: dict[str, float]) -> Made:
        folder = pack(model, tokenizer, self.scratch / name, self.schema)
        few = self.judge.all_rows.first(self.settings.parity_rows)
        inputs = replace(encode(tokenizer, few, model.head), answers=None)
        parity = check_parity(model, folder / MODEL, inputs, tokenizer.pad_token_id, self.settings.parity_atol)
        return self._finished(name, model, tokenizer, folder, {**asdict(parity), "precision": "float32"}, more)

    def _by_integers(self, way: Quantization, plain: Made) -> Made:
        folder = self.scratch / way
        folder.mkdir()
        quantize(way, plain.folder / MODEL, folder / MODEL, lambda: self._calibration(plain))
        parity = {name: value for name, value in plain.card.items() if name.startswith("parity_")}
        precision = {"precision": "int8", "quantization": way}
        return self._finished(way, plain.model, plain.tokenizer, folder, parity | precision, {})

    def _cascade(self, first: First, second: Made) -> Made:
        """Behind the smaller student, which is made as small as can be in the same way."""
        print("the first of the cascade:")
        origin = replace(self.origin, student_digest=first.digest)
        place = self.scratch / "before"
        place.mkdir()
        smaller = Press(self.dataset, self.settings, origin, place).run(first.student)[-1]
        if smaller.bytes >= second.bytes:
            sizes = f"{smaller.bytes / 1e6:.1f} MB, the student's {second.bytes / 1e6:.1f}"
            raise UserError(f"cascade.first: its file has {sizes}: there is nothing to gain; make it smaller")
        own, larger = smaller.answers.probabilities, second.answers.probabilities
        parts = parts_of(self.judge.outcome)
        names = [part.named(primary(part.outcome)) for part in parts]
        before = self.judge.figures(larger)

        def may(mixed: Probabilities) -> bool:
            # Each task by itself, as in the contract: the mean would let one pay for another.
            found = self.judge.figures(mixed)
            return all(found[name] >= (1 - first.settings.most_lost) * before[name] for name in names)

        sure_from = least_sure(self.judge.outcome, own, larger, may)
        folder = self.scratch / "cascade"
        outcome = cascade(smaller.folder, second.folder, folder, sure_from, self.judge.all_rows)
        escalated = float(unsure(outcome, own, sure_from).mean())
        more = {"escalated": escalated, SURE_FROM: sure_from}
        made = replace(second, name="cascade", folder=folder, outcome=outcome, card=read_card(folder))
        return replace(made, answers=self._answers(folder), more=more)

    def _answers(self, folder: Path) -> Candidate:
        rows = self.judge.rows
        return from_edge(folder, self.judge.records(rows), rows)

    def _calibration(self, plain: Made) -> Sequence[Batch]:
        """Inputs of the graph for some training rows, each by itself."""
        some = read_rows(self.dataset, "train", self.schema).spread(self.settings.calibration_rows)
        inputs = encode(plain.tokenizer, some, plain.model.head)
        answers = [] if inputs.answers is None else Inputs(inputs.answers).alone(plain.tokenizer.pad_token_id)
        return [*inputs.alone(plain.tokenizer.pad_token_id), *answers]

    def _finished(
        self, name: str, model: TaskModel, tokenizer: Any, folder: Path, facts: dict[str, Any], more: dict[str, float]
    ) -> Made:
        """Words, temperatures and catalogue beside the graph, and its answers to the validation rows."""
        told = {**asdict(self.origin), **facts, "instruction_set": instruction_set()}
        write_words(model, tokenizer, folder, self.schema, told)
        outcome = settle(folder, self.judge.all_rows)
        if isinstance(self.schema.outcome, Retrieval):
            index(folder, self.catalogue)
        return Made(name, model, tokenizer, folder, outcome, read_card(folder), self._answers(folder), more)

    def _judge(self, before: Made | None, after: Made, most_lost: float) -> bool:
        """Keep and print what a step cost and gained; whether it may stay."""
        judge, lost, flipped = self.judge, 0.0, 0.0
        figure = self._figure(after)
        if before is not None:
            lost = self._share_lost(self._figure(before), figure)
            flipped = flips(judge.outcome, before.answers.probabilities, after.answers.probabilities)
        time = measure(after.answers.answer, judge.records(judge.rows.spread(TIMED_ROWS)))
        # Where it can't be told what went, nothing speaks against the step.
        why = f"loses {lost:.1%}" if lost > most_lost else "is never sure" if after.more.get("escalated") == 1 else ""
        cost = figure, lost, flipped, time.p50_ms, time.mean_ms, after.bytes
        self.steps.append(Step(after.name, not why, why, *cost, after.more))
        told = [f"{judge.words(figure)}, {time.p50_ms:.2f} ms, {after.bytes / 1e6:.1f} MB"]
        if before is None:
            told.append("equals PyTorch on {parity_rows} rows within {parity_max_difference:.1e}".format(**after.card))
        else:
            told.append(f"{flipped:.1%} of answers change")
        told += [TOLD[key].format(value) for key, value in after.more.items() if key in TOLD]
        told += [f"{why}: left out"] if why else []
        print(f"{after.name}: {'; '.join(told)}")
        return not why

    def _share_lost(self, was: float, is_now: float) -> float:
        judge = self.judge
        before, after = (better(judge.outcome, figure) for figure in (was, is_now))
        plain = 0.0 if judge.meaning.zero_is_nothing else better(judge.outcome, judge.trivial[judge.first])
        return (before - after) / (before - plain) if before > plain else math.nan

    def _figure(self, made: Made) -> float:
        return self.judge.figures(made.answers.probabilities)[self.judge.first]

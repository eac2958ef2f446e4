"""Judge: models held against the same rows, by the outcome's figures."""

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from potstill.data.dataset import Rows, Schema, read_rows, read_schema
from potstill.edge import Row
from potstill.evaluate.trivial import of_all_tasks
from potstill.metrics import Meaning, meanings_of, primary, score
from potstill.outcomes import Outcome, Probabilities, Retrieval


@dataclass(frozen=True)
class Judge:
    """The rows of a split, and what models are asked about them.

    Attributes:
        dataset: what ingest wrote.
        split: whose rows judge.
    """

    dataset: Path
    split: str

    @cached_property
    def all_rows(self) -> Rows:
        """Of the split."""
        return read_rows(self.dataset, self.split, self._read)

    @cached_property
    def rows(self) -> Rows:
        """Those by which models are judged."""
        return self.all_rows.judged()

    @cached_property
    def schema(self) -> Schema:
        """Of the dataset; where answers are retrieved, they are to be found among these rows' answers."""
        read = self._read
        found = read.outcome
        return replace(read, outcome=found.over(self.rows.catalogue)) if isinstance(found, Retrieval) else read

    @property
    def outcome(self) -> Outcome:
        """What is judged."""
        return self.schema.outcome

    @property
    def first(self) -> str:
        """Name of the deciding metric."""
        return primary(self.outcome)

    @property
    def meaning(self) -> Meaning:
        """Of the deciding metric."""
        return meanings_of(self.outcome)[self.first]

    def records(self, rows: Rows) -> list[Row]:
        """Rows as a service gets them."""
        return [*rows.records(self.schema.text[0])]

    def figures(self, probabilities: Probabilities) -> dict[str, float]:
        """Every metric, of probabilities `[rows, outcomes]`."""
        return score(self.outcome, self.rows.truth, probabilities)

    def words(self, figure: float) -> str:
        """The deciding metric's name and a figure of it."""
        return f"{self.meaning.title} {self.meaning.form.format(figure)}"

    @cached_property
    def trivial(self) -> dict[str, float]:
        """Every metric of the plain forecast."""
        train, validation = (read_rows(self.dataset, split, self._read) for split in ("train", "validation"))
        return self.figures(of_all_tasks(self.schema, train, validation, self.rows))

    @cached_property
    def _read(self) -> Schema:
        return read_schema(self.dataset)

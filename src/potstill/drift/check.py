"""Check: a window of production rows against what a model was trained on."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from potstill.data.rows import sample
from potstill.drift.compare import LEVEL, Finding, compare, rows_needed
from potstill.drift.histogram import Values
from potstill.drift.observe import Row, answer_columns, ask, carried, input_columns, text_columns
from potstill.drift.pieces import Reader, Risen, risen
from potstill.drift.profile import DISTANCE, Profile, learn, read_profile
from potstill.drift.quality import Change, change_of
from potstill.edge import EdgeModel
from potstill.errors import UserError
from potstill.store import to_json

# Of more rows so many, drawn at random, tell enough.
MOST_ROWS = 10_000
SEED = 7


@dataclass(frozen=True)
class Window:
    """Rows of production.

    Attributes:
        source: where they are.
        total: how many there are.
        rows: those that are looked at, and that the model can read.
        unread: how many of those that were drawn it can't read.
        why: it can't read the first of these; empty where it can read all.
    """

    source: str
    total: int
    rows: Sequence[Row]
    unread: int
    why: str


@dataclass(frozen=True)
class Result:
    """What a window was found to be.

    Attributes:
        model: as it was named.
        window: where the rows are.
        total: rows there.
        rows: those that were looked at.
        unread: rows that were drawn, but can't be read by the model.
        reference_rows: rows of the training data that they are compared with.
        psi_from: index from which on a difference that is beyond chance is drift.
        level: chance of calling any column of an unchanged window drifted, at most.
        carried: whether the answers came with the rows; else the model was asked.
        findings: a column each, those that drifted first.
        risen: pieces that the window has more often.
        quality: on rows with a label; none: there are too few.
    """

    model: str
    window: str
    total: int
    rows: int
    unread: int
    reference_rows: int
    psi_from: float
    level: float
    carried: bool
    findings: list[Finding]
    risen: list[Risen]
    quality: Change | None

    @property
    def drifted(self) -> list[str]:
        """Names of the columns that did, and of the quality if it fell."""
        fell = ["quality"] if self.quality and self.quality.fell else []
        return [finding.column for finding in self.findings if finding.drifted] + fell

    def to_json(self) -> str:
        """For programs."""
        return to_json({"drift": bool(self.drifted), "drifted": self.drifted, **asdict(self)})


def check(model: str, edge: Path, window: str, reference: str | None, psi_from: float) -> Result:
    """Compare a window with what a model was trained on.

    Args:
        model: how it is named.
        edge: its folder.
        window: file, folder or glob of rows as the model gets them; perhaps with `predicted_…` and labels.
        reference: rows of the training data, for a model without a profile or instead of it; none: the profile.
        psi_from: index from which on a difference counts as drift.

    Raises:
        UserError: there is no profile, the rows are too few, or can't be read.
    """
    opened, reader = EdgeModel(edge), Reader(edge)
    profile = _profile(model, edge, opened, reference)
    found = _read(opened, window, MOST_ROWS)
    _refuse_few(model, profile, found, psi_from)
    texts = [opened.text(row) for row in found.rows]
    read = reader.read(texts)
    columns = text_columns(read, texts, reader.unknown, profile.frequencies) | input_columns(opened, found.rows)
    try:
        brought = carried(opened, found.rows)
        answers, quality = _answers(opened, profile, found.rows, brought)
    except ValueError as error:
        raise UserError(f"{window}: {error}") from error
    return Result(
        model=model,
        window=window,
        total=found.total,
        rows=len(found.rows),
        unread=found.unread,
        reference_rows=profile.rows,
        psi_from=psi_from,
        level=LEVEL,
        carried=brought is not None,
        findings=compare(profile.columns, columns | answers, psi_from),
        risen=risen(reader, profile.frequencies, read),
        quality=quality,
    )


def _profile(model: str, edge: Path, opened: EdgeModel, reference: str | None) -> Profile:
    """The model's own, or one of the rows that were given."""
    if reference is None:
        found = read_profile(edge)
        if found is None:
            raise UserError(
                f"{model}: this version was registered without a profile of its training data; "
                "give rows of it as --reference rows.parquet, or register a new version"
            )
        return found
    given = _read(opened, reference, 2 * MOST_ROWS)
    if len(given.rows) < 2:
        why = f": {given.why}" if given.why else ""
        raise UserError(f"--reference {reference}: there are no rows to learn from{why}")
    # One half tells how often words and categories occur, the other how other rows look then.
    return learn(edge, given.rows[::2], given.rows[1::2])


def _read(model: EdgeModel, source: str, most: int) -> Window:
    """Rows drawn at random, without those that the model can't read."""
    drawn, total = sample(source, most, SEED)
    rows, why = [], ""
    for row in drawn:
        try:
            model.text(row)
            model.features.arrays([row])
        except ValueError as error:
            why = why or str(error)
        else:
            rows.append(row)
    return Window(source, total, rows, len(drawn) - len(rows), why)


def _refuse_few(model: str, profile: Profile, window: Window, psi_from: float) -> None:
    needed = rows_needed(profile.rows, psi_from)
    if needed is None:
        raise UserError(
            f"{model}: {profile.rows:,} rows of the training data are too few to tell a PSI of {psi_from:g} from "
            "chance; give more of them as --reference rows.parquet, or a larger --psi"
        )
    if len(window.rows) < needed:
        unread = f", of which {window.unread:,} can't be read ({window.why})" if window.unread else ""
        raise UserError(
            f"{window.source}: {window.total:,} rows{unread}; a PSI of {psi_from:g} needs {needed:,} to be told "
            "from chance: take a longer window"
        )


def _answers(
    model: EdgeModel, profile: Profile, rows: Sequence[Row], brought: Sequence[Row] | None
) -> tuple[dict[str, Values], Change | None]:
    """Columns of the answers, and how the quality changed.

    The model is asked where rows bring no answers, or labels besides. Only then its vectors' distance is known.
    """
    if brought is not None and not any(label in row for row in rows for label in profile.labels):
        return answer_columns(model, brought), None
    asked = ask(model, rows)
    columns = answer_columns(model, asked.answers if brought is None else brought)
    columns[DISTANCE] = profile.scale.distance(asked.vectors)
    if profile.quality is None or asked.probabilities is None:
        return columns, None
    return columns, change_of(profile.quality, model.outcome, rows, profile.labels, asked.probabilities)

"""The recipe: every knob with its type, unit, bounds, default and one line of why.

A recipe is one YAML file. It is read whole and checked before any work; each step then gets its own section.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

import yaml
from pydantic import BeforeValidator, Field, ValidationError, model_validator

from potstill.errors import UserError
from potstill.sections import Section, load, read

Share = Annotated[float, Field(ge=0, lt=1)]
Seed = Annotated[int, Field(ge=0, lt=2**31)]


def _exact_number(value: Any) -> Any:
    """YAML 1.1 reads `5e-5` as text; take it for the number that it is."""
    if isinstance(value, str) and re.fullmatch(r"[+-]?[\d.]+[eE][+-]?\d+", value):
        return float(value)
    return value


def _listed(value: Any) -> Any:
    """One column's name, as most recipes give it, or a list of them."""
    return [value] if isinstance(value, str) else value


# Between the places of one location, in a recipe's list or a form's field.
SEVERAL = ", "


def _located(value: Any) -> Any:
    """Several places as one text, as a pipeline's form has it."""
    return SEVERAL.join(value) if isinstance(value, list) and all(isinstance(place, str) for place in value) else value


Location = Annotated[str, BeforeValidator(_located)]
ColumnName = Annotated[str, Field(min_length=1)]
ColumnNames = Annotated[list[ColumnName], BeforeValidator(_listed)]
# It stands in names of figures and folders.
TaskName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$", max_length=40)]
LearningRate = Annotated[float, BeforeValidator(_exact_number), Field(gt=0, le=1)]


class Split(Section):
    """How rows are divided when no test files are given."""

    by: str | None = Field(None, description="Column whose values never cross the split; none: stratified by label.")
    time: str | None = Field(None, description="Column of dates: the last rows test, those before them validate.")
    test: Share = Field(0.2, gt=0, description="Share of rows (or groups) that only evaluate sees.")
    validation: Share = Field(0.1, gt=0, description="Share of rows (or groups) for early stopping.")
    seed: Seed = Field(7, description="Seed of the division.")

    @model_validator(mode="after")
    def _divides_one_way(self) -> Self:
        if self.by is not None and self.time is not None:
            raise ValueError("rows are divided either by a column's values (by) or by time, not both")
        return self

    @model_validator(mode="after")
    def _leaves_rows_for_training(self) -> Self:
        if self.test + self.validation >= 1:
            raise ValueError(f"test + validation = {self.test + self.validation:g} leaves nothing to train on")
        return self


class Features(Section):
    """Columns that a model looks at besides the text."""

    numeric: list[ColumnName] = Field([], description="Columns of numbers; a missing one is flagged.")
    dates: list[ColumnName] = Field([], description="Columns of ISO 8601 dates: place in the day, week and year.")
    categorical: list[ColumnName] = Field([], description="Columns of names; one that training lacks is told apart.")
    missing: Annotated[list[str], BeforeValidator(_listed)] = Field(
        [], description="Texts that stand for a missing value, such as 'No rating available'."
    )

    @model_validator(mode="after")
    def _names_columns_once(self) -> Self:
        names = [*self.numeric, *self.dates, *self.categorical]
        twice = [name for name in names if names.count(name) > 1]
        if twice:
            raise ValueError(f"column {twice[0]!r} is named twice")
        return self

    @property
    def names(self) -> list[str]:
        """Every column."""
        return [*self.numeric, *self.dates, *self.categorical]


class ItemWeeks(Section):
    """Columns of single sales, from which what each item sold in each week is worked out."""

    item: ColumnName = Field(description="Column that names the item; the new table calls it `item`.")
    time: ColumnName = Field(description="Column with the moment of the sale.")
    quantity: ColumnName = Field(description="Column with the units sold; returned goods (below zero) don't count.")
    price: ColumnName = Field(description="Column with the price of a unit; the last one becomes `unit_price`.")
    description: ColumnName = Field(description="Column with the item's name in words.")
    lags: int = Field(8, ge=1, le=60, description="Weeks before that stand beside each week, as `lag_1` and so on.")
    active: int = Field(
        0, ge=0, le=60, description="Of these weeks, how many must have sold something: an item at rest is left out."
    )

    @model_validator(mode="after")
    def _is_active_within_its_lags(self) -> Self:
        if self.active > self.lags:
            raise ValueError(f"active: {self.active} weeks with a sale can't be asked of {self.lags} lags")
        return self


class Data(Section):
    """Where the rows are. Paths are relative to the current folder: a file, a folder or a glob, or a list of these."""

    source: Location | None = Field(None, description="All rows in one source, divided by `split`.")
    train: Location | None = Field(None, description="Training rows, when the division is given.")
    validation: Location | None = Field(
        None, description="Validation rows; none: cut from the training rows by `split`."
    )
    test: Location | None = Field(None, description="Test rows, when the division is given.")
    text: ColumnNames = Field(["text"], min_length=1, description="Column with the text, or several to be joined.")
    pair: bool = Field(False, description="The last text column is a second text, set apart from the others.")
    features: Features = Features()
    group: ColumnName | None = Field(
        None, description="Column whose rows are compared with each other: a user's candidates, a test's variants."
    )
    never: list[ColumnName] = Field([], description="Columns that tell the outcome: a recipe that uses one is refused.")
    out_of_scope: Location | None = Field(
        None, description="Texts that no label fits; they only measure what a task with `refuse` refuses."
    )
    unlabelled: Location | None = Field(
        None, description="Rows without a label: the teacher says what it thinks of them, and the student learns it."
    )
    item_weeks: ItemWeeks | None = Field(None, description="Make items' weeks of single sales first; needs source.")
    most_flawed: float = Field(
        0.5, ge=0, le=1, description="Share of rows that may be set aside as unusable; with more the data is refused."
    )
    split: Split = Split()
    shard_rows: int = Field(50_000, ge=1, le=10_000_000, description="Rows in one Parquet shard of the dataset.")

    @model_validator(mode="after")
    def _names_rows_once(self) -> Self:
        if self.source is not None:
            if self.train is not None or self.validation is not None or self.test is not None:
                raise ValueError("give either source, or train and test, not both")
        elif self.train is None or self.test is None:
            raise ValueError("give source, or both train and test")
        elif self.item_weeks is not None:
            raise ValueError("item_weeks makes one table, to be divided by split: give source, not train and test")
        return self

    @model_validator(mode="after")
    def _pairs_two_texts(self) -> Self:
        if self.pair and len(self.text) < 2:
            raise ValueError("a pair needs two text columns at least")
        return self

    @model_validator(mode="after")
    def _looks_at_no_outcome(self) -> Self:
        told = [name for name in (*self.text, *self.features.names) if name in self.never]
        if told:
            raise ValueError(f"column {told[0]!r} is never to be an input (data.never), but the model would look at it")
        return self


class Task(Section):
    """What is predicted."""

    kind: Literal["classification", "rate", "value", "retrieval"] = Field(
        "classification",
        description="A class out of several, the chance of a yes, a number such as a price, or the best answer.",
    )
    label: ColumnName = Field("label", description="Column with the label.")
    weight: ColumnName | None = Field(None, description="Column that says how much a row counts; none: all alike.")
    decides: str | None = Field(None, description="Metric that decides which model is better; none: the kind's first.")
    reference: ColumnNames = Field(
        [], description="Numeric features whose mean is a shop's plain forecast, such as last weeks' sales."
    )
    season: ColumnName | None = Field(
        None, description="Numeric feature with a value's amount one season before: the seasonal-naive forecast."
    )
    replies: dict[str, str] = Field({}, description="Class → template of the answer to it, with $column to be filled.")
    refuse: float | None = Field(
        None, gt=0, lt=0.5, description="Share of a task's own texts that may be refused, so that others' are."
    )
    of: ColumnName | None = Field(None, description="Column with a rate's tries; the label then counts the yes.")
    bid: float | None = Field(None, gt=0, lt=1, description="What a try costs, in units of what a yes is worth.")
    service_level: float | None = Field(
        None, gt=0, lt=1, description="Share of cases in which the stock of a value's units is to last."
    )
    scale: Literal["log", "count", "linear"] = Field(
        "log",
        description="Which numbers a value or a band may be, and how bins spread: log above zero, count from zero on.",
    )
    tau: float = Field(0.05, gt=0, le=1, description="Divides a retrieval's likeness; lower is more decided.")
    head: Literal["histogram", "normal"] = Field(
        "histogram", description="What a model says of a value: a whole distribution, or its centre (regression)."
    )
    bands: list[float] = Field([], description="Numbers that divide a number into classes, such as price bands.")
    bins: int = Field(64, ge=8, le=1024, description="Bins of a value's histogram.")
    smoothing: float = Field(
        0.75, gt=0, le=10, description="Spread of a value's target around the label, in bins (standard deviation)."
    )

    @model_validator(mode="after")
    def _has_no_knob_of_another_kind(self) -> Self:
        owners = dict.fromkeys(("scale", "head", "bins", "smoothing", "service_level", "season"), "value")
        owners |= {
            "of": "rate",
            "bid": "rate",
            "replies": "classification",
            "refuse": "classification",
            "bands": "classification",
            "tau": "retrieval",
        }
        if self.bands:
            del owners["scale"]
        for name, owner in owners.items():
            # A pipeline's form sends defaults too.
            if self.kind != owner and getattr(self, name) != type(self).model_fields[name].default:
                raise ValueError(f"{name} belongs to kind: {owner}")
        if sorted(set(self.bands)) != self.bands:
            raise ValueError("bands must ascend without repeats")
        if self.of is not None and self.weight is not None:
            raise ValueError("a rate's tries are its weight; give either of or weight")
        if self.reference and self.kind not in {"rate", "value"}:
            raise ValueError("reference belongs to kind: rate or value")
        return self

    @property
    def weighing(self) -> str | None:
        """The column that says how much a row counts."""
        return self.weight or self.of


class Schooling(Section):
    """What all trainings share."""

    epochs: int = Field(3, ge=1, le=1000, description="Passes over the training rows, at most.")
    learning_rate: LearningRate = Field(5e-5, description="Peak of the schedule.")
    batch_size: int = Field(32, ge=1, le=4096, description="Rows a step, of all processes together.")
    warmup: Share = Field(0.1, description="Share of steps over which the learning rate rises.")
    weight_decay: float = Field(0.01, ge=0, le=1, description="AdamW's decay, on weight matrices.")
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto",
        description="Of an encoder's products while it learns; auto: bfloat16 where the processor has it built in.",
    )
    seed: Seed = Field(7, description="Seed of first weights, the order of rows and dropout.")


class Adapt(Schooling):
    """How the encoder gets used to the shop's words before it is taught: it guesses masked pieces of its texts."""

    mask: float = Field(0.15, gt=0, lt=1, description="Share of pieces to be guessed.")


class Training(Schooling):
    """What teach and distill share."""

    head_learning_rate: LearningRate | None = Field(
        None, description="Peak for features and heads, which need more where they are new; none: as the encoder's."
    )
    patience: int = Field(2, ge=1, le=1000, description="Epochs without a better validation score before stopping.")
    focus: float = Field(0, ge=0, le=10, description="Above 0, easy examples count less (focal loss).")
    label_smoothing: Share = Field(0, description="Share of a label that is spread over all classes: less sure.")
    class_weights: Literal["none", "balanced"] = Field(
        "none", description="balanced: each class counts as much as any other, however rare."
    )
    listwise: float = Field(
        0, ge=0, le=1, description="Weight of a row's place among its group, against the row alone."
    )
    balance: float = Field(
        0, ge=0, le=1, description="Of several tasks: 0 shows each row once an epoch, 1 all tasks equally often."
    )
    freeze_embeddings: bool = Field(False, description="Keep token vectors as they are: faster, for small data.")

    @property
    def compares_rows(self) -> bool:
        """Whether the rows of a group must come together."""
        return self.listwise > 0


Pooling = Literal["mean", "cls"]


class OtherTeacher(Section):
    """A further teacher: what is not given is as the first one's."""

    encoder: str | None = Field(None, min_length=1, description="A hub name, a folder, or `package:NAME/path`.")
    epochs: int | None = Field(None, ge=1, le=1000, description="Passes over the training rows, at most.")
    learning_rate: LearningRate | None = Field(None, description="Peak of the schedule.")
    batch_size: int | None = Field(None, ge=1, le=4096, description="Rows a step.")
    max_tokens: int | None = Field(None, ge=4, le=8192, description="Longer texts are cut.")
    vocabulary: Literal["whole", "trim"] | None = Field(None, description="Trim to the pieces that the rows use.")
    pooling: Pooling | None = Field(None, description="How token vectors become one text vector.")
    seed: Seed | None = Field(None, description="Seed of the head, the order of rows and dropout.")


class Teacher(Training):
    """The large model."""

    encoder: str = Field(min_length=1, description="A hub name, a folder, or `package:NAME/path` in a Python package.")
    max_tokens: int = Field(64, ge=4, le=8192, description="Longer texts are cut; cost is linear in tokens.")
    vocabulary: Literal["whole", "trim"] = Field("whole", description="Trim to the pieces that the rows use; smaller.")
    processes: int | None = Field(
        None,
        ge=1,
        le=64,
        description="That share each batch; none: one for each GPU, or one alone. Under torchrun its number counts.",
    )
    per_task: bool = Field(False, description="Of several tasks: a teacher each, taught by that task's rows alone.")
    pooling: Pooling = Field("mean", description="How token vectors become one text vector.")
    others: list[OtherTeacher] = Field(
        [], max_length=9, description="Further teachers, of any encoder: the student learns the mean of what all say."
    )
    weighing: Literal["even", "validation"] | list[Annotated[float, Field(gt=0, le=1000)]] = Field(
        "even",
        description="How much each teacher counts: alike, as makes the validation labels likeliest, or as listed.",
    )

    @model_validator(mode="after")
    def _weighs_several(self) -> Self:
        if self.weighing != "even" and not self.others:
            raise ValueError("weighing is for several teachers: give others")
        if isinstance(self.weighing, list) and len(self.weighing) != len(self.others) + 1:
            raise ValueError(f"weighing: {len(self.weighing)} weights for {len(self.others) + 1} teachers")
        return self

    @property
    def several(self) -> str | None:
        """The setting that asks for more than one teacher, if one does."""
        return "others" if self.others else "per_task" if self.per_task else None

    @property
    def members(self) -> list["Teacher"]:
        """Each teacher by itself; the first is the one that students are cut from."""
        alone = self.model_copy(update={"others": [], "weighing": "even"})
        return [alone, *(alone.model_copy(update=other.model_dump(exclude_none=True)) for other in self.others)]


class Narrow(Section):
    """A student with the teacher's layers made narrower."""

    width: int = Field(ge=8, le=4096, description="Of its hidden states.")
    heads: int = Field(ge=1, le=64, description="Of its attention; they divide the width.")

    @model_validator(mode="after")
    def _divides(self) -> Self:
        if self.width % self.heads:
            raise ValueError(f"width: {self.width} is not a multiple of heads: {self.heads}")
        return self


class Static(Section):
    """A student without layers: a vector for each piece of the vocabulary, and their mean."""

    width: int = Field(256, ge=8, le=4096, description="Of a piece's vector, at most the teacher's.")
    hidden: int = Field(
        512, ge=0, le=8192, description="Units of a layer between the mean and the head; 0, or without a head: none."
    )


class Prune(Section):
    """What is taken out of a student that has learnt, by how little the task uses it; then it learns once more."""

    heads: Share = Field(0, description="Share of all attention heads that goes.")
    feed_forward: Share = Field(0, description="Share of all feed-forward units that goes; most of the work is there.")
    epochs: int = Field(3, ge=1, le=1000, description="Passes over the training rows afterwards, at most.")
    learning_rate: LearningRate = Field(1e-4, description="Peak of the schedule then, for heads too.")

    @model_validator(mode="after")
    def _takes_something(self) -> Self:
        if not self.heads and not self.feed_forward:
            raise ValueError("give a share of heads, of feed_forward, or of both")
        return self


class Student(Section):
    """The small model: the teacher cut, unless it is said to be narrow, static or another encoder."""

    layers: int = Field(3, ge=1, le=96, description="How many of the teacher's layers, evenly spread.")
    keep: list[Annotated[int, Field(ge=0, le=95)]] | Literal["auto"] | None = Field(
        None,
        min_length=1,
        description="Which of the teacher's layers (0 is the first), instead of how many; auto: try some choices.",
    )
    narrow: Narrow | None = Field(None, description="Make these layers narrower, starting from the teacher's weights.")
    static: Static | None = Field(None, description="No layers at all, for what words alone tell: the fastest.")
    encoder: str | None = Field(
        None,
        description="Another encoder, with its own tokenizer: a hub name, a folder, or `package:NAME/path`; all its "
        "layers, or those of `keep`.",
    )
    prune: Prune | None = None

    @model_validator(mode="after")
    def _kept_layers_ascend(self) -> Self:
        if isinstance(self.keep, list) and sorted(set(self.keep)) != self.keep:
            raise ValueError(f"keep: {self.keep} must ascend without repeats")
        return self

    @model_validator(mode="after")
    def _has_one_form(self) -> Self:
        forms = [name for name in ("narrow", "static", "encoder") if getattr(self, name) is not None]
        if len(forms) > 1:
            raise ValueError(f"give one of {' and '.join(forms)}, not both")
        if self.keep is not None and self.static is not None:
            raise ValueError("static has no layers to keep")
        if self.prune is not None and self.static is not None:
            raise ValueError("static has no layers to prune")
        if self.keep == "auto" and self.encoder is not None:
            raise ValueError("keep: auto tries the teacher's layers: of another encoder name those to keep")
        return self

    @property
    def chosen(self) -> int | list[int]:
        """How many layers of the teacher, or which ones."""
        return self.keep if isinstance(self.keep, list) else self.layers

    @property
    def shaped_by(self) -> str | None:
        """The setting that says more of its form than a number of the teacher's layers, if one does."""
        return next((name for name in ("keep", "narrow", "static", "encoder") if getattr(self, name)), None)

    def pooling(self, teachers: str) -> str:
        """How its token vectors become one text vector: as the teacher's, unless no token knows of the others."""
        return "mean" if self.static else teachers

    @property
    def has_teachers_layers(self) -> bool:
        """Whether the student is made of layers of the teacher."""
        return self.static is None and self.encoder is None


class Signals(Section):
    """What is kept of what the teacher says."""

    cross_fit: int = Field(
        0,
        ge=0,
        le=20,
        description="Above 1: so many teachers more, each of which scores only training rows that it never saw.",
    )
    vectors: bool = Field(False, description="Keep the teacher's pooled vectors beside its logits (term `vector`).")
    part_rows: int = Field(16_384, ge=1, le=1_000_000, description="Rows in one part: what a killed extraction loses.")
    # kfp goes astray with more turns of a loop (kubeflow/pipelines issue 12131).
    shards: int = Field(1, ge=1, le=16, description="Extractions that fill the table side by side, in a store.")

    @model_validator(mode="after")
    def _folds_are_several(self) -> Self:
        if self.cross_fit == 1:
            raise ValueError("cross_fit: 1 fold would leave nothing to teach its teacher; 0 is none, 2 the fewest")
        return self


def require_store(shards: int, store: object) -> None:
    """See that an extraction's shards have a store to meet in.

    Raises:
        UserError: there are several, and no store.
    """
    if shards > 1 and not store:
        raise UserError(
            f"signals.shards: {shards} fill one table in a store that outlives them, and there is none; "
            "name one (`store` in the cluster's settings or in the run's form), or leave shards at 1"
        )


# Soft terms by what they compare: some need what logits alone can't give.
LogitTerm = Literal[
    "kl", "soft_ce", "focal", "mse", "dist_between", "dist_within", "decoupled_target", "decoupled_others"
]
LayerTerm = Literal["hidden", "attention", "relation"]
VECTOR_TERM: Literal["vector"] = "vector"
Term = Literal[LogitTerm, LayerTerm, "vector"]
LOGIT_TERMS, LAYER_TERMS = get_args(LogitTerm), get_args(LayerTerm)
Weight = Annotated[float, Field(ge=0, le=1000)]
KL_ALONE: dict[Term, float] = {"kl": 1.0}


class Schedule(Section):
    """How a knob changes while the student learns, from its own value on."""

    to: float = Field(ge=0, le=1000, description="Its value at the end.")
    form: Literal["linear", "cosine"] = Field("linear", description="cosine: slow at both ends.")


class FineTune(Section):
    """A short training on labels alone after distillation; what it gives is kept only if validation improves."""

    epochs: int = Field(1, ge=1, le=1000, description="Passes over the labelled rows, at most.")
    learning_rate: LearningRate = Field(2e-5, description="Peak of the schedule, for heads too.")


class Distill(Training):
    """How the student learns."""

    epochs: int = Field(6, ge=1, le=1000, description="Passes over the training rows, at most.")
    learning_rate: LearningRate = Field(1e-4, description="Peak of the schedule.")
    temperature: float = Field(
        2.0, gt=0, le=100, description="Softens both distributions; higher shows more of the teacher's doubts."
    )
    alpha: float = Field(0.75, ge=0, le=1, description="Weight of the teacher's view; 0 learns from labels alone.")
    unlabelled: float = Field(
        0, ge=0, le=1, description="Of several tasks: weight of the teacher's view where a row has no label."
    )
    align: float = Field(0, ge=0, le=100, description="Weight of a retrieval's vectors' distance from the teacher's.")
    margin: float = Field(0, ge=0, le=10, description="Weight of the teacher's margins between rows of a group.")
    terms: dict[Term, Weight] = Field(
        KL_ALONE, min_length=1, description="What of the teacher is imitated, and how much each counts within alpha."
    )
    standardise: bool = Field(
        False, description="Bring each row's logits to mean 0, deviation 1 first: proportions count, not scale."
    )
    schedules: dict[str, Schedule] = Field(
        {}, description="Knob (temperature, alpha or a term) → where it goes while the student learns."
    )
    fine_tune: FineTune | None = Field(
        None, description="Afterwards, a short training on labels alone; kept only if validation improves."
    )

    @property
    def compares_rows(self) -> bool:
        """Whether the rows of a group must come together."""
        return self.listwise > 0 or self.margin > 0

    def then(self, further: "Prune | FineTune") -> Self:
        """The knobs of a shorter training that follows."""
        short = {"epochs": further.epochs, "learning_rate": further.learning_rate, "head_learning_rate": None}
        return self.model_copy(update={**short, "fine_tune": None})

    def why_not(self, form: Student) -> str | None:
        """What speaks against teaching a student of this form in this way, if anything does."""
        of_layers = [term for term in self.terms if term in LAYER_TERMS]
        if of_layers and not form.has_teachers_layers:
            kind = "static" if form.static else "encoder"
            return f"distill.terms.{of_layers[0]} compares layers: it can't be used with student.{kind}"
        of_heads = [term for term in of_layers if term != "hidden"]
        if of_heads and form.prune:
            return f"distill.terms.{of_heads[0]} compares heads: it can't be used with student.prune"
        if self.freeze_embeddings and form.static:
            return "distill.freeze_embeddings would leave student.static nothing to learn but its head"
        if self.align and (form.static or form.narrow):
            return "distill.align compares vectors of one width: it can't be used with a narrower student"
        return None

    @property
    def inner_terms(self) -> list[Term]:
        """The terms that compare more than logits."""
        return [term for term in self.terms if term not in LOGIT_TERMS]

    @model_validator(mode="after")
    def _schedules_what_there_is(self) -> Self:
        known = dict.fromkeys(map(str, self.terms), (0.0, 1000.0)) | {"temperature": (1e-3, 100.0), "alpha": (0.0, 1.0)}
        for knob, schedule in self.schedules.items():
            if knob not in known:
                raise ValueError(f"schedules: {knob!r} has none; one of these can: {', '.join(known)}")
            low, high = known[knob]
            if not low <= schedule.to <= high:
                raise ValueError(f"schedules.{knob}.to: {schedule.to:g} must be from {low:g} to {high:g}")
        return self


# How weights become 8-bit integers.
Quantization = Literal["dynamic", "dynamic_per_tensor", "static", "static_per_tensor", "embeddings"]


class Compress(Section):
    """How the student becomes a file; each step is checked on the validation rows."""

    vocabulary: Literal["whole", "trim"] = Field("whole", description="Trim to the pieces that the rows use; smaller.")
    sparsity: Share = Field(
        0, description="Share of the layers' weights, the smallest, that become zero; a zipped file gets smaller."
    )
    quantize: Annotated[list[Quantization], BeforeValidator(_listed)] = Field(
        ["dynamic"],
        max_length=5,
        description="Ways to 8-bit integers that are tried; the first that loses little enough is kept, or else float.",
    )
    most_lost: float = Field(
        0.01,
        ge=0,
        le=1,
        description="Share of the validation figure (or of its gain over the plain forecast) that a step may cost.",
    )
    calibration_rows: int = Field(
        200, ge=1, le=100_000, description="Training rows from which static ways take the scale of activations."
    )
    parity_atol: float = Field(
        1e-3, gt=0, le=1, description="Largest allowed difference of a logit, ONNX against PyTorch."
    )
    parity_rows: int = Field(64, ge=1, le=10_000, description="Real rows on which ONNX is compared with PyTorch.")

    @model_validator(mode="after")
    def _tries_each_way_once(self) -> Self:
        twice = [way for way in self.quantize if self.quantize.count(way) > 1]
        if twice:
            raise ValueError(f"quantize: {twice[0]} is listed twice")
        return self


class Cascade(Section):
    """A smaller student that is asked first; where it isn't sure, the student answers."""

    first: Student = Field(description="Form of the smaller one, as in `student`; static is the fastest.")
    epochs: int | None = Field(None, ge=1, le=1000, description="Its passes over the rows; none: as in distill.")
    learning_rate: LearningRate | None = Field(None, description="Its peak of the schedule; none: as in distill.")
    most_lost: Share = Field(
        0.005, description="Share of the validation figure that its answers may cost; the threshold keeps to it."
    )

    def knobs(self, distill: Distill) -> Distill:
        """How the smaller one is taught."""
        own = self.model_dump(include={"epochs", "learning_rate"}, exclude_none=True)
        return distill.model_copy(update=own)


class Plan(Section):
    """The student's form is found: some are taught side by side; the cheapest that keeps the budget is taken."""

    candidates: int = Field(
        4,
        ge=2,
        le=12,
        description="How many are taught at most: evenly spread over those foreseen to keep time and size.",
    )
    side_by_side: int = Field(
        4, ge=1, le=12, description="How many are taught at the same time at most; on one machine two are."
    )


class Evaluate(Section):
    """How everything is measured."""

    resamples: int = Field(2000, ge=100, le=100_000, description="Bootstrap resamples of the test rows.")
    latency_rows: int = Field(200, ge=10, le=10_000, description="Test rows timed one at a time, after a warm-up.")
    seed: Seed = Field(7, description="Seed of the resamples.")


class Budget(Section):
    """The contract: what the edge model must keep to be registered."""

    retention: float = Field(0.97, gt=0, le=1, description="Macro-F1 of the edge model over the teacher's, at least.")
    agreement: float = Field(0.8, ge=0, le=1, description="Share of test rows with the teacher's answer, at least.")
    flips: float = Field(0.03, ge=0, le=1, description="Share of test rows whose answer quantisation changes, at most.")
    latency_p95_ms: float = Field(
        20.0, gt=0, le=60_000, description="95th percentile at batch 1 on one thread, at most."
    )
    size_mb: float = Field(50.0, gt=0, le=100_000, description="Model file and tokenizer, in 10^6 bytes, at most.")


Promote = Literal["never", "manual", "if-better"]


class Register(Section):
    """Where the model goes."""

    model: str = Field(min_length=1, max_length=200, pattern=r"^[^/:@%\"']+$", description="Name in the registry.")
    promote: Promote = Field(
        "if-better",
        description="Who makes an accepted version the champion: the run if it is better, a person's approval in MLflow"
        " (manual), or a person's command alone (never).",
    )
    dry_run: bool = Field(False, description="Only say what would become of the model: register and move nothing.")


class Recipe(Section):
    """One shop task, whole."""

    name: str = Field(
        pattern=r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?$", max_length=60, description="Lower-case name of the pipeline."
    )
    data: Data
    tasks: dict[TaskName, Task] = Field(
        min_length=1, max_length=20, description="What is predicted: one task, or several by one model."
    )
    adapt: Adapt | None = None
    teacher: Teacher
    signals: Signals = Signals()
    student: Student = Student()
    plan: Plan | None = None
    distill: Distill = Distill()
    compress: Compress = Compress()
    cascade: Cascade | None = None
    evaluate: Evaluate = Evaluate()
    budget: Budget = Budget()
    register_: Register = Field(alias="register")

    @model_validator(mode="after")
    def _compares_only_within_groups(self) -> Self:
        knobs = {
            "teacher.listwise": self.teacher.listwise,
            "distill.listwise": self.distill.listwise,
            "distill.margin": self.distill.margin,
        }
        asked = [name for name, value in knobs.items() if value]
        kinds = [task.kind for task in self.tasks.values()]
        if asked and (self.data.group is None or kinds != ["rate"]):
            raise ValueError(f"{asked[0]} compares rows of a group: it needs data.group and one task of kind: rate")
        return self

    @model_validator(mode="after")
    def _aligns_only_vectors(self) -> Self:
        if self.distill.align and not any(task.kind == "retrieval" for task in self.tasks.values()):
            raise ValueError("distill.align compares vectors: it needs a task of kind: retrieval")
        return self

    @model_validator(mode="after")
    def _has_the_signals_that_its_terms_ask_for(self) -> Self:
        kinds = [task.kind for task in self.tasks.values()]
        terms = self.distill.terms
        if VECTOR_TERM in terms and not self.signals.vectors:
            raise ValueError("distill.terms.vector asks for the teacher's vectors: set signals.vectors: true")
        alone = [term for term in terms if term in (*LAYER_TERMS, VECTOR_TERM)]
        if alone and "retrieval" in kinds:
            raise ValueError(f"distill.terms.{alone[0]}: a retrieval's vectors are compared by distill.align")
        if self.signals.vectors and "retrieval" in kinds:
            raise ValueError("signals.vectors: what a retrieval's teacher says are vectors already")
        if alone and self.teacher.per_task:
            raise ValueError(f"distill.terms.{alone[0]} looks into one teacher: it can't be used with teacher.per_task")
        decoupled = [term for term in terms if term.startswith("decoupled")]
        if decoupled and set(kinds) != {"classification"}:
            raise ValueError(f"distill.terms.{decoupled[0]} needs a right class: tasks of kind: classification alone")
        if not any(term in terms for term in LOGIT_TERMS) and self.distill.alpha == 1:
            raise ValueError("distill: alpha: 1 without a term of logits would leave the student's head untaught")
        return self

    @model_validator(mode="after")
    def _imitates_what_can_be_told_apart(self) -> Self:
        kinds = {task.kind for task in self.tasks.values()}
        blind = [name for name in ("standardise", "terms.dist_between") if self._asks_for(name)]
        if blind and "rate" in kinds:
            raise ValueError(f"distill.{blind[0]} tells nothing of two outcomes: it can't be used with kind: rate")
        if self.distill.standardise and "retrieval" in kinds:
            raise ValueError("distill.standardise: a retrieval leaves out answers, which would drown the others")
        return self

    @model_validator(mode="after")
    def _teaches_what_its_student_can_learn(self) -> Self:
        if why := self.distill.why_not(self.student):
            raise ValueError(why)
        return self

    def _asks_for(self, name: str) -> bool:
        return self.distill.standardise if name == "standardise" else name.removeprefix("terms.") in self.distill.terms

    @model_validator(mode="after")
    def _weighs_classes(self) -> Self:
        for name, part in (("teacher", self.teacher), ("distill", self.distill)):
            asked = [knob for knob in ("class_weights", "label_smoothing") if getattr(part, knob) not in {"none", 0}]
            if asked and not any(task.kind == "classification" for task in self.tasks.values()):
                raise ValueError(f"{name}.{asked[0]} needs a task of kind: classification")
        return self

    @model_validator(mode="after")
    def _pools_what_can_be_scored(self) -> Self:
        if self.data.unlabelled is None:
            return self
        if self.data.group or any(task.kind == "retrieval" for task in self.tasks.values()):
            raise ValueError("data.unlabelled can't be used with data.group or a task of kind: retrieval")
        if not any(term in self.distill.terms for term in LOGIT_TERMS) or self.distill.alpha == 0:
            raise ValueError("data.unlabelled teaches by the teacher's logits: it needs a term of them, and alpha")
        return self

    @model_validator(mode="after")
    def _refuses_what_is_out_of_scope(self) -> Self:
        if self.data.out_of_scope and not any(task.refuse for task in self.tasks.values()):
            raise ValueError("data.out_of_scope measures refusal: it needs a task with refuse")
        if self.data.out_of_scope and self.data.features.names:
            raise ValueError("data.out_of_scope holds texts alone: data.features can't be used beside it")
        return self

    @model_validator(mode="after")
    def _retrieves_by_one_teachers_view_of_text(self) -> Self:
        retrieves = any(task.kind == "retrieval" for task in self.tasks.values())
        if self.data.features.names and retrieves:
            raise ValueError("a retrieval compares texts: data.features can't be used")
        if self.teacher.others and retrieves:
            raise ValueError("teacher.others: vectors of several retrievals can't be averaged; give one teacher")
        return self

    @model_validator(mode="after")
    def _asks_of_one_or_several_tasks_what_fits(self) -> Self:
        for_one: dict[str, Any] = {"data.group": self.data.group}
        for name, task in self.tasks.items():
            told = {"weight": task.weight, "of": task.of, "reference": task.reference, "season": task.season}
            for_one |= {f"tasks.{name}.{knob}": value for knob, value in told.items()}
            for_one |= {f"tasks.{name}.kind: retrieval": task.kind == "retrieval"}
        for_several: dict[str, Any] = {
            "teacher.per_task": self.teacher.per_task,
            "teacher.balance": self.teacher.balance,
            "distill.balance": self.distill.balance,
            "distill.unlabelled": self.distill.unlabelled,
        }
        misplaced, why = (for_several, "several") if len(self.tasks) == 1 else (for_one, "one")
        asked = [name for name, value in misplaced.items() if value]
        if asked:
            raise ValueError(f"{asked[0]} is for recipes of {why} task{'s' if why == 'several' else ''}")
        return self

    @model_validator(mode="after")
    def _plans_for_one_teacher_and_one_student(self) -> Self:
        if self.plan is None:
            return self
        if self.teacher.several:
            raise ValueError(f"plan: forms are cut from one teacher; leave out teacher.{self.teacher.several}")
        if self.student.shaped_by:
            raise ValueError(f"plan tries forms of the teacher's layers: leave out student.{self.student.shaped_by}")
        if self.cascade is not None:
            raise ValueError("plan judges single students: leave out cascade, and add it to the form that is found")
        return self

    # Last: what is wrong of the recipe without it has been told by then.
    @model_validator(mode="after")
    def _cascades_what_can_be_sure(self) -> Self:
        if self.cascade is None:
            return self
        if any(task.kind != "classification" for task in self.tasks.values()):
            raise ValueError("cascade: only of classes is one sure or not: it needs tasks of kind: classification")
        try:
            alone = {"student": self.cascade.first.model_dump(), "cascade": None}
            Recipe.model_validate({**self.model_dump(by_alias=True), **alone})
        except ValidationError as error:
            raise ValueError(f"cascade.first: {error.errors()[0]['msg'].removeprefix('Value error, ')}") from error
        return self


def load_recipe(path: Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read and check a recipe; see `potstill.sections.load`.

    Raises:
        UserError: what is wrong with it, and where.
    """
    return load(Recipe, path, overrides)


def changed_recipe(path: Path, overrides: Sequence[str]) -> str:
    """The text of a recipe with some values replaced; comments are lost.

    Raises:
        UserError: see `load_recipe`.
    """
    load_recipe(path, overrides)
    return yaml.safe_dump(read(Recipe, path, overrides)[0], sort_keys=False, allow_unicode=True)

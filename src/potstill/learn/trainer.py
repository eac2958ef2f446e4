"""One training loop for teachers, students and controls, on the transformers Trainer.

Batches are padded to their longest row and grouped by length; the rate warms up, then decays linearly; after each
epoch the validation score decides whether to stop, and the best epoch's weights are kept. Where several processes learn
together, each takes its share of every batch, and of the validation batches.
"""

import contextlib
import hashlib
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from accelerate.utils import gather, pad_across_processes
from torch import Tensor, nn
from torch.utils.data import BatchSampler, DataLoader, Dataset
from transformers import EarlyStoppingCallback, EvalPrediction, TrainingArguments, set_seed
from transformers.trainer_callback import PrinterCallback
from transformers.trainer_utils import EvalLoopOutput

from potstill.learn import processes
from potstill.learn.checkpoint import ResumableTrainer, last_whole
from potstill.learn.follow import Follower
from potstill.learn.model import Inputs, TaskModel, arguments_in, best_device
from potstill.machine import has_bfloat16_units
from potstill.metrics import Truth, meanings_of, primary, score
from potstill.outcomes import Outcome, parts_of, probabilities_of
from potstill.recipe import Schooling, Training

METRICS_SHOWN = 2
# Of a group that come together, so that a batch's memory has a bound.
MOST_ROWS = 64
# (logits [batch, outcomes], batch) -> one value an example [batch], times its weight
Loss = Callable[[Tensor, Mapping[str, Tensor]], Tensor]
# Name -> what is known of each row `[rows, …]`; it may lie in a file.
Views = Mapping[str, npt.NDArray[np.floating[Any]]]


@dataclass(frozen=True)
class Examples:
    """Rows ready for training: inputs, labels, and what else a loss takes of them.

    For a student that is `teacher`, the teacher's logits `[rows, outcomes]`, and perhaps `vector`, its pooled vectors.
    """

    inputs: Inputs
    truth: Truth
    views: Views = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.inputs)

    @cached_property
    def weights(self) -> npt.NDArray[np.float32] | None:
        """How much each row counts `[rows]`, 1 on the mean: so the learning rate means the same whatever the unit."""
        weights = self.truth.weights
        return None if weights is None else (weights / weights.mean()).astype(np.float32)

    def batch(self, rows: Sequence[int], outcome: Outcome, pad_token_id: int) -> dict[str, Tensor]:
        """The model's arguments, `row` and `labels` `[batch]`, `targets` `[batch, outcomes]`, and what else there is.

        That is `weights` and `groups`, both `[batch]`, and the views. A row without a label has targets of zero.
        """
        values = self.truth.values[rows]
        told = np.isfinite(values).reshape(len(values), -1).any(axis=1)
        targets = np.zeros((len(values), len(outcome)), dtype=np.float32)
        targets[told] = outcome.targets(values[told])
        made = self.inputs.batch(rows, pad_token_id)
        made |= {"row": torch.tensor(rows), "labels": torch.from_numpy(values)}
        made |= {"targets": torch.from_numpy(targets)}
        made |= {name: torch.from_numpy(view[rows].astype(np.float32)) for name, view in self.views.items()}
        extra = {"weights": self.weights, "groups": self.truth.groups}
        return made | {name: torch.from_numpy(found[rows]) for name, found in extra.items() if found is not None}


class Units(Dataset[dict[str, Any]]):
    """What is drawn for a batch: single rows or, where rows are compared, whole groups of them.

    Args:
        examples: all rows.
        whole_groups: whether the rows of a group come together, at most MOST_ROWS of them.
        repeats: how often each row comes, where it comes alone; none: once.
    """

    def __init__(self, examples: Examples, whole_groups: bool, repeats: npt.NDArray[np.int64] | None = None) -> None:
        self.examples = examples
        once = np.arange(len(examples))
        rows = once if repeats is None else np.repeat(once, repeats)
        self._rows = _together(examples.truth.groups) if whole_groups else rows[:, None].tolist()

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        # A batch is made at once from its rows' numbers; the ids are there for grouping by length.
        rows = self._rows[index]
        longest = max((self.examples.inputs.ids[row] for row in rows), key=len)
        return {"examples": self.examples, "rows": rows, "input_ids": longest}

    def in_a_batch(self, rows: int, shares: int = 1) -> int:
        """How many units make a batch of about so many rows that falls into so many equal shares."""
        return shares * max(1, round(rows * len(self) / sum(map(len, self._rows)) / shares))


def _together(groups: npt.NDArray[np.int64] | None) -> list[list[int]]:
    """Rows by group."""
    if groups is None:
        raise ValueError("rows that are to be compared have no groups")
    order = np.argsort(groups, kind="stable")
    whole = np.split(order, np.flatnonzero(np.diff(groups[order])) + 1)
    return [part.tolist() for rows in whole for part in np.array_split(rows, -(-len(rows) // MOST_ROWS))]


def repeats(outcome: Outcome, truth: Truth, balance: float, seed: int) -> npt.NDArray[np.int64]:
    """How often each row comes in an epoch `[rows]`, so that small tasks aren't drowned; none comes less than once.

    A task with n labels comes (most / n)^balance times as often as the task with most. What is left beyond whole
    numbers is drawn by lot. A row with labels for several tasks comes as often as the smallest of them asks, one
    without any label once.
    """
    labelled = np.stack([np.isfinite(part.values(truth.values)) for part in parts_of(outcome)])
    sizes = labelled.sum(axis=1)
    wanted = (labelled * ((sizes.max() / np.maximum(sizes, 1)) ** balance)[:, None]).max(axis=0)
    lot = np.random.default_rng(seed).random(len(wanted))
    times: npt.NDArray[np.int64] = np.floor(np.maximum(wanted, 1) + lot).astype(np.int64)
    return times


@dataclass(frozen=True)
class Epoch:
    """What one pass over the training rows gave; `validation` holds the metrics of the outcome's family."""

    epoch: int
    loss: float
    validation_loss: float
    validation: dict[str, float]

    def flat(self) -> dict[str, float]:
        """One level of names: `epoch`, `loss`, `validation_loss`, and `validation_METRIC`."""
        metrics = {f"validation_{name}": value for name, value in self.validation.items()}
        return {"epoch": self.epoch, "loss": self.loss, "validation_loss": self.validation_loss, **metrics}


def train(
    make: Callable[[], tuple[TaskModel, Loss]],
    examples: Examples,
    validation: Examples,
    settings: Training,
    *,
    pad_token_id: int,
    on_epoch: Callable[[Mapping[str, float]], None],
    checkpoints: Path | None = None,
) -> tuple[TaskModel, list[Epoch]]:
    """Train, and return the model with the weights of its best epoch, and what each epoch gave.

    The model is made here, after the seed is set, so that its head's first weights are the recipe's too. What an
    earlier call left in `checkpoints` is gone on with, if it started from the same weights.

    Args:
        make: builds the untrained model, and its loss: one value an example from the logits and the batch.
        examples: rows to learn from.
        validation: rows that decide when to stop and which epoch is kept, by the family's first metric.
        settings: the recipe's knobs.
        pad_token_id: fills the short rows of a batch.
        on_epoch: called after each epoch with its figures, and with those of epochs that an earlier call reached.
        checkpoints: folder for the state after each epoch; none: a training that is cut short is lost.
    """
    set_seed(settings.seed)
    model, loss = make()
    model.fit_features(examples.inputs)
    if settings.freeze_embeddings:
        freeze_embeddings(model.encoder)
    outcome = model.head.outcome
    often = repeats(outcome, examples.truth, settings.balance, settings.seed)
    units, judged = Units(examples, settings.compares_rows, often), Units(validation, settings.compares_rows)

    def collate(drawn: list[dict[str, Any]]) -> dict[str, Tensor]:
        rows = [row for unit in drawn for row in unit["rows"]]
        made: dict[str, Tensor] = drawn[0]["examples"].batch(rows, outcome, pad_token_id)
        return made

    batch, first = units.in_a_batch(settings.batch_size, processes.count()), primary(outcome)
    history = _History(settings.epochs, outcome, on_epoch)
    with folder_of(checkpoints, model) as folder:
        last = last_whole(folder)
        trainer = _Trainer(
            loss,
            settings.head_learning_rate or settings.learning_rate,
            model=model,
            args=arguments(
                settings,
                -(-len(units) // batch),
                folder,
                keeps_all=checkpoints is not None,
                per_device_train_batch_size=batch,
                per_device_eval_batch_size=units.in_a_batch(64),
                metric_for_best_model=first,
                greater_is_better=meanings_of(outcome)[first].higher_is_better,
            ),
            train_dataset=units,
            eval_dataset=judged,
            data_collator=collate,
            # Row numbers stand in for labels here.
            compute_metrics=lambda found: _scored(outcome, validation.truth.at(found.label_ids), found.predictions),
            callbacks=[history, EarlyStoppingCallback(early_stopping_patience=settings.patience)],
        )
        trainer.remove_callback(PrinterCallback)
        with in_precision(settings, model.encoder):
            trainer.go_on_from(last)
    return model.cpu().eval(), history.epochs


@contextlib.contextmanager
def folder_of(checkpoints: Path | None, model: nn.Module) -> Iterator[Path]:
    """Where the state after each epoch goes: a folder of those that start from these weights, or one that vanishes."""
    if checkpoints is None:
        with tempfile.TemporaryDirectory(prefix="potstill-") as scratch:
            yield Path(scratch)
        return
    digest = hashlib.sha256()
    for name, weight in model.state_dict().items():
        digest.update(name.encode() + weight.contiguous().numpy().tobytes())
    folder = checkpoints / digest.hexdigest()[:16]
    folder.mkdir(parents=True, exist_ok=True)
    yield folder


def _scored(outcome: Outcome, truth: Truth, logits: npt.NDArray[np.float32]) -> dict[str, float]:
    return score(outcome, truth, probabilities_of(outcome, logits, truth.values))


def freeze_embeddings(encoder: Any) -> None:
    """Leave the token vectors as they are: most of a small encoder's weights, and of the optimizer's work."""
    encoder.get_input_embeddings().weight.requires_grad_(False)


@contextlib.contextmanager
def in_precision(settings: Schooling, encoder: Any) -> Iterator[None]:
    """Let the encoder multiply matrices in the precision that the recipe asks for while it learns.

    In bfloat16 (Micikevicius et al. 2018; Kalamkar et al. 2019) weights, sums, norms and what stands on top stay
    float32, and so does all that is measured.
    """
    if not _wants_bfloat16(settings):
        yield
        return
    device = best_device().type
    exact = encoder.forward

    def forward(*inputs: Any, **named: Any) -> Any:
        with torch.autocast(device, torch.bfloat16, enabled=encoder.training):
            found = exact(*inputs, **named)
        # ELECTRA, whose first step is a product, hands on rounded states.
        if found.last_hidden_state.dtype != torch.float32:
            found.last_hidden_state = found.last_hidden_state.float()
        return found

    encoder.forward = forward
    try:
        yield
    finally:
        del encoder.forward


def _wants_bfloat16(settings: Schooling) -> bool:
    if settings.precision == "auto":
        return torch.cuda.is_bf16_supported() if torch.cuda.is_available() else has_bfloat16_units()
    return settings.precision == "bfloat16"


def arguments(settings: Schooling, steps: int, folder: Path, keeps_all: bool, **own: Any) -> TrainingArguments:
    """What the transformers Trainer is told of any training.

    Args:
        settings: the recipe's knobs.
        steps: of an epoch.
        folder: for checkpoints.
        keeps_all: whether checkpoints hold what a killed training needs to go on, or weights alone.
        own: what is told of this kind of training.
    """
    told = TrainingArguments(
        output_dir=str(folder),
        num_train_epochs=settings.epochs,
        learning_rate=settings.learning_rate,
        lr_scheduler_type="linear",
        warmup_steps=round(steps * settings.epochs * settings.warmup),
        weight_decay=settings.weight_decay,
        train_sampling_strategy="group_by_length",
        eval_strategy="epoch",
        save_strategy="epoch",
        save_only_model=not keeps_all,
        save_total_limit=None if keeps_all else 1,
        restore_callback_states_from_checkpoint=True,
        load_best_model_at_end=True,
        logging_strategy="epoch",
        report_to=[],
        disable_tqdm=True,
        remove_unused_columns=False,
        dataloader_pin_memory=torch.cuda.is_available(),
        seed=settings.seed,
        data_seed=settings.seed,
        # Where processes can't find a GPU each, they must be told that they have none.
        use_cpu=processes.is_joined() and best_device().type == "cpu",
        # A batch is what all processes take together.
        accelerator_config={"split_batches": True},
        **own,
    )
    # A process has one GPU: threads that share a model over several can't call what is ours on it.
    told._n_gpu = min(told.n_gpu, 1)
    return told


class _Trainer(ResumableTrainer):
    """The transformers Trainer with our loss, and a learning rate of its own for what stands on the encoder."""

    def __init__(self, loss: Loss, head_learning_rate: float, **options: Any) -> None:
        super().__init__(**options)
        self._loss = loss
        self._head_learning_rate = head_learning_rate

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        """The optimizer of the arguments, with decay on weight matrices only."""
        decayed = set(self.get_decay_parameter_names(self.model))
        groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
        for name, parameter in self.model.named_parameters():
            if parameter.requires_grad:
                groups.setdefault((name.startswith("encoder."), name in decayed), []).append(parameter)
        kind, options = self.get_optimizer_cls_and_kwargs(self.args, self.model)
        rates = {True: self.args.learning_rate, False: self._head_learning_rate}
        made = [
            {"params": members, "lr": rates[of_encoder], "weight_decay": self.args.weight_decay * decays}
            for (of_encoder, decays), members in groups.items()
        ]
        optimizer: torch.optim.Optimizer = kind(made, **options)
        self.optimizer = optimizer
        return optimizer

    def compute_loss(
        self, model: nn.Module, inputs: dict[str, Tensor], return_outputs: bool = False, **_: Any
    ) -> Tensor | tuple[Tensor, dict[str, Tensor]]:
        """Batch mean of the loss."""
        # Called, not asked to respond: what wraps it to share gradients sees calls alone.
        logits = model(**arguments_in(inputs))
        progress = torch.tensor(self.state.global_step / max(self.state.max_steps, 1))
        loss = self._loss(logits, {**inputs, "progress": progress}).mean()
        return (loss, {"logits": logits}) if return_outputs else loss

    def get_eval_dataloader(self, eval_dataset: Any = None) -> DataLoader[dict[str, Any]]:
        """One process's share of the batches that one alone would make; where there are too few, the first of all."""
        order, rows = self._get_eval_sampler(self.eval_dataset), self.args.eval_batch_size
        batches = list(BatchSampler(order, rows, drop_last=False))
        own = batches[self.args.process_index :: self.args.world_size] or batches[:1]
        return DataLoader(self.eval_dataset, batch_sampler=own, collate_fn=self.data_collator)

    def evaluation_loop(self, dataloader: Any, *_: Any, metric_key_prefix: str = "eval", **__: Any) -> EvalLoopOutput:
        """Figures of all rows, each of which counts once, whichever process it was with."""
        self.model.eval()
        parts = zip(*map(self._judged, dataloader), strict=True)
        rows, logits, losses = (_from_all(torch.cat(part)) for part in parts)
        rows, first = np.unique(rows, return_index=True)
        rows, first = rows[rows >= 0], first[rows >= 0]
        figures = self.compute_metrics(EvalPrediction(logits[first], rows))
        told = {f"{metric_key_prefix}_{name}": float(value) for name, value in figures.items()}
        told[f"{metric_key_prefix}_loss"] = float(losses[first].mean())
        return EvalLoopOutput(logits[first], rows, told, len(rows))

    @torch.no_grad()
    def _judged(self, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Numbers of a batch's rows `[batch]`, their logits `[batch, outcomes]`, and the batch's loss for each."""
        batch = self._prepare_inputs(batch)
        loss, said = self.compute_loss(self.model, batch, return_outputs=True)
        return batch["row"], said["logits"], loss.repeat(len(batch["row"]))


def _from_all(own: Tensor) -> npt.NDArray[Any]:
    """The rows of all processes, and those of value -1 that make up for fewer."""
    found: Tensor = gather(pad_across_processes(own, pad_index=-1))
    return found.cpu().numpy()


class _History(Follower):
    """Collects the epochs."""

    def __init__(self, epochs: int, outcome: Outcome, on_epoch: Callable[[Mapping[str, float]], None]) -> None:
        super().__init__(epochs)
        self.epochs: list[Epoch] = []
        self._meanings = meanings_of(outcome)
        self._on_epoch = on_epoch

    def reached(self, epoch: int, loss: float, measured: Mapping[str, float]) -> str:
        validation = {name: measured[f"eval_{name}"] for name in self._meanings}
        self.epochs.append(Epoch(epoch, loss, measured["eval_loss"], validation))
        self._on_epoch(self.epochs[-1].flat())
        shown = list(self._meanings.items())[:METRICS_SHOWN]
        return ", ".join(f"{m.title} {m.form.format(validation[name])}" for name, m in shown)

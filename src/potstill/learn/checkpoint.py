"""Checkpoints, so that a killed training goes on from its last epoch and ends as if nothing had happened.

Each holds weights, optimizer, schedule, random states and the history, as safetensors and JSON; nothing is pickled. It
is whole once its seal, a digest of all that, is there. The last one and the best one are kept. Where several processes
learn together, the first writes; the others add their random states. Those that belong in a bucket are written to a
folder of this machine first, and go up from there.
"""

import contextlib
import hashlib
import json
import random
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import PartialState
from accelerate.utils import broadcast
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.utils.data import Sampler
from transformers import Trainer
from transformers.trainer_callback import TrainerState
from transformers.trainer_pt_utils import LengthGroupedSampler

from potstill.code import code_version
from potstill.errors import UserError
from potstill.learn import processes
from potstill.shelves import shelf_at
from potstill.store import Folder, Shelf, alone, folder_digest, write_text

SEAL = "whole.json"
# In a folder whose checkpoints belong elsewhere: where.
SHELF = "shelf.txt"
STATE = "trainer_state.json"
TENSORS, SETTINGS = "progress.safetensors", "progress.json"
CPU, GPU = "random.cpu", "random.cuda"


@contextlib.contextmanager
def unfinished(checkpoints: Shelf | None, *decided_by: object) -> Iterator[Path | None]:
    """A folder for the checkpoints of a step, found again by what decides the step; it goes once the step is done.

    Where another process is at the same step, there is none: two that write to one folder would spoil each other's. In
    a bucket they may; what is not whole does not count.

    Args:
        checkpoints: where those of all steps are kept; none: nowhere.
        decided_by: settings and digests, whose `repr` tells them apart; the code's version comes to them.
    """
    if checkpoints is None:
        yield None
        return
    own = checkpoints.inside(hashlib.sha256(repr((code_version(), decided_by)).encode()).hexdigest())
    with _in_folder(own.path) if isinstance(own, Folder) else _in_bucket(own) as folder:
        yield folder


@contextlib.contextmanager
def _in_folder(folder: Path) -> Iterator[Path | None]:
    is_first = processes.is_first()
    with alone(folder / ".lock") if is_first else contextlib.nullcontext(False) as is_alone:
        is_alone = processes.as_first_says(is_alone)
        if not is_alone:
            print("another process is at the same training; this one keeps no checkpoints")
        yield folder if is_alone else None
        if is_alone and is_first:
            shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _in_bucket(shelf: Shelf) -> Iterator[Path | None]:
    if processes.is_joined():
        # Each of them may be on another machine, and they write to one folder.
        print("processes that torchrun started keep checkpoints in a shared folder, not in a bucket")
        yield None
        return
    with tempfile.TemporaryDirectory(prefix="potstill-") as scratch:
        folder = Path(scratch)
        write_text(folder / SHELF, str(shelf))
        for name in _sealed(set(shelf.names())):
            shelf.fetch(name, folder / name)
        yield folder
        for name in list(shelf.names()):
            shelf.remove(name)


def _sealed(names: set[str]) -> set[str]:
    """Those files whose checkpoint has its seal."""
    return {name for name in names if f"{name.rpartition('/')[0]}/{SEAL}" in names}


def _bring_up(training: Path) -> None:
    """Bring a training's checkpoints to the shelf where they belong; a store out of reach ends no training."""
    root = next((folder for folder in training.parents if (folder / SHELF).is_file()), None)
    if root is None:
        return
    shelf = shelf_at((root / SHELF).read_text(encoding="utf-8")).inside(training.relative_to(root).as_posix())
    here = {path.relative_to(training).as_posix() for path in training.rglob("*") if path.is_file()}
    try:
        there = set(shelf.names())
        for name in sorted(here - _sealed(there), key=lambda name: name.endswith(SEAL)):
            shelf.replace(name, training / name)
        for name in there - here:
            shelf.remove(name)
    except UserError as error:
        print(f"this epoch's checkpoint is not kept: {error}")


class ResumableTrainer(Trainer):
    """The transformers Trainer, whose checkpoints are whole or don't count, and hold no pickle."""

    def go_on_from(self, checkpoint: Path | None) -> None:
        """Train, from a checkpoint if there is one. What had ended by then learns nothing more.

        Afterwards all processes have the weights of the best epoch.
        """
        if self.args.process_index:
            # Each drops other units.
            torch.manual_seed(self.args.seed + self.args.process_index)
        if checkpoint is not None:
            state = _state_of(checkpoint)
            print(f"going on after epoch {round(state.epoch or 0)}, which an earlier run reached")
            if state.stateful_callbacks["TrainerControl"]["args"]["should_training_stop"]:
                self.args.num_train_epochs = round(state.epoch or 0)
        self.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        for tensor in self.model.state_dict().values():
            broadcast(tensor)

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler[int]:
        return Agreed(self.args.train_batch_size, train_dataset or self.train_dataset)

    def _init_training_state(self, *arguments: Any) -> tuple[int, int]:
        found: tuple[int, int] = super()._init_training_state(*arguments)
        if self.state.best_global_step:
            # The folder may lie elsewhere now than when this was written.
            self.state.best_model_checkpoint = str(_checkpoint(self.args.output_dir, self.state.best_global_step))
        return found

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        super()._save_checkpoint(model, trial)
        if self.args.save_only_model:
            return
        self.accelerator.wait_for_everyone()
        if not self.args.should_save:
            return
        folder = _checkpoint(self.args.output_dir, self.state.global_step)
        # Settings that the Trainer pickles for people; nobody reads them here.
        (folder / "training_args.bin").unlink(missing_ok=True)
        write_text(folder / SEAL, json.dumps({"sha256": folder_digest(folder, but=SEAL)}))
        best = _checkpoint(self.args.output_dir, self.state.best_global_step or self.state.global_step)
        for old in set(folder.parent.glob("checkpoint-*")) - {folder, best}:
            shutil.rmtree(old)
        _bring_up(folder.parent)

    def _load_best_model(self) -> None:
        if not self.args.should_save:
            return
        best = self.state.best_model_checkpoint
        if best is not None and not Path(best).is_dir():
            raise RuntimeError(f"{best}: the best epoch's weights were removed while others were learnt; run again")
        super()._load_best_model()

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        if not self.args.should_save:
            return
        state = self.optimizer.state_dict()
        tensors = {f"{place}.{name}": kept for place, one in state["state"].items() for name, kept in one.items()}
        save_file({name: kept.contiguous() for name, kept in tensors.items()}, Path(output_dir, TENSORS))
        told = {"groups": state["param_groups"], "schedule": self.lr_scheduler.state_dict()}
        Path(output_dir, SETTINGS).write_text(json.dumps(told), encoding="utf-8")

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if checkpoint is None:
            return
        told = json.loads(Path(checkpoint, SETTINGS).read_text(encoding="utf-8"))
        state: dict[int, dict[str, Tensor]] = {}
        for key, kept in load_file(Path(checkpoint, TENSORS)).items():
            place, _, name = key.partition(".")
            state.setdefault(int(place), {})[name] = kept
        self.optimizer.load_state_dict({"state": state, "param_groups": told["groups"]})
        self.lr_scheduler.load_state_dict(told["schedule"])

    def _save_rng_state(self, output_dir: str) -> None:
        kind, keys, *rest = np.random.get_state()
        tensors = {CPU: torch.random.get_rng_state()}
        if torch.cuda.is_available():
            tensors[GPU] = torch.cuda.random.get_rng_state()
        path = self._random_states(output_dir)
        save_file(tensors, path.with_suffix(".safetensors"))
        told = {"python": random.getstate(), "numpy": [kind, np.asarray(keys).tolist(), *rest]}
        path.write_text(json.dumps(told), encoding="utf-8")

    def _load_rng_state(self, checkpoint: str | None) -> None:
        if checkpoint is None:
            return
        path = self._random_states(checkpoint)
        told = json.loads(path.read_text(encoding="utf-8"))
        version, keys, gauss = told["python"]
        random.setstate((version, tuple(keys), gauss))
        np.random.set_state(tuple(told["numpy"]))
        tensors = load_file(path.with_suffix(".safetensors"))
        torch.random.set_rng_state(tensors[CPU])
        if GPU in tensors and torch.cuda.is_available():
            torch.cuda.random.set_rng_state(tensors[GPU])

    def _random_states(self, checkpoint: str) -> Path:
        return Path(checkpoint, f"random-{self.args.process_index}.json")


class Agreed(LengthGroupedSampler):
    """An order of chance in which a batch's rows are of like length: the first process draws it, for all."""

    def __iter__(self) -> Iterator[int]:
        order = torch.tensor(list(super().__iter__()), device=PartialState().device)
        return iter(broadcast(order).tolist())


def last_whole(folder: Path) -> Path | None:
    """The last checkpoint of a training in its folder from which it can go on; none: it begins anew.

    The best one must be whole too, for its weights are what the training ends with.
    """
    steps = sorted((int(place.name.rpartition("-")[2]) for place in folder.glob("checkpoint-*")), reverse=True)
    for checkpoint in (_checkpoint(folder, step) for step in steps):
        if _is_whole(checkpoint):
            best = _checkpoint(folder, _state_of(checkpoint).best_global_step or 0)
            if best == checkpoint or _is_whole(best):
                return checkpoint
    return None


def _state_of(checkpoint: Path) -> TrainerState:
    return TrainerState.load_from_json(str(checkpoint / STATE))


def _checkpoint(folder: str | Path, step: int) -> Path:
    return Path(folder, f"checkpoint-{step}")


def _is_whole(checkpoint: Path) -> bool:
    try:
        told = json.loads((checkpoint / SEAL).read_text(encoding="utf-8"))["sha256"]
    except (OSError, ValueError, KeyError):
        return False
    return bool(told == folder_digest(checkpoint, but=SEAL))

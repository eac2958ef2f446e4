"""What a person sees of a training: how far it is, and a line an epoch."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

from transformers import TrainerCallback

from potstill.progress import Progress


class Follower(TrainerCallback, ABC):
    """Shows progress, and calls `reached` after each epoch, also for those that an earlier run reached."""

    def __init__(self, epochs: int) -> None:
        self._planned = epochs
        self._loss = float("nan")

    @abstractmethod
    def reached(self, epoch: int, loss: float, measured: Mapping[str, float]) -> str:
        """Take an epoch's training loss and validation figures, and say them in words.

        Args:
            epoch: its number, from 1.
            loss: mean over its steps.
            measured: figures of the validation rows, named `eval_…`.
        """

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Tell again what an earlier run reached."""
        self._progress = Progress(state.max_steps, "step", before=state.global_step)
        for entry in state.log_history:
            self.on_log(args, state, control, entry)
            if "eval_loss" in entry:
                self.reached(round(entry["epoch"]), self._loss, entry)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Show how far it is."""
        epoch = -(-state.global_step * self._planned // state.max_steps)
        self._progress.at(state.global_step, f"epoch {epoch}/{self._planned}")

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float], **_: Any) -> None:
        """Remember the training loss, which comes before the validation figures."""
        self._loss = logs.get("loss", self._loss)

    def on_evaluate(self, args: Any, state: Any, control: Any, metrics: dict[str, float], **_: Any) -> None:
        """Say what the epoch gave."""
        epoch = round(state.epoch)
        words = self.reached(epoch, self._loss, metrics)
        self._progress.say(f"epoch {epoch}/{self._planned}: loss {self._loss:.3f}, validation {words}")

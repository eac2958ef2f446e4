"""Several processes that teach one model: who is who among them, and how a step starts them.

torchrun starts them, on this machine or on several. Who each one is torch and accelerate read from what it left in the
environment, so whatever starts torchrun, a step or a cluster, the code is the same.
"""

import contextlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import broadcast
from torch import distributed

from potstill.errors import UserError

# What the first process tells the step that started them comes in lines that begin so.
MARK = "::together "
EXIT_BAD_INPUT = 2
# So long may one of them be busy by itself, weighing teachers or writing them. If one dies torchrun ends the others.
ALONE = timedelta(hours=1)


@contextlib.contextmanager
def joined() -> Iterator[None]:
    """Be one of torchrun's processes while the block runs, if it started this one; only the first says anything."""
    if not distributed.is_torchelastic_launched():
        yield
        return
    group = PartialState(cpu=not torch.cuda.is_available(), timeout=ALONE)
    with contextlib.nullcontext() if group.is_main_process else contextlib.redirect_stdout(None):
        try:
            yield
        except UserError:
            # All meet the same mistake.
            if group.is_main_process:
                raise
            sys.exit(EXIT_BAD_INPUT)
    group.destroy_process_group()


def is_joined() -> bool:
    """Whether this process is one of torchrun's."""
    return distributed.is_initialized()


def count() -> int:
    """How many processes there are."""
    return distributed.get_world_size() if is_joined() else 1


def is_first() -> bool:
    """Whether this process is the one that writes, or alone."""
    return not is_joined() or distributed.get_rank() == 0


def as_first_says(value: bool) -> bool:
    """The first process's value, for all."""
    if not is_joined():
        return value
    return bool(broadcast(torch.tensor(int(value), device=PartialState().device)))


def wanted(asked: int | None) -> int:
    """How many processes a step starts: as many as asked for or, if nobody asks, one for each GPU."""
    return asked or max(1, torch.cuda.device_count())


def launch(
    module: str, request: Mapping[str, Any], processes: int, on_epoch: Callable[[Mapping[str, float]], None]
) -> dict[str, float]:
    """Run a module's processes on this machine, and return what the first of them found.

    Args:
        module: gets the request as its one argument; it tells of epochs, and what it found, by `tell`.
        request: as JSON can hold it.
        processes: how many.
        on_epoch: called with the figures of each epoch.

    Raises:
        UserError: they met a user's mistake.
        RuntimeError: they ended otherwise without having found anything; what they left on stderr is passed on.
    """
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--local-addr", "127.0.0.1"]
    command = [*torchrun, "--nproc-per-node", str(processes), "--module", module, json.dumps(request)]
    found: dict[str, float] | None = None
    with (
        tempfile.TemporaryFile("w+", prefix="potstill-") as complaints,
        _ended(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=complaints, text=True)) as running,  # noqa: S603
    ):
        for line in running.stdout or ():
            if not line.startswith(MARK):
                print(line, end="", flush=True)
                continue
            kind, value = json.loads(line.removeprefix(MARK))
            if kind == "mistake":
                raise UserError(value)
            if kind == "epoch":
                on_epoch(value)
            if kind == "found":
                found = value
        if running.wait() or found is None:
            complaints.seek(0)
            sys.stderr.write(complaints.read())
            raise RuntimeError(f"{module}: {processes} processes ended with code {running.returncode}")
    return found


def tell(kind: str, value: Any) -> None:
    """Tell the step that started these processes: an `epoch`'s figures, what was `found`, or a user's `mistake`."""
    print(MARK + json.dumps([kind, value]), flush=True)


@contextlib.contextmanager
def _ended(running: "subprocess.Popen[str]") -> Iterator["subprocess.Popen[str]"]:
    """See to it that torchrun, and so its processes, don't outlive the block."""
    with running:
        try:
            yield running
        finally:
            running.terminate()

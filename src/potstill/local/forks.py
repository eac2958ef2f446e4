"""Steps of a run on this machine as forks of one process that has imported what steps need.

Importing torch and what goes with it takes a step longer than its work where rows are few.
"""

import contextlib
import multiprocessing
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

from kfp.dsl.executor_main import executor_main
from kfp.local.status import Status
from kfp.local.subprocess_task_handler import SubprocessTaskHandler

from potstill.components.images import TRAIN

# What the process imports before it forks; the last four bring torch, transformers, scikit-learn and ONNX Runtime.
IMPORTED = [
    "potstill.cli",
    "potstill.local.forks",
    "potstill.registry",
    "potstill.steps.compress",
    "potstill.steps.distill",
    "potstill.steps.evaluate",
    "potstill.steps.teach",
]


@dataclass
class Forks:
    """Runs steps as forks, in place of kfp's own way, a new interpreter each.

    The process they are forked from has no thread of Python's and has computed nothing. It begins with the first step
    that needs torch: a run whose steps are all in the cache never pays for it.

    Attributes:
        started: whether it has begun.
    """

    started: bool = False

    def carry_out(self, handler: SubprocessTaskHandler) -> Status:
        """Run the step that kfp's handler describes, and print what it says.

        Returns:
            Whether it succeeded.
        """
        if not (self.started or handler.image == TRAIN):
            return _as_kfp_does(handler)
        self.started = True
        # sh, -ec, script, code, arguments: what kfp 2.17 makes of a component.
        _, _, _, code, *arguments = handler.full_command
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(IMPORTED)
        heard, said = context.Pipe(duplex=False)
        step = context.Process(target=_step, args=(code, arguments, os.environ | handler.env_vars, said))
        with heard, said:
            step.start()
            said.close()
            with open(heard.fileno(), closefd=False, encoding="utf-8", errors="replace") as lines:
                for line in lines:
                    print(line, end="")
            print()
        step.join()
        return Status.SUCCESS if step.exitcode == 0 else Status.FAILURE


_as_kfp_does = SubprocessTaskHandler.run


def _step(code: str, arguments: list[str], environment: Mapping[str, str], said: Connection) -> None:
    """In the fork: do what the script of a component does."""
    os.dup2(said.fileno(), sys.stdout.fileno())
    os.dup2(said.fileno(), sys.stderr.fileno())
    said.close()
    os.environ.clear()
    os.environ.update(environment)
    with tempfile.TemporaryDirectory() as folder:
        module = Path(folder, "ephemeral_component.py")
        module.write_text(code, encoding="utf-8")
        sys.argv = ["executor_main", "--component_module_path", str(module), *arguments]
        executor_main()


@contextlib.contextmanager
def forks() -> Iterator[None]:
    """While the block runs, kfp's `SubprocessRunner` runs steps by `Forks`, where a fork is safe: on Linux."""
    if sys.platform == "linux":
        ours = Forks()
        SubprocessTaskHandler.run = lambda handler: ours.carry_out(handler)
    try:
        yield
    finally:
        SubprocessTaskHandler.run = _as_kfp_does

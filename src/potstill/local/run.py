"""Run the pipeline on this machine, follow it, and gather what it leaves."""

import contextlib
import datetime
import json
import os
import signal
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from kfp import local
from kfp.local import cache, executor_input_utils
from kfp.local.orchestrator import enhanced_dag_orchestrator
from kfp.local.status import Status
from rich.console import Console

from potstill import tracking
from potstill.bucket import credentials, is_remote
from potstill.code import code_version
from potstill.components.images import CORE, TRAIN
from potstill.data.read import sources_of
from potstill.doctor import places_of
from potstill.errors import UserError
from potstill.follow import Follower, StepState, following
from potstill.local.cache import RUNS, DigestCache
from potstill.local.containers import confined, containers, hand_over, prepare
from potstill.local.forks import forks
from potstill.local.kept import keep
from potstill.pipelines import distill
from potstill.pipelines.package import in_images
from potstill.recipe import Recipe
from potstill.shelves import shelf_at
from potstill.store import write_text

# The task that closes the run, however it went.
LAST = "close"
# A thread that waits should not burn a core that a neighbour needs; results don't depend on it.
CHILD_ENVIRONMENT = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "0", "TOKENIZERS_PARALLELISM": "false"}


class RunFailedError(Exception):
    """A step failed for a reason that is not the user's input."""


def run(
    recipe: Recipe,
    root: Path,
    console: Console,
    artifacts: Path | None,
    store: str = "",
    images: Mapping[str, str] | None = None,
) -> Path:
    """Run a recipe's pipeline and return the run's folder, which holds `summary.json`, `report.html` and `run.log`.

    Args:
        recipe: what to run.
        root: where runs and the cache lie.
        console: for progress.
        artifacts: where a new MLflow experiment keeps its files; none: where its server puts them.
        store: s3:// or a folder where artifacts, signals and checkpoints outlive this machine; empty: the root alone.
        images: that steps run in, as `potstill.images` reads them; none: steps are processes of this environment.

    Raises:
        UserError: bad input, as the step that found it says.
        RunFailedError: any other failure, with the place of the log.
    """
    started = time.monotonic()
    if images:
        _reach(images, recipe)
    folder = _new_folder(root, recipe.name)
    os.environ.update(CHILD_ENVIRONMENT | {tracking.RUN_ID_VARIABLE: folder.name})
    tracking.open_run(recipe.name, recipe.model_dump(mode="json", by_alias=True), artifacts)
    with following(console, folder / "run.log") as follower:
        try:
            _execute(recipe, folder, follower, store, images)
        except RuntimeError as error:
            if follower.expected:
                raise UserError(follower.error) from error
            raise RunFailedError(f"{follower.error or 'the pipeline failed'}; see {folder / 'run.log'}") from error
        except KeyboardInterrupt:
            # The exit handler has no turn after an interruption.
            tracking.close(recipe.name, "CANCELLED")
            raise
    _conclude(folder, follower.steps, time.monotonic() - started)
    _point_latest(root, folder)
    if store:
        _keep(folder, store, console)
    return folder


def _keep(folder: Path, store: str, console: Console) -> None:
    """Put what the run left into the store; the run is done, whatever becomes of that."""
    try:
        keep(folder, shelf_at(store).inside(RUNS))
    except UserError as error:
        console.print(f"not all of this run is kept in the store: {error}", style="red", markup=False)


def _new_folder(root: Path, name: str) -> Path:
    stamp = datetime.datetime.now().strftime("%Y-%m-%d-%H-%M-%S-%f")
    folder = (root / f"{name}-{stamp}").absolute()
    try:
        folder.mkdir(parents=True)
    except OSError as error:
        raise UserError(f"--root {root}: can't write there: {error.strerror}") from error
    return folder


def _reach(images: Mapping[str, str], recipe: Recipe) -> None:
    """See that steps in containers can be run, and record what they do."""
    uri = os.environ.get("MLFLOW_TRACKING_URI", "")
    if not uri.startswith(("http:", "https:")):
        raise UserError(
            "--images: a step in a container reaches MLflow only by a server: start one (make ui) and name it in "
            "MLFLOW_TRACKING_URI, as in http://127.0.0.1:5000"
        )
    here = Path.cwd()
    for place in places_of(*sources_of(recipe.data).values(), recipe.data.unlabelled):
        if not (is_remote(place) or Path(os.path.normpath(here / place)).is_relative_to(here)):
            raise UserError(f"--images: {place}: a step in a container reads what lies below {here}, or in a bucket")
    prepare(images[name] for name in (CORE, TRAIN))


def _execute(recipe: Recipe, folder: Path, follower: Follower, store: str, images: Mapping[str, str] | None) -> None:
    root = folder.parent
    pipeline, code, runner = distill.build(recipe), code_version(), local.SubprocessRunner(use_venv=False)
    lasting = root if not store or is_remote(store) else Path(store).absolute()
    if images:
        hand_over(folder, lasting)
        # A profile or a role is not there in a container.
        keys = credentials() if is_remote(store) else {}
        # The images may carry other code than is installed here.
        pipeline, code, runner = in_images(pipeline, images), images[TRAIN], confined(folder.name, os.environ | keys)
    # kfp names a run's folder by itself, at the moment of the call; we need to know it before.
    executor_input_utils.get_local_pipeline_resource_name = lambda _: folder.name
    with _scratch() as scratch, containers(Path.cwd(), lasting) as steps, forks():
        local.init(runner, pipeline_root=str(root), workspace_root=scratch, enable_caching=True)
        cache_root = str(root / "cache")
        kept = DigestCache(cache_root, follower, shelf_at(store) if store else None)
        cache._cache_singleton, cache._cache_singleton_root = kept, cache_root
        local.config.LocalExecutionConfig.instance.cache_root = cache_root
        with contextlib.redirect_stdout(follower), warnings.catch_warnings(), _stopping_at_once(follower, steps.end):
            warnings.simplefilter("ignore")
            pipeline(code_version=code, store=store or str(root))


@contextlib.contextmanager
def _scratch() -> Iterator[str]:
    """A folder for what kfp and the steps leave behind, which goes with the block."""
    before = os.environ.get("TMPDIR")
    with tempfile.TemporaryDirectory(prefix="potstill-") as folder:
        os.environ["TMPDIR"] = folder
        try:
            yield folder
        finally:
            os.environ.pop("TMPDIR")
            if before is not None:
                os.environ["TMPDIR"] = before


@contextlib.contextmanager
def _stopping_at_once(follower: Follower, end: Callable[[], None]) -> Iterator[None]:
    """While the block runs, nothing begins after an interruption or a failed step: kfp would do all it still can.

    Args:
        follower: which knows of errors that steps tell.
        end: ends what still runs beside.
    """
    stopped = threading.Event()
    execute = enhanced_dag_orchestrator.execute_task

    def interrupt(*_: Any) -> None:
        stopped.set()
        end()
        raise KeyboardInterrupt

    def unless_stopped(task_name: str, **more: Any) -> Any:
        if task_name != LAST and (stopped.is_set() or follower.error):
            return {}, Status.FAILURE
        outputs, status = execute(task_name=task_name, **more)
        if status == Status.FAILURE:
            stopped.set()
            end()
        return outputs, status

    # Who ignores interruptions, as a job in the background does, goes on ignoring them.
    hears = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if hears:
        signal.signal(signal.SIGINT, interrupt)
    enhanced_dag_orchestrator.execute_task = unless_stopped
    try:
        yield
    finally:
        enhanced_dag_orchestrator.execute_task = execute
        if hears:
            signal.signal(signal.SIGINT, signal.default_int_handler)


def _conclude(folder: Path, steps: dict[str, StepState], wall_s: float) -> None:
    """Complete the summary with times, and lay it and the report where a person looks."""
    registered = folder / "register"
    summary = json.loads((registered / "summary").read_text(encoding="utf-8"))
    summary["wall_s"] = round(wall_s, 1)
    summary["steps"] = {name: asdict(state) for name, state in steps.items()}
    report = (registered / "report").read_text(encoding="utf-8")
    write_text(folder / "report.html", report)
    write_text(folder / "summary.json", json.dumps(summary, indent=1, ensure_ascii=False))


def _point_latest(root: Path, folder: Path) -> None:
    draft = root / f".latest-{os.getpid()}"
    draft.symlink_to(folder.name)
    draft.replace(root / "latest")

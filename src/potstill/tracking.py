"""MLflow runs: one parent a pipeline run, a nested run a step.

The parts of the environment that say where things are recorded are read here, and nowhere below: `MLFLOW_TRACKING_URI`
with MLflow's credentials, `POTSTILL_RUN_ID`, the pipeline run's identity, and `MLFLOW_RUN_ID`, a run that KFP's own
MLflow plugin opened for the step (its proposal 12862). None changes a result.
"""

import contextlib
import getpass
import importlib.util
import io
import json
import logging
import os
import re
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from mlflow.utils.credentials import read_mlflow_creds
from mlflow.utils.validation import MAX_PARAM_VAL_LENGTH, MAX_TAG_VAL_LENGTH

from potstill.errors import UserError

RUN_ID_VARIABLE = "POTSTILL_RUN_ID"
ADOPTED_VARIABLE = "MLFLOW_RUN_ID"
PIPELINE_RUN = "kfp.run_id"
PARENT = "mlflow.parentRunId"
DESCRIPTION = "mlflow.note.content"
# MLflow shows runs and metrics first, not the pages for language-model agents.
TRAINING_PAGES = {"mlflow.experimentKind": "custom_model_development"}
EXIT_BAD_INPUT = 2
# What kfp calls a good end: locally, and on a cluster.
SUCCESS = {"SUCCEEDED", "COMPLETE"}
# Three retries take about 13 seconds, enough for a server's short breaks; the timeout is in seconds.
PROBE = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3", "MLFLOW_HTTP_REQUEST_TIMEOUT": "10"}
UNAUTHENTICATED = 401
# MLflow's own bars and links would stand between a command's lines.
QUIET = {"MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false", "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true"}


def client() -> MlflowClient:
    """A client of the server or database that `MLFLOW_TRACKING_URI` names.

    Raises:
        UserError: nothing answers there, or it doesn't know who asks.
    """
    uri = os.environ.get("MLFLOW_TRACKING_URI", "")
    if not uri:
        raise UserError("MLFLOW_TRACKING_URI is not set: name the MLflow server, as in http://mlflow:5000")
    if uri.startswith("sqlite:") and importlib.util.find_spec("sqlalchemy") is None:
        raise UserError(f"MLflow at {public(uri)}: a database, not a server, needs the extra potstill[ui]")
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    logging.getLogger("mlflow").setLevel(logging.WARNING)
    try:
        with soon():
            found = MlflowClient(uri)
            found.search_experiments(max_results=1)
    except (MlflowException, ImportError) as error:
        if isinstance(error, MlflowException) and error.get_http_status_code() == UNAUTHENTICATED:
            raise UserError(_unknown(uri)) from error
        raise UserError(f"MLflow at {public(uri)} does not answer: {reason(error, uri)}") from error
    return found


def _unknown(uri: str) -> str:
    """What to do where a server doesn't know who asks."""
    name, variables = _account(uri), "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
    if name is None:
        return f"MLflow at {public(uri)} wants to know who asks: set {variables}"
    return f"MLflow at {public(uri)} refuses user {name}: unknown, or the password is wrong; check {variables}"


def user() -> str:
    """Who is at work: the account at MLflow or, without one, on this machine; a container's user may have no name."""
    try:
        return _account(os.environ.get("MLFLOW_TRACKING_URI", "")) or getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"


def _account(uri: str) -> str | None:
    return read_mlflow_creds().username or urlsplit(uri).username


def reason(error: BaseException, uri: str) -> str:
    """The first line of an error, without the credentials that an address in it may carry."""
    return str(error).splitlines()[0].replace(uri, public(uri))


def public(uri: str) -> str:
    """An address without the credentials that it may carry before the host or among its options."""
    return re.sub(r"//.*@", "//", uri).partition("?")[0]


@contextlib.contextmanager
def soon() -> Iterator[None]:
    """Give a server seconds to answer while the block runs: MLflow by itself tries for minutes.

    The environment's own settings are respected.
    """
    ours = {name: value for name, value in PROBE.items() if name not in os.environ}
    os.environ.update(ours)
    try:
        yield
    finally:
        for name in ours:
            os.environ.pop(name, None)


def open_run(recipe_name: str, recipe: Mapping[str, Any], artifacts: Path | None) -> None:
    """Open the parent run before the first step, with the whole recipe as an artifact.

    Args:
        recipe_name: names the experiment, too.
        recipe: every setting.
        artifacts: folder for a new experiment's artifacts; none: where the server puts them.
    """
    found = client()
    if artifacts and found.get_experiment_by_name(recipe_name) is None:
        found.create_experiment(recipe_name, artifact_location=artifacts.absolute().as_uri(), tags=TRAINING_PAGES)
    found.log_dict(parent_run(found, recipe_name), dict(recipe), "recipe.json")


def pipeline_run() -> str:
    """Identity of the pipeline run that this process belongs to."""
    return os.environ.get(RUN_ID_VARIABLE) or "by-hand"


def parent_run(found: MlflowClient, recipe_name: str) -> str:
    """Find this pipeline run's parent run, above an adopted one or by its tag, or make it. Returns its id.

    Raises:
        UserError: the recipe's experiment was deleted.
    """
    if adopted := _adopted(found):
        parent = adopted[1]
        _set_tags(found, parent, _tags_of_parent(recipe_name))
        return parent
    experiment_id = _experiment(found, recipe_name)
    name = pipeline_run()
    query = f"tags.`{PIPELINE_RUN}` = '{name}' and tags.`potstill.step` = 'pipeline'"
    runs = found.search_runs([experiment_id], query, order_by=["attributes.start_time ASC"], max_results=1)
    if runs:
        return str(runs[0].info.run_id)
    return str(found.create_run(experiment_id, tags=_tags_of_parent(recipe_name), run_name=name).info.run_id)


def _adopted(found: MlflowClient) -> tuple[str, str] | None:
    """The run that KFP's plugin opened for this step, and the one above; a run with none above is somebody else's."""
    run_id = os.environ.get(ADOPTED_VARIABLE)
    parent = found.get_run(run_id).data.tags.get(PARENT) if run_id else None
    return (str(run_id), str(parent)) if parent else None


def _tags_of_parent(recipe_name: str) -> dict[str, str]:
    return {PIPELINE_RUN: pipeline_run(), "potstill.step": "pipeline", "recipe": recipe_name}


def _experiment(found: MlflowClient, recipe_name: str) -> str:
    """Id of the recipe's experiment, which is made if it is not there."""
    experiment = found.get_experiment_by_name(recipe_name)
    if experiment is None:
        try:
            return str(found.create_experiment(recipe_name, tags=TRAINING_PAGES))
        except MlflowException:
            # Another run of the same recipe may have been quicker.
            experiment = found.get_experiment_by_name(recipe_name)
            if experiment is None:
                raise
    if experiment.lifecycle_stage != "active":
        raise UserError(
            f"the MLflow experiment {recipe_name!r} was deleted; "
            f"bring it back with `mlflow experiments restore --experiment-id {experiment.experiment_id}`"
        )
    return str(experiment.experiment_id)


class StepLog:
    """Where a step's shell writes what happened."""

    def __init__(self, found: MlflowClient, parent_id: str, run_id: str) -> None:
        self._client = found
        self._parent_id = parent_id
        self.run_id = run_id

    @property
    def lineage(self) -> dict[str, str]:
        """Tags by which a version is traced to its runs."""
        return {PIPELINE_RUN: pipeline_run(), "parent_run": self._parent_id}

    def params(self, values: Mapping[str, Any]) -> None:
        """Log parameters; long ones are cut, and then all are kept whole as `params.json`."""
        texts = {name: value if isinstance(value, str) else json.dumps(value) for name, value in values.items()}
        entries = [Param(name, text[:MAX_PARAM_VAL_LENGTH]) for name, text in texts.items()]
        self._client.log_batch(self.run_id, params=entries)
        if any(len(text) > MAX_PARAM_VAL_LENGTH for text in texts.values()):
            self._client.log_dict(self.run_id, dict(values), "params.json")

    def metrics(self, values: Mapping[str, float], step: int = 0) -> None:
        """Log numbers."""
        _log_metrics(self._client, self.run_id, values, step)

    def epoch(self, values: Mapping[str, float]) -> None:
        """Log one epoch's figures; `epoch` is its number."""
        self.metrics({name: value for name, value in values.items() if name != "epoch"}, step=int(values["epoch"]))

    def tags(self, values: Mapping[str, str]) -> None:
        """Tag the step's run and the parent, so that both can be found by digest."""
        for run_id in (self.run_id, self._parent_id):
            _set_tags(self._client, run_id, values)

    def artifact(self, path: Path) -> None:
        """Keep a file or a folder's files with the step's run."""
        (self._client.log_artifacts if path.is_dir() else self._client.log_artifact)(self.run_id, str(path))

    def describe(self, words: str) -> None:
        """Say on the run's page what became of it."""
        _set_tags(self._client, self.run_id, {DESCRIPTION: words})

    def conclude(self, verdict: Mapping[str, Any], metrics: Mapping[str, float]) -> None:
        """Write the outcome on the parent's page: the verdict with its reasons, and every model's figures."""
        self._client.log_dict(self._parent_id, dict(verdict), "verdict.json")
        _log_metrics(self._client, self._parent_id, metrics, 0)
        words = "accepted" if verdict["accepted"] else "refused"
        self.tags({"verdict": words, "verdict.reasons": "; ".join(verdict["reasons"]) or "every clause held"})
        lines = [f"- {'✓' if clause['passed'] else '✗'} {clause['words']}" for clause in verdict["clauses"]]
        _set_tags(self._client, self._parent_id, {DESCRIPTION: "\n".join([f"**{words}**", "", *lines])})

    def report(self, path: Path, name: str) -> None:
        """Keep a file on the parent's page under a name."""
        with tempfile.TemporaryDirectory(prefix="potstill-") as scratch:
            copy = Path(scratch) / name
            copy.write_bytes(path.read_bytes())
            self._client.log_artifact(self._parent_id, str(copy))


def name_of(step: str, variant: str) -> str:
    """What a step is called where it may be done for several students."""
    return f"{step}-{variant}" if variant else step


@contextlib.contextmanager
def step(name: str, recipe_name: str, tags: Mapping[str, str]) -> Iterator[StepLog]:
    """Open a nested run for a step, and tell whoever follows the output what happens.

    Inside the block each printed line gets the step's name in front. Events are lines `::potstill {json}`. A
    `UserError` becomes an error event and exit code 2, without a traceback.
    """
    started = time.monotonic()
    _tell("start", name)
    log: StepLog | None = None
    try:
        found = client()
        parent_id = parent_run(found, recipe_name)
        log = StepLog(found, parent_id, _run_of_step(found, name, parent_id, recipe_name))
        log.tags(tags)
        with Spoken(name, sys.stdout) as spoken, contextlib.redirect_stdout(spoken):
            yield log
    except BaseException as error:
        if log:
            # What went wrong in the step is worth more than a tracker that fails after it.
            with contextlib.suppress(MlflowException):
                found.set_terminated(log.run_id, "FAILED")
        if isinstance(error, UserError):
            _tell("error", name, message=str(error), expected=True)
            sys.exit(EXIT_BAD_INPUT)
        _tell("error", name, message=f"{type(error).__name__}: {error}", expected=False)
        raise
    wall_s = round(time.monotonic() - started, 1)
    log.metrics({"wall_s": wall_s})
    found.set_terminated(log.run_id, "FINISHED")
    _tell("end", name, wall_s=wall_s)


def _run_of_step(found: MlflowClient, name: str, parent_id: str, recipe_name: str) -> str:
    """A step's own run: the adopted one, or a new one below the parent."""
    tags = {PARENT: parent_id, PIPELINE_RUN: pipeline_run(), "potstill.step": name, "recipe": recipe_name}
    if adopted := _adopted(found):
        _set_tags(found, adopted[0], tags)
        return adopted[0]
    experiment_id = found.get_run(parent_id).info.experiment_id
    return str(found.create_run(experiment_id, tags=tags, run_name=name).info.run_id)


@contextlib.contextmanager
def trial(recipe_name: str, number: int) -> Iterator[StepLog]:
    """Open a run for one trial of a search, nested in the search's own run."""
    found = client()
    parent_id = parent_run(found, recipe_name)
    tags = {PARENT: parent_id, PIPELINE_RUN: pipeline_run(), "potstill.step": "trial", "recipe": recipe_name}
    experiment_id = found.get_run(parent_id).info.experiment_id
    log = StepLog(found, parent_id, found.create_run(experiment_id, tags=tags, run_name=f"trial {number}").info.run_id)
    try:
        yield log
    except BaseException:
        with contextlib.suppress(MlflowException):
            found.set_terminated(log.run_id, "KILLED")
        raise
    found.set_terminated(log.run_id, "FINISHED")


def conclude(recipe_name: str, words: str, files: Sequence[Path] = (), status: str = "FINISHED") -> None:
    """End the parent run of what was no pipeline, with what it found or why it found nothing."""
    found = client()
    run_id = parent_run(found, recipe_name)
    _set_tags(found, run_id, {DESCRIPTION: words})
    for path in files:
        found.log_artifact(run_id, str(path))
    found.set_terminated(run_id, status)


def close(recipe_name: str, state: str) -> None:
    """End the parent run with the pipeline's final state. The verdict, if there is one, stands in its tags already."""
    found = client()
    run_id = parent_run(found, recipe_name)
    _set_tags(found, run_id, {"state": state})
    if "verdict" not in found.get_run(run_id).data.tags:
        _set_tags(found, run_id, {"verdict": "none", "verdict.reasons": f"the run ended as {state} before a verdict"})
    found.set_terminated(run_id, "FINISHED" if state in SUCCESS else "FAILED")


def _tell(event: str, step_name: str, **more: Any) -> None:
    print("::potstill " + json.dumps({"event": event, "step": step_name, **more}), flush=True)


def _set_tags(found: MlflowClient, run_id: str, values: Mapping[str, str]) -> None:
    found.log_batch(run_id, tags=[RunTag(key, value[:MAX_TAG_VAL_LENGTH]) for key, value in values.items()])


def _log_metrics(found: MlflowClient, run_id: str, values: Mapping[str, float], step_number: int) -> None:
    now = int(time.time() * 1000)
    entries = [Metric(key, float(value), now, step_number) for key, value in values.items()]
    found.log_batch(run_id, metrics=entries)


class Spoken(io.TextIOBase):
    """Puts a step's name in front of each line."""

    def __init__(self, name: str, target: Any) -> None:
        self._name = name
        self._target = target
        self._rest = ""

    def write(self, text: str) -> int:
        """Pass whole lines on."""
        *lines, self._rest = (self._rest + text).split("\n")
        for line in lines:
            self._target.write(f"{self._name} │ {line}\n")
        self._target.flush()
        return len(text)

    def close(self) -> None:
        """Pass the last line on, though it has no end."""
        if self._rest:
            self.write("\n")
        super().close()

"""Several processes teach one teacher as one would, and what only one of them may do only one does."""

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from safetensors.numpy import load_file

from potstill.errors import UserError
from potstill.learn import processes
from potstill.learn.model import Inputs
from potstill.learn.teachers import TAUGHT
from potstill.learn.trainer import Examples, Units
from potstill.metrics import Truth
from potstill.recipe import Data, Task, Teacher
from potstill.steps.ingest import ingest
from potstill.steps.teach import TOGETHER, teach
from potstill.store import Folder, folder_digest
from tests.conftest import reviews

MANIFEST = Path(__file__).parents[2] / "manifests" / "trainer" / "runtime.yaml"
# 192 rows to learn from are twelve batches of 16, so none is filled up; 150 that judge are three batches of up to 64.
TAUGHT_ROWS, JUDGED_ROWS = 192, 150
KNOBS = {"max_tokens": 16, "learning_rate": 5e-3, "batch_size": 16, "epochs": 3, "patience": 9}


@pytest.fixture(scope="module")
def still(tmp_path_factory: pytest.TempPathFactory, encoder: Path) -> Path:
    """The tiny encoder without dropout, which draws other units in each process."""
    folder = tmp_path_factory.mktemp("still")
    for path in encoder.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    config = json.loads((folder / "config.json").read_text())
    config |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data")
    rows, start, places = pa.table(reviews(TAUGHT_ROWS + JUDGED_ROWS + 12)), 0, {}
    for name, count in (("train", TAUGHT_ROWS), ("validation", JUDGED_ROWS), ("test", 12)):
        places[name] = str(root / f"{name}.parquet")
        pq.write_table(rows.slice(start, count), places[name])
        start += count
    ingest(Data(**places), {"task": Task(label="sentiment")}, root / "dataset")
    return root / "dataset"


def settings(encoder: Path, **knobs: object) -> Teacher:
    return Teacher.model_validate({"encoder": str(encoder), **KNOBS, **knobs})


def history(teacher: Path) -> list[dict[str, float]]:
    return json.loads((teacher / "history.json").read_text())


def weights(teacher: Path) -> dict[str, np.ndarray]:
    """All but the keys' biases: no softmax feels them, so rounding alone moves them, by Adam's whole rate."""
    files = [teacher / name for name in ("model.safetensors", "head.safetensors")]
    found = {name: weight for file in files for name, weight in load_file(file).items()}
    return {name: weight for name, weight in found.items() if not name.endswith("key.bias")}


def test_two_processes_make_the_teacher_of_one(
    dataset: Path, still: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
):
    alone, both = tmp_path / "alone" / "teacher", tmp_path / "both" / "teacher"
    told: list[dict[str, float]] = []
    # A low rate: rounding is not blown up to another answer.
    teach(dataset, settings(still, learning_rate=2e-3), alone)
    capfd.readouterr()
    figures = teach(dataset, settings(still, learning_rate=2e-3, processes=2), both, told.append)
    lines = capfd.readouterr().out.splitlines()

    # The same batches in the same order; only the order in which numbers are added is another.
    for one, two in zip(history(alone), history(both), strict=True):
        assert two == pytest.approx(one, abs=1e-3)
    first, second = weights(alone), weights(both)
    assert all(np.abs(first[name] - second[name]).mean() < 5e-4 for name in first)
    assert told == history(both)
    assert figures["validation_accuracy"] == told[int(figures["best_epoch"]) - 1]["validation_accuracy"]
    # One of them speaks and writes.
    assert [line.split(":")[0] for line in lines] == [
        "2 processes share each batch",
        *(f"epoch {i}/3" for i in (1, 2, 3)),
    ]
    assert [path.name for path in both.parent.iterdir()] == ["teacher"]
    assert {path.name for path in both.iterdir()} == {path.name for path in alone.iterdir()}
    assert pq.read_table(both / TAUGHT).equals(pq.read_table(alone / TAUGHT))


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@pytest.fixture(scope="module")
def on_two_machines(dataset: Path, encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """The teacher that the manifest's command makes, as Kubeflow Trainer runs it on two machines; what each said."""
    data = tmp_path_factory.mktemp("volume")
    (data / "dataset").symlink_to(dataset)
    recipe = {"name": "tiny", "data": {"source": "none", "text": "text"}, "tasks": {"task": {"label": "sentiment"}}}
    recipe |= {"teacher": {"encoder": str(encoder), **KNOBS}, "student": {"layers": 2}, "register": {"model": "tiny"}}
    (data / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    pod = yaml.safe_load(MANIFEST.read_text())["spec"]["template"]["spec"]["replicatedJobs"][0]["template"]
    command = pod["spec"]["template"]["spec"]["containers"][0]["command"]
    command = [part.replace("/data/", f"{data}/") for part in command]
    group = {"PET_NNODES": "2", "PET_NPROC_PER_NODE": "1", "PET_MASTER_ADDR": "127.0.0.1"}
    group |= {"PET_MASTER_PORT": str(free_port()), "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    machines = [
        subprocess.Popen(command, env={**os.environ, **group, "PET_NODE_RANK": rank}, stdout=subprocess.PIPE, text=True)
        for rank in ("0", "1")
    ]
    said = [machine.communicate(timeout=300)[0] for machine in machines]
    assert [machine.returncode for machine in machines] == [0, 0]
    assert not list((data / "checkpoints").iterdir())
    return data / "teacher", said


def test_the_command_of_the_manifest_teaches_on_two_machines_and_one_speaks(on_two_machines: tuple[Path, list[str]]):
    teacher, said = on_two_machines
    first, second = said
    assert [line.split(":")[0] for line in first.splitlines()[:3]] == [f"epoch {i}/3" for i in (1, 2, 3)]
    assert "validation_accuracy" in first.splitlines()[-1]
    assert not second
    assert len(history(teacher)) == 3


def test_a_killed_process_ends_the_others_and_all_go_on_from_the_last_whole_epoch(
    dataset: Path,
    encoder: Path,
    on_two_machines: tuple[Path, list[str]],
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
):
    def kill_one(figures: dict[str, float]) -> None:
        if figures["epoch"] == 2:
            own = [one for one in psutil.Process().children(recursive=True) if one.cmdline()[-2] == TOGETHER]
            own[-1].send_signal(signal.SIGKILL)

    given = dataset, settings(encoder, processes=2), tmp_path / "teacher"
    with pytest.raises(RuntimeError, match="2 processes ended with code"):
        teach(*given, kill_one, checkpoints=Folder(tmp_path / "kept"))
    assert not (tmp_path / "teacher").exists()
    capfd.readouterr()
    told: list[dict[str, float]] = []
    teach(*given, told.append, checkpoints=Folder(tmp_path / "kept"))
    assert "going on after epoch 1, which an earlier run reached" in capfd.readouterr().out
    # All random states were kept: dropout goes on in each process as it would have.
    assert folder_digest(tmp_path / "teacher") == folder_digest(on_two_machines[0])
    assert told == history(tmp_path / "teacher")
    assert not list((tmp_path / "kept").iterdir())


def test_a_users_mistake_is_told_once_and_without_a_traceback(
    dataset: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
):
    with pytest.raises(UserError, match=r"teacher\.encoder: .*nowhere"):
        teach(dataset, settings(tmp_path / "nowhere", processes=2), tmp_path / "teacher")
    assert not capfd.readouterr().err
    assert not (tmp_path / "teacher").exists()


def test_a_batch_that_does_not_divide_is_the_nearest_that_does():
    units = Units(Examples(Inputs([[1, 2]] * 100), Truth(np.zeros(100))), whole_groups=False)
    assert [units.in_a_batch(32, shares) for shares in (1, 2, 3, 5, 64)] == [32, 32, 33, 30, 64]


def test_a_recipe_says_how_many_and_silence_means_one_for_each_gpu():
    assert processes.wanted(3) == 3
    assert processes.wanted(None) == max(1, torch.cuda.device_count())

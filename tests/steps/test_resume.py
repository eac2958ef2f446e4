"""A killed step goes on where it was, and ends with the same folder."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from potstill.recipe import Distill, Student
from potstill.steps.control import control
from potstill.steps.distill import distill
from potstill.steps.teach import teach
from potstill.store import Folder, folder_digest
from tests.steps.conftest import QUICK, Line

# A step in a process of its own, which ends itself as `kill -9` would, once it has told of so many epochs.
STEP = """
import os, signal, sys
from pathlib import Path
from potstill.recipe import Teacher
from potstill.steps.teach import teach
from potstill.store import Folder
dataset, settings, teacher, checkpoints, epochs = sys.argv[1:]
told = []
def on_epoch(figures):
    told.append(figures)
    if len(told) == int(epochs):
        os.kill(os.getpid(), signal.SIGKILL)
kept = Folder(Path(checkpoints))
teach(Path(dataset), Teacher.model_validate_json(settings), Path(teacher), on_epoch, checkpoints=kept)
"""


class KilledError(Exception):
    """What a kill is to the code that it ends."""


def killed_after(epochs: int) -> Callable[[object], None]:
    told: list[object] = []

    def on_epoch(figures: object) -> None:
        told.append(figures)
        if len(told) == epochs:
            raise KilledError

    return on_epoch


def test_a_teacher_whose_process_was_killed_goes_on(line: Line, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    kept, teacher = tmp_path / "checkpoints", tmp_path / "teacher"
    arguments = [str(line.dataset), line.settings.model_dump_json(), str(teacher), str(kept), "4"]
    done = subprocess.run([sys.executable, "-c", STEP, *arguments], check=False, capture_output=True, env=os.environ)
    assert done.returncode == -signal.SIGKILL
    assert not teacher.exists()
    teach(line.dataset, line.settings, teacher, checkpoints=Folder(kept))
    assert "going on after epoch 3, which an earlier run reached" in capsys.readouterr().out
    assert folder_digest(teacher) == folder_digest(line.teacher)
    assert not list(kept.iterdir())


def test_teachers_that_were_done_are_not_taught_again(line: Line, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    knobs = line.settings.model_dump() | {"epochs": 2, "others": [{"seed": 8}]}
    settings = type(line.settings).model_validate(knobs)
    whole = tmp_path / "whole"
    teach(line.dataset, settings, whole, cross_fit=2)
    kept, killed = tmp_path / "checkpoints", tmp_path / "killed"
    (tmp_path / "killed").touch()
    with pytest.raises(NotADirectoryError):
        # The last thing it does, to take its name, fails.
        teach(line.dataset, settings, killed, cross_fit=2, checkpoints=Folder(kept))
    killed.unlink()
    capsys.readouterr()
    teach(line.dataset, settings, killed, cross_fit=2, checkpoints=Folder(kept))
    # The first and the other, of all rows and of both folds.
    assert capsys.readouterr().out.count("going on after epoch 2") == 6
    assert folder_digest(killed) == folder_digest(whole)


def test_a_student_goes_on(line: Line, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    knobs = Distill.model_validate(QUICK)
    given = line.dataset, line.teacher, line.signals, Student(layers=2), knobs
    with pytest.raises(KilledError):
        distill(*given, tmp_path / "student", killed_after(3), Folder(tmp_path / "checkpoints"))
    distill(*given, tmp_path / "student", checkpoints=Folder(tmp_path / "checkpoints"))
    assert "going on after epoch 2" in capsys.readouterr().out
    assert folder_digest(tmp_path / "student") == folder_digest(line.student)


def test_another_temperature_begins_anew(line: Line, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    given = line.dataset, line.teacher, line.signals, Student(layers=2)
    with pytest.raises(KilledError):
        distill(
            *given,
            Distill.model_validate(QUICK),
            tmp_path / "student",
            killed_after(3),
            Folder(tmp_path / "checkpoints"),
        )
    other = Distill.model_validate(QUICK | {"temperature": 4, "epochs": 2})
    distill(*given, other, tmp_path / "student", checkpoints=Folder(tmp_path / "checkpoints"))
    assert "going on" not in capsys.readouterr().out


def test_a_fine_tuning_goes_on_by_itself(line: Line, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    # Distillation that changes no weight leaves both trainings with the same first ones.
    still = {"epochs": 1, "learning_rate": 1e-12, "weight_decay": 0, "fine_tune": {"epochs": 4, "learning_rate": 1e-2}}
    form, knobs = Student(encoder=line.settings.encoder), Distill.model_validate(QUICK | still)
    given = line.dataset, line.teacher, line.signals, form, knobs
    distill(*given, tmp_path / "whole")
    distill(*given, tmp_path / "kept", checkpoints=Folder(tmp_path / "checkpoints"))
    assert folder_digest(tmp_path / "kept") == folder_digest(tmp_path / "whole")
    with pytest.raises(KilledError):
        distill(*given, tmp_path / "student", killed_after(4), Folder(tmp_path / "checkpoints"))
    capsys.readouterr()
    distill(*given, tmp_path / "student", checkpoints=Folder(tmp_path / "checkpoints"))
    told = capsys.readouterr().out
    assert "going on after epoch 1," in told
    assert "going on after epoch 2," in told
    assert folder_digest(tmp_path / "student") == folder_digest(tmp_path / "whole")


def test_a_pruned_student_goes_on(line: Line, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    form = Student.model_validate({"layers": 2, "prune": {"feed_forward": 0.5, "epochs": 4, "learning_rate": 1e-2}})
    given = line.dataset, line.teacher, line.signals, form, Distill.model_validate(QUICK | {"epochs": 1})
    distill(*given, tmp_path / "whole")
    with pytest.raises(KilledError):
        distill(*given, tmp_path / "student", killed_after(4), Folder(tmp_path / "checkpoints"))
    capsys.readouterr()
    distill(*given, tmp_path / "student", checkpoints=Folder(tmp_path / "checkpoints"))
    told = capsys.readouterr().out
    assert "going on after epoch 1," in told
    assert "going on after epoch 2," in told
    assert folder_digest(tmp_path / "student") == folder_digest(tmp_path / "whole")


def test_a_control_goes_on(line: Line, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    given = line.dataset, line.settings, Student(layers=2), Distill.model_validate(QUICK)
    with pytest.raises(KilledError):
        control(*given, tmp_path / "control", killed_after(3), Folder(tmp_path / "checkpoints"))
    control(*given, tmp_path / "control", checkpoints=Folder(tmp_path / "checkpoints"))
    assert "going on after epoch 2" in capsys.readouterr().out
    assert folder_digest(tmp_path / "control") == folder_digest(line.control)

"""A training that was killed goes on, and ends as if it had not been."""

import shutil
from pathlib import Path

import pytest
import torch

from potstill.learn import checkpoint
from potstill.learn.checkpoint import SEAL, ResumableTrainer, last_whole, unfinished
from potstill.learn.model import Head, Inputs, TaskModel, encode_texts, load_encoder
from potstill.learn.objective import hard_loss
from potstill.learn.trainer import Epoch, Examples, train
from potstill.metrics import Truth
from potstill.outcomes import Classification
from potstill.recipe import Training
from potstill.store import Folder
from tests.conftest import reviews

HEAD = Head("sentiment", Classification(("negative", "positive")), "mean", 16)


class KilledError(Exception):
    """What a kill is to the code that it ends."""


class School:
    """A small training, which may be killed after an epoch."""

    def __init__(self, encoder: Path, **knobs: object) -> None:
        made = reviews(120)
        self.encoder = str(encoder)
        ids = encode_texts(load_encoder(self.encoder)[1], made["text"], 16).ids
        labels = HEAD.outcome.encode(made["sentiment"])
        self.taught = Examples(Inputs(ids[:90]), Truth(labels[:90]))
        self.judged = Examples(Inputs(ids[90:]), Truth(labels[90:]))
        known = {"epochs": 4, "learning_rate": 1e-3, "batch_size": 16, "patience": 9, "head_learning_rate": 2e-3}
        self.settings = Training.model_validate(known | knobs)
        self.told: list[int] = []

    def train(self, checkpoints: Path | None, killed_after: int = 0) -> tuple[dict[str, torch.Tensor], list[Epoch]]:
        self.told = []

        def on_epoch(figures: object) -> None:
            self.told.append(figures["epoch"])  # type: ignore[index]
            if self.told[-1] == killed_after:
                raise KilledError

        model, epochs = train(
            lambda: (TaskModel(load_encoder(self.encoder)[0], HEAD), hard_loss(self.settings, HEAD.outcome)),
            self.taught,
            self.judged,
            self.settings,
            pad_token_id=0,
            on_epoch=on_epoch,
            checkpoints=checkpoints,
        )
        return dict(model.state_dict()), epochs


def same(
    first: tuple[dict[str, torch.Tensor], list[Epoch]], second: tuple[dict[str, torch.Tensor], list[Epoch]]
) -> None:
    assert first[1] == second[1]
    assert all(torch.equal(first[0][name], second[0][name]) for name in first[0])


@pytest.fixture
def school(encoder: Path) -> School:
    return School(encoder)


@pytest.mark.parametrize("epoch", [1, 2, 4])
def test_it_ends_with_the_weights_and_figures_of_an_unbroken_one(
    school: School, tmp_path: Path, capsys: pytest.CaptureFixture[str], epoch: int
):
    unbroken = school.train(None)
    with pytest.raises(KilledError):
        school.train(tmp_path, killed_after=epoch)
    capsys.readouterr()
    torch.manual_seed(99)
    same(school.train(tmp_path), unbroken)
    # Of the epoch in which it was killed nothing is left; all are told, those from before too.
    assert (f"going on after epoch {epoch - 1}" in capsys.readouterr().out) == (epoch > 1)
    assert school.told == [1, 2, 3, 4]


def test_it_may_be_killed_more_than_once(school: School, tmp_path: Path):
    unbroken = school.train(None)
    for epoch in (2, 3):
        with pytest.raises(KilledError):
            school.train(tmp_path, killed_after=epoch)
    same(school.train(tmp_path), unbroken)


def test_a_checkpoint_that_was_not_finished_does_not_count(
    school: School, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    unbroken = school.train(None)
    sealed = []

    def seal(path: Path, text: str) -> None:
        sealed.append(path)
        if len(sealed) == 3:
            raise KilledError
        path.write_text(text)

    with monkeypatch.context() as patched, pytest.raises(KilledError):
        patched.setattr(checkpoint, "write_text", seal)
        school.train(tmp_path)
    (folder,) = tmp_path.iterdir()
    assert not sealed[-1].exists()
    last = last_whole(folder)
    assert last is not None
    assert last == sealed[1].parent
    same(school.train(tmp_path), unbroken)


def test_a_damaged_checkpoint_does_not_count(school: School, tmp_path: Path):
    unbroken = school.train(None)
    with pytest.raises(KilledError):
        school.train(tmp_path, killed_after=3)
    (folder,) = tmp_path.iterdir()
    for weights in folder.glob("*/model.safetensors"):
        content = bytearray(weights.read_bytes())
        content[-1] ^= 1
        weights.write_bytes(content)
    assert last_whole(folder) is None
    same(school.train(tmp_path), unbroken)


def test_one_that_had_stopped_early_does_not_learn_more(encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    school = School(encoder, epochs=30, patience=1, learning_rate=2e-2)
    unbroken = school.train(None)
    assert len(unbroken[1]) < 30

    def killed(_: object) -> None:
        raise KilledError

    with monkeypatch.context() as patched, pytest.raises(KilledError):
        patched.setattr(ResumableTrainer, "_load_best_model", killed)
        school.train(tmp_path)
    same(school.train(tmp_path), unbroken)


def test_checkpoints_may_move_to_another_place(school: School, tmp_path: Path):
    unbroken = school.train(None)
    with pytest.raises(KilledError):
        school.train(tmp_path / "here", killed_after=4)
    shutil.move(tmp_path / "here", tmp_path / "there")
    same(school.train(tmp_path / "there"), unbroken)


def test_only_the_last_and_the_best_are_kept_and_nothing_is_pickled(school: School, tmp_path: Path):
    school.train(tmp_path)
    (folder,) = tmp_path.iterdir()
    assert len(list(folder.iterdir())) <= 2
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert {path.suffix for path in files} == {".json", ".safetensors"}
    assert sum(path.name == SEAL for path in files) == len(list(folder.iterdir()))


def test_a_checkpoint_written_again_over_a_damaged_one_is_whole(school: School, tmp_path: Path):
    with pytest.raises(KilledError):
        school.train(tmp_path, killed_after=3)
    (folder,) = tmp_path.iterdir()
    last = last_whole(folder)
    assert last is not None
    (last / "random-0.json").write_text("{}")
    with pytest.raises(KilledError):
        school.train(tmp_path, killed_after=3)
    assert last_whole(folder) == last


def test_two_at_the_same_training_do_not_share_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    with unfinished(Folder(tmp_path), "teach", 1) as first:
        assert first is not None
        first.mkdir(exist_ok=True)
        with unfinished(Folder(tmp_path), "teach", 1) as second:
            assert second is None
        assert "another process is at the same training" in capsys.readouterr().out
        assert first.exists()
    assert not first.exists()


def test_a_best_epoch_that_was_removed_is_told(school: School, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    exact = ResumableTrainer._load_best_model

    def removed(self: ResumableTrainer) -> None:
        shutil.rmtree(self.args.output_dir)
        exact(self)

    monkeypatch.setattr(ResumableTrainer, "_load_best_model", removed)
    with pytest.raises(RuntimeError, match="were removed while others were learnt"):
        school.train(tmp_path)


def test_other_first_weights_begin_anew(school: School, encoder: Path, tmp_path: Path):
    with pytest.raises(KilledError):
        school.train(tmp_path, killed_after=3)
    other = School(encoder, seed=8)
    same(other.train(tmp_path), other.train(None))


def test_what_is_unfinished_is_found_by_what_decides_it_and_goes_when_it_is_done(tmp_path: Path):
    with pytest.raises(KilledError), unfinished(Folder(tmp_path), "teach", 1) as first:
        assert first is not None
        first.mkdir(exist_ok=True)
        raise KilledError
    with unfinished(Folder(tmp_path), "teach", 2) as other:
        assert other != first
    with unfinished(Folder(tmp_path), "teach", 1) as again:
        assert again == first
        assert again.exists()
    assert not first.exists()
    with unfinished(None, "teach", 1) as nowhere:
        assert nowhere is None

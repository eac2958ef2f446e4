import io
import itertools
import json
import threading
from pathlib import Path

import pytest
from kfp import dsl
from kfp.local.orchestrator import enhanced_dag_orchestrator
from kfp.local.status import Status
from rich.console import Console

from potstill.follow import Follower
from potstill.local.cache import DigestCache
from potstill.local.run import _point_latest, _stopping_at_once
from potstill.shelves import point_to
from potstill.store import Folder


def follower() -> tuple[Follower, io.StringIO, io.StringIO]:
    log, screen = io.StringIO(), io.StringIO()
    return Follower(log, Console(file=screen, width=100)), log, screen


def event(**values: object) -> str:
    return f"    ::potstill {json.dumps(values)}\n"


def test_people_see_what_steps_say_and_the_log_keeps_all():
    followed, log, screen = follower()
    text = event(event="start", step="teach") + "noise of a library\n    teach │ epoch 1/3: loss 0.5\n"
    for i in range(0, len(text), 7):
        followed.write(text[i : i + 7])
    assert screen.getvalue() == "teach     epoch 1/3: loss 0.5\n"
    assert log.getvalue() == text


def test_steps_are_followed_from_start_to_end():
    followed, _, screen = follower()
    followed.write(event(event="start", step="teach"))
    assert followed.steps["teach"].status == "running"
    followed.write(event(event="end", step="teach", wall_s=65.2))
    assert (followed.steps["teach"].status, followed.steps["teach"].wall_s) == ("succeeded", 65.2)
    assert "done in 1 min 05 s" in screen.getvalue()


def test_the_first_error_is_kept_with_its_step():
    followed, _, _ = follower()
    followed.write(event(event="start", step="ingest"))
    followed.write(event(event="error", step="ingest", message="rows.csv: no column 'text'", expected=True))
    assert followed.steps["ingest"].status == "failed"
    assert (followed.error, followed.expected) == ("ingest: rows.csv: no column 'text'", True)


def test_brackets_in_what_a_step_says_are_text_and_not_markup():
    followed, _, screen = follower()
    followed.write("ingest │ unknown label '[red]sale[/red]'\n")
    assert "'[red]sale[/red]'" in screen.getvalue()


def test_lines_of_steps_side_by_side_are_not_mixed_up():
    followed, log, _ = follower()
    lines = {step: [f"{step} │ line {i}" for i in range(50)] for step in ("distill-1-layer", "distill-2-layers")}
    together = threading.Barrier(len(lines))

    def speak(step: str) -> None:
        for line in lines[step]:
            for piece in (event(event="start", step=step), line[:9], line[9:], "\n"):
                together.wait()
                followed.write(piece)

    threads = [threading.Thread(target=speak, args=(step,)) for step in lines]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = log.getvalue().splitlines()
    assert sorted(line for line in found if "│" in line) == sorted(itertools.chain(*lines.values()))
    assert set(followed.steps) == set(lines)


@pytest.fixture
def cache(tmp_path: Path) -> DigestCache:
    return DigestCache(str(tmp_path / "cache"), follower()[0])


def key(cache: DigestCache, artifact: dsl.Artifact, **arguments: object) -> str:
    return cache.compute_key("comp-teach", "image", ["python"], {"dataset": artifact, **arguments})


def dataset(uri: str, **metadata: str) -> dsl.Dataset:
    return dsl.Dataset(name="dataset", uri=uri, metadata=metadata)


def test_equal_contents_in_another_place_are_the_same_to_the_cache(cache: DigestCache):
    first = key(cache, dataset("/runs/1/dataset", digest="abc", mlflow_run_id="1"))
    assert key(cache, dataset("/runs/2/dataset", digest="abc", mlflow_run_id="2")) == first


def test_other_contents_or_another_argument_are_not(cache: DigestCache):
    first = key(cache, dataset("/runs/1/dataset", digest="abc"), epochs=3)
    assert key(cache, dataset("/runs/1/dataset", digest="abd"), epochs=3) != first
    assert key(cache, dataset("/runs/1/dataset", digest="abc"), epochs=4) != first


def test_several_artifacts_at_once_are_known_by_their_contents_too(cache: DigestCache):
    def key_of(*places: str, digest: str = "b") -> str:
        artifacts = [dataset(places[0], digest="a"), dataset(places[1], digest=digest)]
        return cache.compute_key("comp-choose", "image", ["python"], {"students": artifacts})

    assert key_of("/runs/1/a", "/runs/1/b") == key_of("/runs/2/a", "/runs/2/b")
    assert key_of("/runs/1/a", "/runs/1/b") != key_of("/runs/1/a", "/runs/1/b", digest="c")


def test_a_reused_step_is_called_as_it_was_when_it_ran(cache: DigestCache, tmp_path: Path):
    for component, variant, name in (
        ("comp-distill", "", "distill"),
        ("comp-distill-2", "first", "distill-first"),
        ("comp-distill", "2-layers-pruned", "distill-2-layers-pruned"),
    ):
        asked = cache.compute_key(component, "image", ["python"], {"variant": variant})
        cache.put(asked, {"Output": "digest"})
        assert cache.get(asked) is not None
        assert name in cache._follower.steps


def test_without_a_digest_the_place_counts(cache: DigestCache):
    assert key(cache, dataset("/runs/1/dataset")) != key(cache, dataset("/runs/2/dataset"))


def test_a_result_whose_files_are_gone_is_made_again(cache: DigestCache, tmp_path: Path):
    (tmp_path / "teacher").mkdir()
    name = key(cache, dataset("/runs/1/dataset", digest="abc"))
    cache.put(name, {"teacher": dsl.Model(name="teacher", uri=str(tmp_path / "teacher"))})
    assert cache.get(name) is not None
    (tmp_path / "teacher").rmdir()
    assert cache.get(name) is None


def test_a_result_that_lies_elsewhere_and_is_gone_is_made_again(cache: DigestCache, tmp_path: Path):
    table, signals = tmp_path / "store", tmp_path / "signals"
    table.mkdir()
    signals.mkdir()
    (table / "manifest.json").write_text("{}", encoding="utf-8")
    point_to(Folder(table), "manifest.json", signals)
    name = key(cache, dataset("/runs/1/dataset", digest="abc"))
    cache.put(name, {"signals": dsl.Artifact(name="signals", uri=str(signals)), "Output": "digest"})
    assert cache.get(name) is not None
    (table / "manifest.json").unlink()
    assert cache.get(name) is None


def test_latest_moves_to_the_newest_run(tmp_path: Path):
    for name in ("run-1", "run-2"):
        (tmp_path / name).mkdir()
        _point_latest(tmp_path, tmp_path / name)
    assert (tmp_path / "latest").resolve() == tmp_path / "run-2"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["latest", "run-1", "run-2"]


STEPS = ["ingest", "teach", "control", "for-loop-2-iteration-1", "close"]


def begun(monkeypatch: pytest.MonkeyPatch, followed: Follower, failing: str = "") -> list[str]:
    """Which steps kfp begins of those that it tries to, after one that fails."""
    asked: list[str] = []
    ended: list[bool] = []

    def execute(task_name: str) -> tuple[dict[str, str], Status]:
        asked.append(task_name)
        return {}, Status.FAILURE if task_name == failing else Status.SUCCESS

    monkeypatch.setattr(enhanced_dag_orchestrator, "execute_task", execute)
    with _stopping_at_once(followed, lambda: ended.append(True)):
        found = [enhanced_dag_orchestrator.execute_task(task_name=name)[1] for name in STEPS]
    ran = [name for name, status in zip(STEPS, found, strict=True) if status == Status.SUCCESS]
    assert ran == [name for name in asked if name != failing]
    assert len(ended) == (failing != "")
    return asked


def test_once_a_step_has_failed_nothing_more_begins_but_the_run_is_closed(monkeypatch: pytest.MonkeyPatch):
    assert begun(monkeypatch, follower()[0]) == STEPS
    assert begun(monkeypatch, follower()[0], failing="teach") == ["ingest", "teach", "close"]


def test_once_a_step_beside_it_has_told_an_error_a_loop_begins_no_other_turn(monkeypatch: pytest.MonkeyPatch):
    followed = follower()[0]
    followed.error = "distill: odd"
    assert begun(monkeypatch, followed) == ["close"]

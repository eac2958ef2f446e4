"""Of those that race for the champion one wins, and what a killed process began can be ended, by real processes."""

import json
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from tiny import MODEL, Bench, bare_versions, fresh_mlflow

from potstill import moves
from potstill.errors import UserError
from potstill.moves import CLAIM_ENDING, LostRaceError, look, move, release
from potstill.promotion import history, promote, rollback

RACERS, ROUNDS = 6, 12
KILLED_AT = ("set_registered_model_alias", "set_registered_model_tag", "delete_registered_model")


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    uri = fresh_mlflow(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    return Bench(tmp_path, uri)


def python(script: str, *arguments: str) -> str:
    command = [sys.executable, "-c", textwrap.dedent(script), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_of_many_processes_that_race_one_wins_each_round_and_the_history_holds_each_move_once(bench: Bench):
    bench.bare(RACERS)
    script = """
        import json, multiprocessing, os, sys
        from potstill import tracking
        from potstill.moves import LostRaceError, look, move

        def race(number, model, rounds, start, results):
            found = tracking.client()
            for turn in range(rounds):
                start.wait()
                seen = look(found, model)
                start.wait()
                try:
                    move(found, seen, str(number), "promotion", f"{turn} {number}")
                    results.put((turn, number, "won"))
                except LostRaceError as error:
                    results.put((turn, number, str(error)))

        model, racers, rounds = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
        fork = multiprocessing.get_context("fork")
        start, results = fork.Barrier(racers), fork.Queue()
        whole = [(n + 1, model, rounds, start, results) for n in range(racers)]
        # None outlives the others.
        several = [fork.Process(target=race, args=one, daemon=True) for one in whole]
        for one in several:
            one.start()
        told = [results.get(timeout=60) for _ in range(racers * rounds)]
        for one in several:
            one.join()
        print(json.dumps(told))
    """
    told = json.loads(python(script, MODEL, str(RACERS), str(ROUNDS)).splitlines()[-1])
    winners = [[n for turn, n, said in told if (turn, said) == (number, "won")] for number in range(ROUNDS)]
    assert [len(found) for found in winners] == [1] * ROUNDS
    assert all(said == "won" or said.startswith(f"{MODEL}: ") for _, _, said in told)
    kept = history(MODEL)
    assert [made.why for made in kept] == [f"{turn} {found[0]}" for turn, found in enumerate(winners)]
    assert [made.before for made in kept[1:]] == [made.to for made in kept[:-1]]
    assert bench.aliases() == {"champion": str(winners[-1][0])}
    assert [entry.name for entry in bench.client.search_registered_models()] == [MODEL]


def test_a_champion_that_went_away_and_came_back_is_not_the_one_that_was_seen(bench: Bench):
    bench.bare(3)
    for version in "12":
        promote(MODEL, version, "newer")
    seen = look(bench.client, MODEL)
    rollback(MODEL, "there")
    promote(MODEL, "2", "and back")
    with pytest.raises(
        LostRaceError, match=r"has moved the champion meanwhile \(and back\); look at `potstill history`"
    ):
        move(bench.client, seen, "3", "promotion", "mine")
    assert bench.aliases() == {"champion": "2"}
    assert len(history(MODEL)) == 4


def test_a_move_by_hand_meanwhile_is_not_overwritten(bench: Bench):
    bench.bare(3)
    promote(MODEL, "1", "the first")
    seen = look(bench.client, MODEL)
    bench.alias("champion", 3)
    with pytest.raises(LostRaceError, match="the champion is version 3 by now, not 1"):
        move(bench.client, seen, "2", "promotion", "mine")
    assert bench.aliases() == {"champion": "3"}
    assert len(history(MODEL)) == 1
    assert not [entry for entry in bench.client.search_registered_models() if moves.is_claim(entry.name)]


def test_who_was_too_slow_moves_nothing(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    bench.bare(2)
    monkeypatch.setattr(moves, "LEASE_S", -1)
    with pytest.raises(LostRaceError, match="too slow for a safe move; nothing was moved"):
        promote(MODEL, "1", "the first")
    monkeypatch.undo()
    assert bench.aliases() == {}
    assert look(bench.client, MODEL).moves == ()


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """A model each for three processes that were killed while they moved its champion from version 1 to 2."""
    folder = tmp_path_factory.mktemp("killed")
    bench = Bench(folder, fresh_mlflow(folder))
    for name in KILLED_AT:
        bare_versions(bench.client, bench.experiment, name, 3)
    script = """
        import os, signal, sys
        from mlflow import MlflowClient
        from potstill.promotion import promote

        for name in sys.argv[1:]:
            if os.fork() == 0:
                promote(name, "1", "the first")
                setattr(MlflowClient, name, lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL))
                promote(name, "2", "newer")
            assert os.wait()[1] == signal.SIGKILL
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", bench.client.tracking_uri)
        patch.setenv("MLFLOW_TRACKING_USERNAME", "nightly")
        python(script, *KILLED_AT)
    return bench


@pytest.mark.parametrize("name", KILLED_AT)
def test_what_a_killed_process_began_is_found_named_and_ended(
    killed: Bench, name: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", killed.client.tracking_uri)
    moved = name != "set_registered_model_alias"
    before = look(killed.client, name)
    assert before.champion == ("2" if moved else "1")
    words = rf"{name}: nightly \(process \d+ on \S+\) began \d+ s ago to move the champion to version 2; "
    with pytest.raises(UserError, match=words):
        promote(name, "3", "newest", force=True)
    with pytest.raises(UserError, match=words + r"wait \d+ s more before it may be released"):
        release(killed.client, name)
    assert look(killed.client, name) == before
    later = time.time() + moves.RELEASE_AFTER_S
    with monkeypatch.context() as patch:
        patch.setattr(time, "time", lambda: later)
        with pytest.raises(UserError, match=words + "if that process is dead, --release-claim ends what it began"):
            promote(name, "3", "newest", force=True)
        said = release(killed.client, name)
        assert release(killed.client, name) == f"{name}: nobody has a claim"
    assert said.endswith("that move was made and is recorded now" if moved else "it was not made")
    assert [made.to for made in history(name)] == (["1", "2"] if moved else ["1"])
    assert promote(name, "3", "newest", force=True).before == ("2" if moved else "1")


def test_a_model_that_stands_in_a_claims_place_is_told_and_goes(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    bench.bare(1)
    bench.client.create_registered_model(MODEL + CLAIM_ENDING)
    with pytest.raises(UserError, match="the registered model 'reviews is being moved' stands in the way"):
        promote(MODEL, "1", "the first")
    monkeypatch.setattr(moves, "RELEASE_AFTER_S", 0)
    release(bench.client, MODEL)
    assert promote(MODEL, "1", "the first").to == "1"

"""Who becomes champion, by a person's word or approval, what the history keeps, and the way back."""

import getpass
import json
from pathlib import Path

import pytest
from tiny import MODEL, Bench, fresh_mlflow, write_edge

from potstill import moves, registry
from potstill.errors import UserError
from potstill.promotion import history, promote, promote_approved, rollback


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    uri = fresh_mlflow(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    return Bench(tmp_path, uri)


def path() -> list[tuple[str | None, str | None, str]]:
    return [(move.before, move.to, move.kind) for move in history(MODEL)]


def test_a_promotion_moves_the_champion_and_records_who_when_why_and_from_which_run(bench: Bench):
    bench.bare(2)
    promote(MODEL, "1", "the first")
    move = promote(MODEL, "2", "better on the spring catalogue")
    assert (move.before, move.to, move.who, move.why) == (
        "1",
        "2",
        getpass.getuser(),
        "better on the spring catalogue",
    )
    assert (move.kind, move.run) == ("promotion", "run-2")
    assert move.when.endswith("+00:00")
    assert bench.aliases() == {"champion": "2"}
    assert history(MODEL)[-1] == move


def test_promote_without_a_version_takes_the_challenger(bench: Bench):
    bench.bare(2)
    promote(MODEL, "1", "the first")
    bench.alias("challenger", 2)
    promote(MODEL, None, "time to change")
    assert bench.aliases() == {"champion": "2"}
    with pytest.raises(UserError, match="has no challenger; name a version: 1, 2"):
        promote(MODEL, None, "again")


def test_promoting_the_champion_or_an_unknown_version_is_refused(bench: Bench):
    bench.bare(1)
    promote(MODEL, "1", "the first")
    with pytest.raises(UserError, match="version 1 is the champion already"):
        promote(MODEL, "1", "again")
    with pytest.raises(UserError, match="no version 9; there is 1"):
        promote(MODEL, "9", "a slip")
    with pytest.raises(UserError, match="did you mean reviews"):
        promote("revews", "1", "a slip")
    assert len(history(MODEL)) == 1


def test_a_version_that_was_judged_against_another_champion_needs_force_and_a_reason(bench: Bench):
    bench.bare(4)
    for version in "12":
        promote(MODEL, version, "newer")
    with pytest.raises(
        UserError, match="version 4 was judged against version 3, but the champion is version 2 now; run"
    ):
        promote(MODEL, "4", "a slip")
    with pytest.raises(UserError, match=r"version 1 was judged against version none, .* roll back to it"):
        promote(MODEL, "1", "a slip")
    assert promote(MODEL, "3", "newer").kind == "promotion"
    assert promote(MODEL, "1", "3 is broken and 2 is gone", force=True).kind == "forced promotion"
    assert history(MODEL)[-1].why == "3 is broken and 2 is gone"


def test_a_version_that_nobody_judged_needs_force(bench: Bench):
    bench.bare(1)
    bench.client.delete_model_version_tag(MODEL, "1", "judged_against")
    with pytest.raises(UserError, match="version 1 was never judged"):
        promote(MODEL, "1", "a slip")
    assert promote(MODEL, "1", "an emergency", force=True).kind == "forced promotion"


def test_rollbacks_go_further_and_further_back_until_there_is_nothing(bench: Bench):
    bench.bare(3)
    for version in "123":
        promote(MODEL, version, "newer")
    assert rollback(MODEL, "complaints").to == "2"
    assert rollback(MODEL, "more complaints").to == "1"
    with pytest.raises(UserError, match="no earlier champion"):
        rollback(MODEL, "yet more")
    assert bench.aliases() == {"champion": "1"}
    assert [move.to for move in history(MODEL)] == ["1", "2", "3", "2", "1"]


def test_a_rollback_after_a_rollback_and_a_promotion_goes_to_what_served_before(bench: Bench):
    bench.bare(3)
    for version in "12":
        promote(MODEL, version, "newer")
    rollback(MODEL, "complaints")
    bench.tag(3, judged_against="1")
    promote(MODEL, "3", "mended")
    assert rollback(MODEL, "complaints again").to == "1"


def test_rollback_finds_its_way_after_moves_and_deletions_made_elsewhere(bench: Bench):
    bench.bare(4)
    for version in "123":
        promote(MODEL, version, "newer")
    bench.alias("champion", 4)
    bench.client.delete_model_version(MODEL, "3")
    assert rollback(MODEL, "moved by hand").to == "2"
    assert rollback(MODEL, "further").to == "1"


def test_a_rollback_by_hand_counts_as_one(bench: Bench):
    bench.bare(3)
    for version in "123":
        promote(MODEL, version, "newer")
    bench.alias("champion", 2)
    assert rollback(MODEL, "worse still").to == "1"


def test_rollback_without_any_champion_is_refused(bench: Bench):
    bench.bare(1)
    with pytest.raises(UserError, match="no earlier champion"):
        rollback(MODEL, "a slip")


def test_a_move_by_hand_is_recorded_at_the_next_occasion(bench: Bench):
    bench.bare(4)
    promote(MODEL, "1", "the first")
    bench.alias("champion", 3)
    assert promote_approved(MODEL, "nightly") == "reviews: nothing to do, no version is approved"
    assert path() == [(None, "1", "promotion"), ("1", "3", "by hand")]
    found = history(MODEL)[-1]
    assert (found.who, found.why, found.run) == ("unknown", "by hand in MLflow, noticed now", "run-3")
    bench.client.delete_registered_model_alias(MODEL, "champion")
    bench.tag(4, judged_against="none")
    promote(MODEL, "4", "there is none")
    assert path()[2:] == [("3", None, "by hand"), (None, "4", "promotion")]


def test_histories_of_the_first_kind_are_read_and_gone_on_with(bench: Bench):
    bench.bare(3)
    old = [(None, "1", "first"), ("1", "2", "newer"), ("2", "1", "rollback: complaints")]
    told = [{"before": b, "to": to, "who": "maria", "when": "2026-03-01T10:00:00+00:00", "why": w} for b, to, w in old]
    bench.client.set_registered_model_tag(MODEL, moves.OLD_HISTORY, json.dumps(told))
    bench.alias("champion", 1)
    bench.tag(3, judged_against="1")
    promote(MODEL, "3", "mended")
    kinds = ["promotion", "promotion", "rollback", "promotion"]
    assert path() == [(b, to, kind) for (b, to, _), kind in zip([*old, ("1", "3", "")], kinds, strict=True)]
    assert rollback(MODEL, "complaints again").to == "1"


def test_a_long_history_keeps_every_move_in_order(bench: Bench):
    bench.bare(2)
    for turn in range(14):
        promote(MODEL, "12"[turn % 2], f"turn {turn}: " + "because " * 100, force=True)
    assert [move.why.split(":")[0] for move in history(MODEL)] == [f"turn {turn}" for turn in range(14)]
    # The width of MLflow's database column. Its own check allows more, which PostgreSQL then refuses.
    assert all(len(value) <= 5000 for value in bench.client.get_registered_model(MODEL).tags.values())


@pytest.fixture
def waiting(bench: Bench) -> Bench:
    """Version 1 serves, version 2 is a challenger that was judged against it."""
    bench.bare(2)
    promote(MODEL, "1", "the first")
    bench.alias("challenger", 2)
    return bench


def test_an_approval_by_alias_makes_the_version_champion_and_is_used_up(waiting: Bench):
    waiting.alias("approved", 2)
    said = promote_approved(MODEL, "ticket 7")
    assert said == "reviews: champion is now version 2 (was 1), approved in MLflow"
    assert waiting.aliases() == {"champion": "2"}
    move = history(MODEL)[-1]
    assert (move.who, move.kind, move.run) == ("approved in MLflow", "approval", "run-2")
    assert move.why == f"ticket 7 (moved by {getpass.getuser()})"
    assert promote_approved(MODEL, "again") == "reviews: nothing to do, no version is approved"


def test_an_approval_by_tag_tells_who_approved(waiting: Bench):
    waiting.tag(2, approved="Maria")
    assert promote_approved(MODEL, "ticket 7").endswith("version 2 (was 1), approved in MLflow by Maria")
    assert history(MODEL)[-1].who == "approved in MLflow by Maria"
    assert "approved" not in waiting.client.get_model_version(MODEL, "2").tags


@pytest.mark.parametrize("value", ["", "yes", "True"])
def test_a_tag_that_names_nobody_approves_too(waiting: Bench, value: str):
    waiting.tag(2, approved=value)
    promote_approved(MODEL, "ticket 7")
    assert history(MODEL)[-1].who == "approved in MLflow"


@pytest.mark.parametrize("value", ["no", "False"])
def test_a_tag_that_says_no_approves_nothing(waiting: Bench, value: str):
    waiting.tag(2, approved=value)
    assert "nothing to do" in promote_approved(MODEL, "ticket 7")
    assert waiting.aliases()["champion"] == "1"


def test_an_approval_of_the_champion_is_cleared_away(waiting: Bench):
    waiting.alias("approved", 1)
    assert promote_approved(MODEL, "x") == "reviews: nothing to do, the approved version 1 is the champion already"
    assert waiting.aliases() == {"champion": "1", "challenger": "2"}


def test_two_approvals_are_one_too_many(waiting: Bench):
    waiting.alias("approved", 1)
    waiting.tag(2, approved="Maria")
    with pytest.raises(UserError, match="versions 1, 2 are approved, but one can serve"):
        promote_approved(MODEL, "ticket 7")
    assert waiting.aliases()["champion"] == "1"


def test_an_approval_of_what_was_judged_against_another_champion_is_refused_until_it_is_judged_anew(waiting: Bench):
    waiting.alias("approved", 2)
    waiting.tag(2, judged_against="7")
    with pytest.raises(
        UserError, match="version 2 was judged against version 7, but the champion is version 1 now; run"
    ):
        promote_approved(MODEL, "ticket 7")
    assert waiting.aliases() == {"approved": "2", "champion": "1", "challenger": "2"}


def test_an_approval_does_not_promote_what_its_recipe_never_lets_be_promoted(waiting: Bench):
    waiting.alias("approved", 2)
    waiting.tag(2, promote="never")
    with pytest.raises(UserError, match="version 2 is approved, but its recipe says promote: never"):
        promote_approved(MODEL, "ticket 7")
    assert promote(MODEL, "2", "by a person's command").to == "2"


def test_a_challenger_is_judged_against_the_champion_that_serves_now_and_its_old_approval_is_void(bench: Bench):
    first, second, third = (write_edge(bench.folder / name, good=good) for name, good in (("a", 2), ("b", 3), ("c", 4)))
    bench.register(first, "champion")
    bench.register(second, "champion", judged_against="1")
    bench.register(third, "challenger", judged_against="2", quality="0.8")
    bench.tag(3, approved="Maria")
    rollback(MODEL, "complaints")
    digest = bench.client.get_model_version(MODEL, "3").tags["edge_digest"]
    assert registry.champion_to_beat(MODEL, digest) == "1"
    again = bench.register(third, "champion", judged_against="1", quality="0.9")
    assert again == registry.Registered("3", "challenger")
    tags = bench.client.get_model_version(MODEL, "3").tags
    assert (tags["judged_against"], tags["quality"]) == ("1", "0.9")
    assert "approved" not in tags
    assert promote(MODEL, None, "judged anew").kind == "promotion"


def test_a_registration_that_promotes_is_in_the_history_with_its_run(bench: Bench):
    bench.register(write_edge(bench.folder / "edge"), "champion", **{"kfp.run_id": "nightly-7"})
    (move,) = history(MODEL)
    assert (move.before, move.to, move.kind, move.run, move.why) == (None, "1", "registration", "nightly-7", "first")


def test_a_registration_that_loses_the_race_leaves_no_version(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    bench.register(write_edge(bench.folder / "a", good=2), "champion")
    log = registry._log_model

    def somebody_goes_there_and_back_meanwhile(*arguments: object) -> str:
        number = log(*arguments)
        promote(MODEL, number, "there", force=True)
        rollback(MODEL, "and back")
        return number

    monkeypatch.setattr(registry, "_log_model", somebody_goes_there_and_back_meanwhile)
    with pytest.raises(UserError, match=r"has moved the champion meanwhile \(and back\)"):
        bench.register(write_edge(bench.folder / "b", good=3), "champion", judged_against="1")
    assert [line.version for line in registry.versions(MODEL)] == ["1"]
    assert bench.aliases() == {"champion": "1"}


def test_the_account_at_mlflow_is_who_moved_it(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    bench.bare(2)
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "ops")
    assert promote(MODEL, "1", "the first").who == "ops"


def test_a_user_without_a_name_is_recorded_by_number(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    def nameless() -> str:
        raise KeyError("getpwuid(): uid not found: 10001")

    monkeypatch.setattr(getpass, "getuser", nameless)
    bench.bare(1)
    assert promote(MODEL, "1", "in a container").who.startswith("uid ")

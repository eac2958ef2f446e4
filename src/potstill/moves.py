"""Moves of the champion: claimed, checked, made and recorded, so that of two that race one loses.

MLflow moves an alias whatever it stood at. So whoever wants to move one first creates a registered model of a name that
MLflow's database keeps unique: the claim. It says what is to be moved, so that anybody can end what a killed process
began.
"""

import contextlib
import datetime
import json
import os
import socket
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from mlflow import MlflowClient
from mlflow.entities.model_registry import RegisteredModel
from mlflow.exceptions import MlflowException

from potstill.errors import UserError
from potstill.tracking import PIPELINE_RUN, reason, soon, user

# Approved: the alias and the tag by which a person lets a version become the champion.
CHAMPION, CHALLENGER, APPROVED, NONE = "champion", "challenger", "approved", "none"
# How a move came about.
REGISTRATION, PROMOTION, FORCED, APPROVAL = "registration", "promotion", "forced promotion", "approval"
ROLLBACK, BY_HAND = "rollback", "by hand"
# A tag a move, for a tag can't grow without end. The first histories were one tag.
MOVE_TAG, OLD_HISTORY, OLD_ROLLBACK = "potstill.move.", "potstill.history", "rollback: "
CLAIM_TAG, CLAIM_ENDING = "potstill.claim", " is being moved"
WHY_LENGTH = 500
# Who holds a claim moves the alias within this time or not at all.
LEASE_S = 30
# After it nobody moves anything by a claim any more: the lease, and the longest that a call of MLflow's client takes.
RELEASE_AFTER_S = 120


class LostRaceError(UserError):
    """Somebody else moves or has moved the champion: nothing was moved here."""


@dataclass(frozen=True)
class Move:
    """One move of the champion alias.

    Attributes:
        before: version that held it; none: no version did.
        to: version that holds it since; none: it was taken away.
        who: name of whoever moved it.
        when: as ISO 8601, in UTC.
        why: the reason.
        kind: how it came about.
        run: pipeline run that made the version; empty where none did.
    """

    before: str | None
    to: str | None
    who: str
    when: str
    why: str
    kind: str = PROMOTION
    run: str = ""


@dataclass(frozen=True)
class Standing:
    """A model's aliases and every move of its champion, oldest first, as they were seen."""

    model: str
    aliases: Mapping[str, str]
    moves: tuple[Move, ...]

    @property
    def champion(self) -> str | None:
        """The version that serves."""
        return self.aliases.get(CHAMPION)


@dataclass(frozen=True)
class Claim:
    """What is to be moved, by whom, and after how many moves.

    Attributes:
        after: how many moves were recorded before.
        move: to be made and recorded.
        holder: user, machine and process.
        token: tells two claims apart.
    """

    after: int
    move: Move
    holder: str = field(default_factory=lambda: f"{user()} (process {os.getpid()} on {socket.gethostname()})")
    token: str = field(default_factory=lambda: uuid.uuid4().hex)


def look(found: MlflowClient, model: str) -> Standing:
    """How a model stands; one that isn't registered has neither aliases nor moves."""
    entry = _registered(found, model)
    if entry is None:
        return Standing(model, {}, ())
    tags: Mapping[str, str] = entry.tags
    old = [_old_move(values) for values in json.loads(tags.get(OLD_HISTORY, "[]"))]
    new = [Move(**json.loads(tags[key])) for key in sorted(tags) if key.startswith(MOVE_TAG)]
    return Standing(model, {alias: str(number) for alias, number in entry.aliases.items()}, (*old, *new))


def noticed(found: MlflowClient, model: str) -> Standing:
    """How a model stands, after a move that somebody made by hand in MLflow was recorded, if there was one.

    Raises:
        LostRaceError, UserError: as for `move`.
    """
    seen = look(found, model)
    last = seen.moves[-1].to if seen.moves else None
    if last == seen.champion:
        return seen
    # MLflow tells neither who moved it nor when.
    with soon(), _told(found, model):
        made = _move(found, model, last, seen.champion, BY_HAND, "by hand in MLflow, noticed now", "unknown")
        _make(found, seen, made)
    return look(found, model)


def move(found: MlflowClient, seen: Standing, version: str, kind: str, why: str, who: str | None = None) -> Move:
    """Move the champion alias if all is still as it was seen, and record the move.

    Args:
        found: the registry.
        seen: the model, as it was when the move was decided.
        version: the new champion.
        kind: how the move came about.
        why: the reason, for the history.
        who: who decided it; none: who is at work here.

    Raises:
        LostRaceError: somebody else moves it or has moved it since.
        UserError: the user may not move it, or MLflow went away.
    """
    with soon(), _told(found, seen.model):
        made = _move(found, seen.model, seen.champion, version, kind, why, who or user())
        _make(found, seen, made)
    return made


def release(found: MlflowClient, model: str) -> str:
    """End what a killed process began: record its move if it was made, and give up its claim. Returns what was done.

    Raises:
        UserError: the claim is so young that its holder may be alive.
    """
    with soon(), _told(found, model):
        entry = _registered(found, model + CLAIM_ENDING)
        if entry is None:
            return f"{model}: nobody has a claim"
        age = _age_s(entry)
        if age < RELEASE_AFTER_S:
            raise UserError(f"{_held(model, entry)}; wait {RELEASE_AFTER_S - age:.0f} s more before it may be released")
        claim = _claim_in(entry)
        made = claim is not None and _settle(found, model, claim)
        if claim is None:
            found.delete_registered_model(entry.name)
        return f"{_held(model, entry)}: {'that move was made and is recorded now' if made else 'it was not made'}"


def withdraw(found: MlflowClient, model: str, version: str, aliases: Mapping[str, str]) -> None:
    """Take back the approval of a version, be it an alias or a tag.

    Raises:
        UserError: the user may not change the model, or MLflow went away.
    """
    with _told(found, model):
        if aliases.get(APPROVED) == version:
            found.delete_registered_model_alias(model, APPROVED)
        if APPROVED in found.get_model_version(model, version).tags:
            found.delete_model_version_tag(model, version, APPROVED)


def is_claim(name: str) -> bool:
    """Whether a registered model is no model but a claim."""
    return name.endswith(CLAIM_ENDING)


def _move(found: MlflowClient, model: str, before: str | None, to: str | None, kind: str, why: str, who: str) -> Move:
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    run = found.get_model_version(model, to).tags.get(PIPELINE_RUN, "") if to else ""
    return Move(before, to, who, now, why[:WHY_LENGTH], kind, run)


def _make(found: MlflowClient, seen: Standing, made: Move) -> None:
    """Claim, look again, move, record, and give up the claim."""
    claim, started = Claim(len(seen.moves), made), time.monotonic()
    _take(found, seen.model, claim)
    try:
        # No alias is called so. Who may not take one away is refused here, and not when half is done.
        found.delete_registered_model_alias(seen.model, NONE)
        now = look(found, seen.model)
        _as_seen(now, seen)
        if time.monotonic() - started > LEASE_S:
            raise LostRaceError(f"{seen.model}: MLflow is too slow for a safe move; nothing was moved, try again")
    except BaseException:
        _drop(found, seen.model, claim)
        raise
    try:
        if made.to is not None and now.champion != made.to:
            found.set_registered_model_alias(seen.model, CHAMPION, made.to)
    finally:
        _settle(found, seen.model, claim)


def _as_seen(now: Standing, seen: Standing) -> None:
    """Refuse to move an alias that somebody else has moved since it was looked at, even if it is back where it was."""
    if now.champion != seen.champion:
        raise LostRaceError(
            f"{seen.model}: the champion is version {now.champion or NONE} by now, not {seen.champion or NONE}; "
            "look at `potstill models` and decide again"
        )
    if now.moves != seen.moves:
        last = now.moves[-1]
        raise LostRaceError(
            f"{seen.model}: {last.who} has moved the champion meanwhile ({last.why}); "
            "look at `potstill history` and decide again"
        )


def _take(found: MlflowClient, model: str, claim: Claim) -> None:
    """Create the claim: the database takes one of a name."""
    try:
        found.create_registered_model(model + CLAIM_ENDING, tags={CLAIM_TAG: json.dumps(asdict(claim))})
    except MlflowException as error:
        # The other's claim may be given up while MLflow reports that it is there.
        if error.error_code not in ("RESOURCE_ALREADY_EXISTS", "RESOURCE_DOES_NOT_EXIST"):
            raise
        entry = _registered(found, model + CLAIM_ENDING)
        # A call that is repeated because its answer was lost finds what it made.
        if entry is not None and _claim_in(entry) == claim:
            return
        if entry is None:
            raise LostRaceError(f"{model}: somebody else moves the champion; look and decide again") from error
        hint = "look at `potstill models` and decide again"
        if _age_s(entry) >= RELEASE_AFTER_S:
            hint = "if that process is dead, --release-claim ends what it began"
        raise LostRaceError(f"{_held(model, entry)}; {hint}") from error


def _settle(found: MlflowClient, model: str, claim: Claim) -> bool:
    """Bring a claimed move to its end, as often as it takes: recorded if it was made, then the claim goes."""
    now, to = look(found, model), claim.move.to
    made = now.champion == to and now.moves[claim.after :] in ((), (claim.move,))
    if made:
        found.set_registered_model_tag(model, f"{MOVE_TAG}{claim.after + 1:04d}", json.dumps(asdict(claim.move)))
    if made and to is not None:
        if now.aliases.get(CHALLENGER) == to:
            found.delete_registered_model_alias(model, CHALLENGER)
        withdraw(found, model, to, now.aliases)
    _drop(found, model, claim)
    return made


def _drop(found: MlflowClient, model: str, claim: Claim) -> None:
    """Give up a claim, unless somebody has released it meanwhile."""
    entry = _registered(found, model + CLAIM_ENDING)
    if entry is not None and _claim_in(entry) == claim:
        found.delete_registered_model(entry.name)


def _registered(found: MlflowClient, name: str) -> RegisteredModel | None:
    try:
        return found.get_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return None


def _claim_in(entry: RegisteredModel) -> Claim | None:
    """What a claim says; none if somebody else than Potstill made a model of that name."""
    if CLAIM_TAG not in entry.tags:
        return None
    values: dict[str, Any] = json.loads(entry.tags[CLAIM_TAG])
    return Claim(**values | {"move": Move(**values["move"])})


def _held(model: str, entry: RegisteredModel) -> str:
    """Who holds a claim, since when, and for what."""
    claim = _claim_in(entry)
    if claim is None:
        return f"{model}: the registered model {entry.name!r} stands in the way, {_age_s(entry):.0f} s old"
    wanted = claim.move.to or NONE
    return f"{model}: {claim.holder} began {_age_s(entry):.0f} s ago to move the champion to version {wanted}"


def _age_s(entry: RegisteredModel) -> float:
    return max(0.0, time.time() - float(entry.creation_timestamp) / 1000)


def _old_move(values: Mapping[str, Any]) -> Move:
    """A move from when a rollback was known by its reason."""
    why = str(values["why"])
    return Move(**{"kind": ROLLBACK if why.startswith(OLD_ROLLBACK) else PROMOTION} | dict(values))


@contextlib.contextmanager
def _told(found: MlflowClient, model: str) -> Iterator[None]:
    """Tell in one line what MLflow refuses or fails to do."""
    try:
        yield
    except MlflowException as error:
        if error.get_http_status_code() == 403:
            raise UserError(f"{model}: MLflow doesn't let {user()} change it; that takes MANAGE on it") from error
        raise UserError(
            f"{model}: MLflow failed while the champion was moved, look at `potstill history`: "
            f"{reason(error, found.tracking_uri)}"
        ) from error

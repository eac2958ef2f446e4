"""Promotion: who may become the champion, by a person's word or approval, and the way back."""

from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion

from potstill.errors import UserError
from potstill.moves import (
    APPROVAL,
    APPROVED,
    BY_HAND,
    CHALLENGER,
    FORCED,
    NONE,
    PROMOTION,
    ROLLBACK,
    Move,
    Standing,
    look,
    move,
    noticed,
    release,
    withdraw,
)
from potstill.registry import AGAINST, POLICY, checked, entries, entry_of, number_of, numbers
from potstill.tracking import client, user

# Values of the tag by which a version is not approved, and by which nobody in particular approves it.
DENIED, NOBODY = {"no", "false"}, {"", "yes", "true"}
IN_MLFLOW = "approved in MLflow"


def promote(model: str, version: str | None, reason: str, force: bool = False) -> Move:
    """Make a version the champion; none: the challenger.

    Args:
        model: name in the registry.
        version: number of the new champion.
        reason: for the history.
        force: whether a version that was judged against another champion, or never, is taken all the same.

    Raises:
        UserError: no such model or version, no challenger, it is the champion already, it was not judged against the
            present champion, or somebody else moves the champion.
    """
    found = client()
    seen = noticed(found, checked(found, model))
    wanted = version or seen.aliases.get(CHALLENGER)
    if wanted is None:
        raise UserError(f"{model} has no challenger; name a version: {numbers(found, model)}")
    entry = entry_of(found, model, wanted)
    if seen.champion == wanted:
        raise UserError(f"{model}: version {wanted} is the champion already")
    doubt = _doubt(seen, entry)
    if doubt and not force:
        raise UserError(f"{doubt}, or give --force with a --reason")
    return move(found, seen, wanted, FORCED if doubt else PROMOTION, reason)


def promote_approved(model: str, reason: str) -> str:
    """Make the version the champion that a person approved in MLflow, by the alias or the tag `approved`.

    Args:
        model: name in the registry.
        reason: for the history.

    Returns:
        What was moved, or why there was nothing to do.

    Raises:
        UserError: no such model, several versions are approved, the approved one must not be promoted or was not judged
            against the present champion, or somebody else moves the champion.
    """
    found = client()
    seen = noticed(found, checked(found, model))
    approved = _approved(found, seen)
    if not approved:
        return f"{model}: nothing to do, no version is approved"
    if len(approved) > 1:
        raise UserError(f"{model}: versions {', '.join(approved)} are approved, but one can serve; leave one approval")
    ((version, who),) = approved.items()
    if version == seen.champion:
        withdraw(found, model, version, seen.aliases)
        return f"{model}: nothing to do, the approved version {version} is the champion already"
    entry = entry_of(found, model, version)
    if entry.tags.get(POLICY) == "never":
        raise UserError(f"{model}: version {version} is approved, but its recipe says promote: never")
    if doubt := _doubt(seen, entry):
        raise UserError(doubt)
    move(found, seen, version, APPROVAL, f"{reason} (moved by {user()})", who)
    return f"{model}: champion is now version {version} (was {seen.champion or NONE}), {who}"


def rollback(model: str, reason: str) -> Move:
    """Make the champion before the present one the champion again. A second rollback goes one further back.

    Raises:
        UserError: no such model, no earlier champion, or somebody else moves the champion.
    """
    found = client()
    seen = noticed(found, checked(found, model))
    there = {number_of(entry) for entry in entries(found, model)}
    past = _reign(seen)
    earlier = [version for version in past if version in there and version != seen.champion]
    if not earlier:
        raise UserError(f"{model}: there is no earlier champion to go back to")
    return move(found, seen, earlier[-1], ROLLBACK, reason)


def history(model: str) -> tuple[Move, ...]:
    """Every move of the champion alias, oldest first.

    Raises:
        UserError: no such model.
    """
    found = client()
    return look(found, checked(found, model)).moves


def release_claim(model: str) -> str:
    """End what a process that was killed while it moved the champion began; returns what was done.

    Raises:
        UserError: no such model, or that process may be alive.
    """
    found = client()
    return release(found, checked(found, model))


def _doubt(seen: Standing, entry: ModelVersion) -> str:
    """Why a version should not become champion as things stand; empty if it was judged against the present one."""
    against, champion = entry.tags.get(AGAINST), seen.champion or NONE
    if against == champion:
        return ""
    if against is None:
        return f"{seen.model}: version {number_of(entry)} was never judged; let a recipe register it"
    # The judgement of a former champion stays as it was.
    former = any(made.to == number_of(entry) for made in seen.moves)
    return (
        f"{seen.model}: version {number_of(entry)} was judged against version {against}, but the champion is version "
        f"{champion} now; {'roll back to it' if former else 'run its recipe again to judge it anew'}"
    )


def _approved(found: MlflowClient, seen: Standing) -> dict[str, str]:
    """The versions that are approved, and by whom."""
    approved = {seen.aliases[APPROVED]: IN_MLFLOW} if APPROVED in seen.aliases else {}
    for entry in entries(found, seen.model):
        value = entry.tags.get(APPROVED, "no").strip()
        if value.lower() not in DENIED:
            approved[number_of(entry)] = IN_MLFLOW if value.lower() in NOBODY else f"{IN_MLFLOW} by {value}"
    return approved


def _reign(seen: Standing) -> list[str]:
    """The champions that a rollback can go back through, the last of them last.

    A rollback takes the last ones off again, so that the next rollback goes further back instead of to and fro. Going
    back by hand counts as one.
    """
    past: list[str] = []
    for made in seen.moves:
        if made.to is None:
            continue
        if made.kind in (ROLLBACK, BY_HAND) and made.to in past[:-1]:
            del past[len(past) - past[::-1].index(made.to) :]
        else:
            past.append(made.to)
    return past

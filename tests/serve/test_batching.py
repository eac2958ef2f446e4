"""Requests that wait together go together, nobody waits longer than allowed, and nobody suffers for another."""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from potstill.serve.batching import PIECE_ROWS, Batcher, OverloadedError


class Model:
    """Answers a row with itself; may be held, and notes what it was given."""

    def __init__(self) -> None:
        self.batches: list[list[Any]] = []
        self.free = threading.Event()
        self.free.set()

    def answer(self, rows: list[Any]) -> list[dict[str, Any]]:
        self.batches.append(rows)
        assert self.free.wait(10)
        if "bad" in rows:
            raise ValueError("bad can't be read")
        if "broken" in rows:
            raise RuntimeError("broken")
        return [{"said": row} for row in rows]


def during(model: Model, ask: Callable[[Batcher[Model]], Awaitable[Any]], **limits: Any) -> Any:
    """What comes of asking while a batcher works."""

    async def run() -> Any:
        known = {"batch_rows": 4, "wait_s": 0.0, "patience_s": 100.0, **limits}
        batcher: Batcher[Model] = Batcher(Model.answer, **known)
        work = asyncio.create_task(batcher.work())
        try:
            return await ask(batcher)
        finally:
            model.free.set()
            work.cancel()

    return asyncio.run(run())


async def busy(model: Model, batcher: Batcher[Model]) -> "asyncio.Task[Any]":
    """The first request, at which the model is until it is freed."""
    model.free.clear()
    first = asyncio.create_task(batcher.ask(model, ["first"]))
    while not model.batches:
        await asyncio.sleep(0.001)
    return first


async def while_busy(model: Model, batcher: Batcher[Model], requests: list[list[Any]]) -> list[Any]:
    """Answers, or errors, to requests that came while the model was at another one."""
    first = await busy(model, batcher)
    others = [asyncio.create_task(batcher.ask(model, rows)) for rows in requests]
    await asyncio.sleep(0.01)
    model.free.set()
    await first
    return await asyncio.gather(*others, return_exceptions=True)


def said(*rows: str) -> list[dict[str, str]]:
    return [{"said": row} for row in rows]


def test_each_request_gets_the_answers_to_its_own_rows():
    model = Model()
    found = during(model, lambda b: while_busy(model, b, [["a"], ["b", "c"], ["d"]]))
    assert found == [said("a"), said("b", "c"), said("d")]
    assert model.batches == [["first"], ["a", "b", "c", "d"]]


def test_a_batch_has_no_more_rows_than_it_may():
    model = Model()
    during(model, lambda b: while_busy(model, b, [["0"], ["1"], ["2"], ["3", "4"], ["5"]]))
    assert model.batches == [["first"], ["0", "1", "2"], ["3", "4", "5"]]


def test_rows_go_alone_where_nothing_is_said_of_batches():
    model = Model()
    during(model, lambda b: while_busy(model, b, [["a"], ["b"]]), batch_rows=1)
    assert model.batches == [["first"], ["a"], ["b"]]


@pytest.mark.parametrize(("row", "kind"), [("bad", ValueError), ("broken", RuntimeError)])
def test_what_is_wrong_with_one_request_reaches_it_alone(row: str, kind: type[Exception]):
    model = Model()
    good, wrong, other = during(model, lambda b: while_busy(model, b, [["a"], [row], ["c"]]))
    assert (good, other) == (said("a"), said("c"))
    assert isinstance(wrong, kind)


def test_after_a_failure_the_next_are_answered():
    model = Model()

    async def ask(batcher: Batcher[Model]) -> Any:
        with pytest.raises(RuntimeError, match="broken"):
            await batcher.ask(model, ["broken"])
        return await batcher.ask(model, ["a"])

    assert during(model, ask) == said("a")


def test_who_comes_first_to_an_idle_model_waits_no_longer_than_it_may_however_many_follow():
    model = Model()

    async def ask(batcher: Batcher[Model]) -> None:
        first = asyncio.create_task(batcher.ask(model, ["0"]))
        others = []
        while not first.done():
            await asyncio.sleep(0.05)
            others.append(asyncio.create_task(batcher.ask(model, ["more"])))
        await asyncio.gather(*others)

    during(model, ask, wait_s=0.2, batch_rows=1000)
    # Each wait that began anew would have let all of them into one batch.
    assert 2 <= len(model.batches[0]) < 20
    assert len(model.batches) >= 2


def test_nobody_waits_where_nobody_should():
    model = Model()

    async def ask(batcher: Batcher[Model]) -> None:
        first = asyncio.create_task(batcher.ask(model, ["a"]))
        await asyncio.sleep(0.05)
        await asyncio.gather(first, batcher.ask(model, ["b"]))

    during(model, ask)
    assert model.batches == [["a"], ["b"]]


def test_a_full_batch_goes_at_once_whatever_it_might_wait():
    model = Model()

    async def ask(batcher: Batcher[Model]) -> Any:
        return await asyncio.wait_for(batcher.ask(model, ["a", "b", "c", "d"]), 20)

    assert during(model, ask, wait_s=1000.0) == said("a", "b", "c", "d")


def test_a_long_request_lets_others_in_between():
    model = Model()
    long = [str(i) for i in range(PIECE_ROWS + 4)]
    found = during(model, lambda b: while_busy(model, b, [long, ["short"]]))
    assert found == [said(*long), said("short")]
    assert model.batches == [["first"], long[:PIECE_ROWS], ["short"], long[PIECE_ROWS:]]


def test_what_would_wait_too_long_is_refused_at_once():
    model = Model()

    async def ask(batcher: Batcher[Model]) -> list[Any]:
        # Half a second a row, of which the running mean has learnt a fifth.
        first = await busy(model, batcher)
        await asyncio.sleep(0.5)
        model.free.set()
        await first
        model.batches.clear()
        return await while_busy(model, batcher, [["a"] * 9, ["b"], ["c"]])

    many, late, later = during(model, ask, patience_s=0.8)
    assert len(many) == 9
    assert isinstance(late, OverloadedError)
    assert isinstance(later, OverloadedError)


def test_what_nobody_waits_for_any_more_is_not_answered():
    model = Model()

    async def ask(batcher: Batcher[Model]) -> None:
        first = await busy(model, batcher)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(batcher.ask(model, ["gone"]), 0.01)
        model.free.set()
        await first
        await batcher.ask(model, ["next"])

    during(model, ask)
    assert model.batches == [["first"], ["next"]]


def test_a_long_request_that_nobody_waits_for_ends_after_its_piece():
    model = Model()

    async def ask(batcher: Batcher[Model]) -> None:
        model.free.clear()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(batcher.ask(model, [str(i) for i in range(10 * PIECE_ROWS)]), 0.05)
        model.free.set()
        await batcher.ask(model, ["next"])

    during(model, ask)
    assert [len(rows) for rows in model.batches] == [PIECE_ROWS, 1]


def test_only_requests_to_the_same_model_go_together_and_each_is_answered_by_its_own():
    old, new = Model(), Model()

    async def ask(batcher: Batcher[Model]) -> Any:
        first = await busy(old, batcher)
        others = [asyncio.create_task(batcher.ask(model, [row])) for model, row in ((old, "a"), (new, "b"), (new, "c"))]
        await asyncio.sleep(0.01)
        old.free.set()
        return await asyncio.gather(first, *others)

    assert during(old, ask) == [said("first"), said("a"), said("b"), said("c")]
    assert (old.batches, new.batches) == ([["first"], ["a"]], [["b", "c"]])

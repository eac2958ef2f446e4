"""Requests that wait together go together, nobody waits longer than allowed, and nobody suffers for another."""

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from potstill.serve.batching import Batcher, OverloadedError


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


def during(model: Model, ask: Callable[[Batcher[str]], Awaitable[Any]], **limits: Any) -> Any:
    """What comes of asking while a batcher works."""

    async def run() -> Any:
        known = {"batch_rows": 4, "wait_s": 0.0, "waiting_rows": 100, **limits}
        batcher: Batcher[str] = Batcher(lambda: "v1", lambda _, rows: model.answer(rows), **known)
        work = asyncio.create_task(batcher.work())
        try:
            return await ask(batcher)
        finally:
            model.free.set()
            work.cancel()

    return asyncio.run(run())


async def while_busy(model: Model, batcher: Batcher[str], requests: list[list[Any]]) -> list[Any]:
    """Answers, or errors, to requests that came while the model was at another one."""
    model.free.clear()
    first = asyncio.create_task(batcher.ask(["first"]))
    while not model.batches:
        await asyncio.sleep(0.001)
    others = [asyncio.create_task(batcher.ask(rows)) for rows in requests]
    await asyncio.sleep(0.01)
    model.free.set()
    await first
    return await asyncio.gather(*others, return_exceptions=True)


def test_each_request_gets_the_answers_to_its_own_rows_and_the_model_that_gave_them():
    model = Model()
    found = during(model, lambda b: while_busy(model, b, [["a"], ["b", "c"], ["d"]]))
    assert found == [
        ("v1", [{"said": "a"}]),
        ("v1", [{"said": "b"}, {"said": "c"}]),
        ("v1", [{"said": "d"}]),
    ]
    assert model.batches == [["first"], ["a", "b", "c", "d"]]


def test_a_batch_ends_once_it_has_its_rows():
    model = Model()
    during(model, lambda b: while_busy(model, b, [[str(i)] for i in range(6)]))
    assert model.batches == [["first"], ["0", "1", "2", "3"], ["4", "5"]]


def test_a_row_that_cannot_be_read_is_refused_alone():
    model = Model()
    good, bad, other = during(model, lambda b: while_busy(model, b, [["a"], ["bad"], ["c"]]))
    assert good == ("v1", [{"said": "a"}])
    assert other == ("v1", [{"said": "c"}])
    assert isinstance(bad, ValueError)


def test_a_failure_reaches_who_asked_and_the_next_are_answered():
    model = Model()

    async def ask(batcher: Batcher[str]) -> Any:
        with pytest.raises(RuntimeError, match="broken"):
            await batcher.ask(["broken"])
        return await batcher.ask(["a"])

    assert during(model, ask) == ("v1", [{"said": "a"}])


def test_an_idle_model_waits_for_others_no_longer_than_it_may():
    model = Model()

    async def ask(batcher: Batcher[str]) -> float:
        start = time.monotonic()
        first = asyncio.create_task(batcher.ask(["a"]))
        await asyncio.sleep(0.01)
        await asyncio.gather(first, batcher.ask(["b"]))
        return time.monotonic() - start

    waited_s = during(model, ask, wait_s=0.2)
    assert model.batches == [["a", "b"]]
    assert 0.2 <= waited_s < 5


def test_it_does_not_wait_where_it_should_not():
    model = Model()

    async def ask(batcher: Batcher[str]) -> None:
        first = asyncio.create_task(batcher.ask(["a"]))
        await asyncio.sleep(0.05)
        await asyncio.gather(first, batcher.ask(["b"]))

    during(model, ask)
    assert model.batches == [["a"], ["b"]]


def test_a_full_batch_goes_at_once_whatever_it_might_wait():
    model = Model()

    async def ask(batcher: Batcher[str]) -> float:
        start = time.monotonic()
        await batcher.ask(["a", "b", "c", "d"])
        return time.monotonic() - start

    assert during(model, ask, wait_s=30.0) < 10


def test_rows_beyond_what_may_wait_are_refused_at_once():
    model = Model()
    found = during(model, lambda b: while_busy(model, b, [["a", "b"], ["c", "d"], ["e"]]), waiting_rows=3)
    assert found[0] == ("v1", [{"said": "a"}, {"said": "b"}])
    assert isinstance(found[1], OverloadedError)
    assert found[2] == ("v1", [{"said": "e"}])


def test_what_nobody_waits_for_any_more_is_not_answered():
    model = Model()

    async def ask(batcher: Batcher[str]) -> None:
        model.free.clear()
        first = asyncio.create_task(batcher.ask(["first"]))
        while not model.batches:
            await asyncio.sleep(0.001)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(batcher.ask(["gone"]), 0.01)
        model.free.set()
        await first
        await batcher.ask(["next"])

    during(model, ask)
    assert model.batches == [["first"], ["next"]]


def test_all_of_a_batch_is_answered_by_one_model_though_another_comes_meanwhile():
    model = Model()

    async def run() -> Any:
        now = ["v1"]
        batcher: Batcher[str] = Batcher(lambda: now[0], lambda _, rows: model.answer(rows), 4, 0.0, 100)
        work = asyncio.create_task(batcher.work())
        model.free.clear()
        first = asyncio.create_task(batcher.ask(["a", "b"]))
        while not model.batches:
            await asyncio.sleep(0.001)
        now[0] = "v2"
        model.free.set()
        found = await first, await batcher.ask(["c"])
        work.cancel()
        return found

    assert asyncio.run(run()) == (("v1", [{"said": "a"}, {"said": "b"}]), ("v2", [{"said": "c"}]))

"""Batching: requests that wait at the same time go through the model together."""

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from potstill.edge import Row

Answer = dict[str, Any]
M = TypeVar("M")


class OverloadedError(Exception):
    """More rows wait than could be answered in time."""


@dataclass(frozen=True)
class Asked(Generic[M]):
    """A request's rows, and where its answers will be: those of one model, which is named beside them."""

    rows: list[Row]
    future: asyncio.Future[tuple[M, list[Answer]]]
    arrived_s: float = field(default_factory=time.monotonic)


class Batcher(Generic[M]):
    """One thread that answers; while it is busy, requests gather, and what has gathered is the next batch.

    Args:
        model: gives what answers now, once a batch.
        answer: a model's answers to rows, in their order. Raises ValueError on a row that can't be read.
        batch_rows: rows of a batch, at most, unless one request has more.
        wait_s: how long the first request of a batch may wait for others while the model is idle.
        waiting_rows: rows that may wait; a request beyond is refused at once.
        on_batch: is told the rows of each batch.
    """

    def __init__(
        self,
        model: Callable[[], M],
        answer: Callable[[M, list[Row]], list[Answer]],
        batch_rows: int,
        wait_s: float,
        waiting_rows: int,
        on_batch: Callable[[int], None] = lambda _: None,
    ) -> None:
        self._model, self._answer, self._on_batch = model, answer, on_batch
        self._batch_rows, self._wait_s, self._waiting_rows = batch_rows, wait_s, waiting_rows
        self._waiting: asyncio.Queue[Asked[M]] = asyncio.Queue()
        self._rows = 0
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="model")

    async def ask(self, rows: list[Row]) -> tuple[M, list[Answer]]:
        """A model and its answers to the rows.

        Raises:
            OverloadedError: too many rows wait already.
            ValueError: a row can't be read.
        """
        if self._rows and self._rows + len(rows) > self._waiting_rows:
            raise OverloadedError(f"{self._rows} rows are waiting")
        asked = Asked(rows, asyncio.get_running_loop().create_future())
        self._rows += len(rows)
        self._waiting.put_nowait(asked)
        return await asked.future

    async def work(self) -> None:
        """Answer until cancelled."""
        while True:
            batch = await self._gather()
            self._rows -= sum(len(asked.rows) for asked in batch)
            # Whoever has gone, because its time was up, needs no answer.
            wanted = [asked for asked in batch if not asked.future.done()]
            if wanted:
                await self._serve(wanted)

    async def _gather(self) -> list[Asked[M]]:
        """The first that waits, and what may go with it."""
        batch = [await self._waiting.get()]
        rows = len(batch[0].rows)
        while rows < self._batch_rows:
            asked = await self._next(batch[0].arrived_s + self._wait_s)
            if asked is None:
                break
            batch.append(asked)
            rows += len(asked.rows)
        return batch

    async def _next(self, until_s: float) -> Asked[M] | None:
        """The next that waits, or that comes before the moment."""
        try:
            return self._waiting.get_nowait()
        except asyncio.QueueEmpty:
            left_s = until_s - time.monotonic()
        if left_s <= 0:
            return None
        try:
            return await asyncio.wait_for(self._waiting.get(), left_s)
        except TimeoutError:
            return None

    async def _serve(self, batch: list[Asked[M]]) -> None:
        model = self._model()
        rows = [row for asked in batch for row in asked.rows]
        self._on_batch(len(rows))
        try:
            answers = await self._run(model, rows)
        except ValueError as error:
            if len(batch) > 1:  # One of them can't be read: each by itself, so that the others don't suffer.
                for asked in batch:
                    await self._serve([asked])
            else:
                _settle(batch[0], error)
            return
        except Exception as error:  # noqa: BLE001 - whoever asked is to know, and the next batch is to be answered
            for asked in batch:
                _settle(asked, error)
            return
        start = 0
        for asked in batch:
            _settle(asked, (model, answers[start : start + len(asked.rows)]))
            start += len(asked.rows)

    async def _run(self, model: M, rows: list[Row]) -> list[Answer]:
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._answer, model, rows)


def _settle(asked: Asked[M], found: tuple[M, list[Answer]] | Exception) -> None:
    """Give an answer or an error to who asked, if it still waits."""
    if asked.future.done():
        return
    if isinstance(found, Exception):
        asked.future.set_exception(found)
    else:
        asked.future.set_result(found)

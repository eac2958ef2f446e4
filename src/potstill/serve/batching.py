"""Batching: requests take turns at the model, a piece at a time, and those that wait together may go together."""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from potstill.edge import Row

Answer = dict[str, Any]
M = TypeVar("M")
# Rows of one request between two looks at who else waits and who has gone.
PIECE_ROWS = 16
# Weight of the last batch in the running mean of the time a row takes.
NEWEST = 0.2


class OverloadedError(Exception):
    """More rows wait than could be answered in time."""


@dataclass
class Asked(Generic[M]):
    """A request: its rows, who is to answer them, and what has been answered so far."""

    model: M
    rows: list[Row]
    future: asyncio.Future[list[Answer]]
    arrived_s: float = field(default_factory=time.monotonic)
    answers: list[Answer] = field(default_factory=list)

    def piece(self, most: int) -> list[Row]:
        """The next rows."""
        return self.rows[len(self.answers) : len(self.answers) + most]

    @property
    def left(self) -> int:
        """Rows without an answer."""
        return len(self.rows) - len(self.answers)


class Batcher(Generic[M]):
    """One thread that answers. Requests stand in line; a long one goes back to the end after each piece.

    Args:
        answer: a model's answers to rows, in their order. Raises ValueError on a row that can't be read.
        batch_rows: rows of several requests that may go through a model together.
        wait_s: how long the first request of a batch may wait for others while the thread is idle.
        patience_s: a request is refused if those before it will take longer, by the time that a row took lately.
        on_batch: is told the rows of each batch.
    """

    def __init__(
        self,
        answer: Callable[[M, list[Row]], list[Answer]],
        batch_rows: int,
        wait_s: float,
        patience_s: float,
        on_batch: Callable[[int], None] = lambda _: None,
    ) -> None:
        self._answer, self._on_batch = answer, on_batch
        self._batch_rows, self._wait_s, self._patience_s = batch_rows, wait_s, patience_s
        self._line: deque[Asked[M]] = deque()
        self._arrived = asyncio.Event()
        self._row_s = 0.0
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="model")

    async def ask(self, model: M, rows: list[Row]) -> list[Answer]:
        """A model's answers to the rows.

        Raises:
            OverloadedError: those before it will take too long.
            ValueError: a row can't be read.
        """
        before = sum(asked.left for asked in self._line)
        if before * self._row_s > self._patience_s:
            raise OverloadedError(f"{before:,} rows are waiting")
        asked = Asked(model, rows, asyncio.get_running_loop().create_future())
        self._line.append(asked)
        self._arrived.set()
        return await asked.future

    async def work(self) -> None:
        """Answer until cancelled."""
        while True:
            await self._serve(await self._gather())

    async def _gather(self) -> list[Asked[M]]:
        """The first in line, and what may go with it."""
        first = await self._next()
        batch, rows = [first], first.left
        while rows < self._batch_rows:
            left_s = first.arrived_s + self._wait_s - time.monotonic()
            try:
                other = await asyncio.wait_for(self._next(), max(left_s, 0)) if left_s > 0 else self._at_once()
            except TimeoutError:
                break
            if other is None:
                break
            if other.model is not first.model or rows + other.left > self._batch_rows:
                self._line.appendleft(other)
                break
            batch.append(other)
            rows += other.left
        return batch

    async def _next(self) -> Asked[M]:
        """The next in line, as soon as there is one."""
        while (asked := self._at_once()) is None:
            self._arrived.clear()
            await self._arrived.wait()
        return asked

    def _at_once(self) -> Asked[M] | None:
        """The next in line; whoever has gone meanwhile, because its time was up, needs no answer."""
        while self._line:
            asked = self._line.popleft()
            if not asked.future.done():
                return asked
        return None

    async def _serve(self, batch: list[Asked[M]]) -> None:
        """Answer a piece of each."""
        pieces = [asked.piece(max(PIECE_ROWS, self._batch_rows)) for asked in batch]
        rows = [row for piece in pieces for row in piece]
        start_s = time.monotonic()
        try:
            answers = await asyncio.get_running_loop().run_in_executor(self._thread, self._answer, batch[0].model, rows)
        except Exception as error:  # noqa: BLE001 - whoever asked is to know, and the next is to be answered
            if len(batch) > 1:  # Each by itself, so that the others don't suffer.
                for asked in batch:
                    await self._serve([asked])
            elif not batch[0].future.done():
                batch[0].future.set_exception(error)
            return
        self._on_batch(len(rows))
        self._row_s += NEWEST * ((time.monotonic() - start_s) / len(rows) - self._row_s)
        for asked, piece in zip(batch, pieces, strict=True):
            asked.answers += answers[: len(piece)]
            answers = answers[len(piece) :]
            self._settle(asked)

    def _settle(self, asked: Asked[M]) -> None:
        """Give a request its answers, or a place at the end of the line until it has them all."""
        if asked.left:
            self._line.append(asked)
        elif not asked.future.done():
            asked.future.set_result(asked.answers)

"""Limits: what a request may cost."""

import asyncio
from dataclasses import dataclass

from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send


@dataclass(frozen=True)
class Limits:
    """Bounds of a service. A text's tokens are bounded by its model: what is longer is cut, as in training.

    Attributes:
        body_bytes: of a request.
        rows: of a request.
        time_s: from the end of a request's headers to its answer. Half of it may pass in the line.
        characters: of a text that is to be explained: it is read once a word.
        batch_rows: rows that go through the model together, unless one request has more. On a CPU one is best for
            most models (docs/serving.md): texts of unlike length cost each other more than they save.
        wait_ms: how long a request may wait for others to join it.
    """

    body_bytes: int = 1_000_000
    rows: int = 256
    time_s: float = 10.0
    characters: int = 5_000
    batch_rows: int = 1
    wait_ms: float = 0.0


class Bounded:
    """Refuses bodies that are too large (413) and gives up on what takes too long (504)."""

    def __init__(self, app: ASGIApp, limits: Limits) -> None:
        self._app, self._limits = app, limits
        self._too_large = f"the body has more than {limits.body_bytes:,} bytes"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun = False
        taken = 0

        async def counted() -> Message:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > self._limits.body_bytes:
                raise HTTPException(413, self._too_large, {"connection": "close"})
            return message

        async def noted(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            async with asyncio.timeout(self._limits.time_s):
                await self._app(scope, counted, noted)
        except TimeoutError:
            if not begun:
                late = JSONResponse({"error": f"no answer within {self._limits.time_s:g} s"}, 504)
                await late(scope, receive, send)

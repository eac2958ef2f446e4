"""Measures: what Prometheus is told, of all processes of a service together.

prometheus_client keeps each process's figures in files of the folder that PROMETHEUS_MULTIPROC_DIR names, and adds them
up when it is asked. The variable must be set before this module is imported.
"""

import time

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from potstill.serve.release import Release

# From well below a small student's time to a hopeless one.
SECONDS = (0.0005, 0.001, 0.002, 0.004, 0.008, 0.016, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0)
SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
CONTENT_TYPE = CONTENT_TYPE_LATEST

_requests = Counter("potstill_requests_total", "Requests by route and status.", ["route", "status"])
_seconds = Histogram("potstill_request_seconds", "Time from request to answer.", ["route"], buckets=SECONDS)
_batch = Histogram("potstill_batch_rows", "Rows that went through the model together.", buckets=SIZES)
_swaps = Counter("potstill_swaps_total", "Versions that took another one's place, a process each.")
_serving = Gauge(
    "potstill_serving", "1 for the version that is served.", ["model", "version"], multiprocess_mode="mostrecent"
)


def batch(rows: int) -> None:
    """Note a batch."""
    _batch.observe(rows)


def serving(now: Release, before: Release | None) -> None:
    """Note which version is served."""
    if before is not None:
        _swaps.inc()
        _serving.labels(before.name, before.version).set(0)
    _serving.labels(now.name, now.version).set(1)


def page() -> bytes:
    """All figures in Prometheus' text format."""
    registry = CollectorRegistry()
    MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    found: bytes = generate_latest(registry)
    return found


class Timed:
    """Notes route, status and time of each request."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start_s, status = time.perf_counter(), 500

        async def noted(message: Message) -> None:
            nonlocal status
            status = message.get("status", status)
            await send(message)

        try:
            await self._app(scope, receive, noted)
        finally:
            # A route's pattern, not the address: addresses are without number.
            route = getattr(scope.get("route"), "path", "none")
            _requests.labels(route, str(status)).inc()
            _seconds.labels(route).observe(time.perf_counter() - start_s)

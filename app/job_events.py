"""A job as server-sent events: one when it has moved on, comments while it has not, one at its end."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager, suppress

from fastapi.sse import KEEPALIVE_COMMENT, format_sse_event
from starlette.concurrency import run_in_threadpool

from app.jobs import Job
from app.problems import Problem
from app.schemas.jobs import JobBody

POLL_S = 1.0
HEARTBEAT_S = 15.0  # proxies drop connections that are silent for a minute

HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}  # the second one is for nginx


class Listeners:
    """The callers that follow jobs: no more than ``limit``, and none beyond the end of the service."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.count = 0  # who follows now
        self.closing = asyncio.Event()

    @contextmanager
    def one_more(self) -> Iterator[None]:
        """Take a place for one caller.

        Raises:
            Problem: ``overloaded``, no place is left.
        """
        if self.count >= self._limit:
            detail = f"{self._limit} callers already follow jobs; ask GET /v1/jobs/{{id}} from time to time instead"
            raise Problem("overloaded", detail, headers={"Retry-After": "10"})
        self.count += 1
        try:
            yield
        finally:
            self.count -= 1

    def close(self) -> None:
        """End every stream, so that the service need not wait for the jobs."""
        self.closing.set()


def event_id(job: Job) -> str:
    """The same for two looks at a job that has not moved between them."""
    return f"{job.state}-{job.done}-{job.total}"


async def events_of(job: Job, look: Callable[[], Job], closing: asyncio.Event) -> AsyncIterator[bytes]:
    """The job as it is, then as ``look``, which may block, finds it later, until it is final or the service closes."""
    shown, said = "", time.monotonic()
    while True:
        if event_id(job) != shown:
            yield _event(job)
            shown, said = event_id(job), time.monotonic()
        elif time.monotonic() - said >= HEARTBEAT_S:
            yield KEEPALIVE_COMMENT
            said = time.monotonic()
        if job.state.final:
            return
        with suppress(TimeoutError):
            await asyncio.wait_for(closing.wait(), POLL_S)
            return
        job = await run_in_threadpool(look)


def _event(job: Job) -> bytes:
    kind = "end" if job.state.final else "progress"
    return format_sse_event(id=event_id(job), event=kind, data_str=JobBody.of(job).model_dump_json())

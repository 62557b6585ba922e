"""What routes are handed."""

from collections.abc import AsyncIterator
from typing import Annotated, Protocol

from fastapi import Depends, Request

from app.job_events import Listeners
from app.jobs import Job
from app.runtime import Runtime
from app.settings import Limits


class Jobs(Protocol):
    """Starts rebuilds and follows them; ``app.rebuild_queue.RebuildQueue`` is the one in use."""

    def start(
        self,
        index: str,
        *,
        source: str | None,
        model: str | None,
        bits: int | None,
        reuse: bool,
        dry_run: bool,
        idempotency_key: str | None,
    ) -> Job:
        """Start a rebuild, or return the one that was started with this key."""

    def get(self, job_id: str) -> Job:
        """The job as it stands now."""

    def list(self) -> list[Job]:
        """Every job, newest first."""

    def cancel(self, job_id: str) -> Job:
        """Stop the job, if it has not ended."""


def get_runtime(request: Request) -> Runtime:
    """The runtime of the application that this request came to."""
    runtime: Runtime = request.app.state.runtime
    return runtime


def get_limits(request: Request) -> Limits:
    """The bounds on requests."""
    return get_runtime(request).settings.limits


def get_jobs(request: Request) -> Jobs:
    """The jobs of the application that this request came to."""
    jobs: Jobs = request.app.state.jobs
    return jobs


async def take_place(request: Request) -> AsyncIterator[Listeners]:
    """A place among the callers that follow jobs, kept until the answer is out."""
    listeners: Listeners = request.app.state.listeners
    with listeners.one_more():
        yield listeners


RuntimeOf = Annotated[Runtime, Depends(get_runtime)]
LimitsOf = Annotated[Limits, Depends(get_limits)]
JobsOf = Annotated[Jobs, Depends(get_jobs)]
PlaceOf = Annotated[Listeners, Depends(take_place)]

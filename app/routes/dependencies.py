"""What routes are handed."""

from collections.abc import AsyncIterator
from typing import Annotated, Protocol

from fastapi import Depends, Request

from app.job_events import Listeners
from app.jobs import Job
from app.queries import Query
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


async def get_runtime(request: Request) -> Runtime:
    """The runtime of the application that this request came to."""
    runtime: Runtime = request.app.state.runtime
    return runtime


RuntimeOf = Annotated[Runtime, Depends(get_runtime)]


async def get_limits(runtime: RuntimeOf) -> Limits:
    """The bounds on requests."""
    return runtime.settings.limits


async def get_jobs(request: Request) -> Jobs:
    """The jobs of the application that this request came to."""
    jobs: Jobs = request.app.state.jobs
    return jobs


async def get_query(request: Request, runtime: RuntimeOf) -> Query:
    """The work and the clock of this request; routes that read a form themselves name it after the form."""
    return Query(runtime, request.receive)


async def take_place(request: Request) -> AsyncIterator[Listeners]:
    """A place among the callers that follow jobs, kept until the answer is out."""
    listeners: Listeners = request.app.state.listeners
    with listeners.one_more():
        yield listeners


LimitsOf = Annotated[Limits, Depends(get_limits)]
QueryOf = Annotated[Query, Depends(get_query)]
JobsOf = Annotated[Jobs, Depends(get_jobs)]
PlaceOf = Annotated[Listeners, Depends(take_place)]

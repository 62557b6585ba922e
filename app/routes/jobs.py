"""``/v1/jobs``: rebuilds and how far they are."""

from functools import partial
from typing import Annotated, Any  # Any: OpenAPI is JSON

from fastapi import APIRouter, Header, Response, status
from starlette.concurrency import run_in_threadpool
from starlette.responses import StreamingResponse

from app.job_events import HEADERS, event_id, events_of
from app.routes.dependencies import JobsOf, PlaceOf
from app.routes.openapi import REF, problems
from app.schemas.jobs import JobBody, JobList

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])

EVENTS = "text/event-stream"
EVENT = {
    "type": "object",
    "properties": {
        "event": {"enum": ["progress", "end"]},
        "id": {"type": "string"},
        "data": {
            "type": "string",
            "contentMediaType": "application/json",
            "contentSchema": {"$ref": REF.format(model=JobBody.__name__)},
        },
    },
}
FOLLOWED: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "Events `progress` and at last one `end`, each with the job in `data`.",
        "content": {EVENTS: {"itemSchema": EVENT}},
    },
    204: {"description": "The caller has the end already, and need not come back."},
}


@router.get("")
def list_all(jobs: JobsOf) -> JobList:
    """Every job, newest first."""
    return JobList(jobs=[JobBody.of(job) for job in jobs.list()])


@router.get("/{job_id}", responses=problems("job_not_found"))
def show(job_id: str, jobs: JobsOf) -> JobBody:
    """One job as it stands now."""
    return JobBody.of(jobs.get(job_id))


@router.get(
    "/{job_id}/events", response_class=StreamingResponse, responses=problems("job_not_found", "overloaded") | FOLLOWED
)
async def follow(
    job_id: str, jobs: JobsOf, listeners: PlaceOf, last_event_id: Annotated[str | None, Header()] = None
) -> Response:
    """One job as server-sent events until it has ended."""
    job = await run_in_threadpool(jobs.get, job_id)
    if job.state.final and last_event_id == event_id(job):
        return Response(status_code=status.HTTP_204_NO_CONTENT)  # EventSource would come back for ever
    stream = events_of(job, partial(jobs.get, job_id), listeners.closing)
    return StreamingResponse(stream, media_type=EVENTS, headers=HEADERS)


@router.post("/{job_id}/cancel", responses=problems("job_not_found"))
def cancel(job_id: str, jobs: JobsOf) -> JobBody:
    """Stop a job before its swap; one that has ended stays as it is."""
    return JobBody.of(jobs.cancel(job_id))

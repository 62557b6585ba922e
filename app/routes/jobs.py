"""``/v1/jobs``: rebuilds and how far they are."""

from fastapi import APIRouter

from app.routes.dependencies import JobsOf
from app.routes.openapi import problems
from app.schemas.jobs import JobBody, JobList

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])


@router.get("")
def list_all(jobs: JobsOf) -> JobList:
    """Every job, newest first."""
    return JobList(jobs=[JobBody.of(job) for job in jobs.list()])


@router.get("/{job_id}", responses=problems("job_not_found"))
def show(job_id: str, jobs: JobsOf) -> JobBody:
    """One job as it stands now."""
    return JobBody.of(jobs.get(job_id))


@router.post("/{job_id}/cancel", responses=problems("job_not_found"))
def cancel(job_id: str, jobs: JobsOf) -> JobBody:
    """Stop a job before its swap; one that has ended stays as it is."""
    return JobBody.of(jobs.cancel(job_id))

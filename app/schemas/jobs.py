"""Bodies of rebuilds, rollbacks and jobs."""

from typing import Literal, Self

from pydantic import Field

from app.jobs import Job
from app.schemas.base import AnswerBody, ModelReference, Name, RequestBody


class RebuildRequest(RequestBody):
    """What a rebuild changes; everything left out stays as the running generation has it."""

    source: Name | None = Field(default=None, description="Name of a source in the settings.")
    model: Name | None = Field(default=None, description="Name of a model.")
    bits: int | None = Field(default=None, ge=8, le=4096, multiple_of=8, description="Code length.")
    reuse: bool = Field(default=True, description="Take codes of unchanged items from the running generation.")
    dry_run: bool = Field(default=False, description="Do everything but the swap.")


class RollbackRequest(RequestBody):
    """Which generation to return to."""

    generation: int | None = Field(default=None, ge=1, description="Left out: the newest one below the running one.")


class PointerBody(AnswerBody):
    """The pair (generation, model) that an index serves."""

    index: str
    generation: int
    model: ModelReference


class SkippedBody(AnswerBody):
    """An item that a job left out."""

    id: str
    reason: str


class JobBody(AnswerBody):
    """A job as it stands now."""

    id: str
    index: str
    kind: str
    state: Literal["queued", "running", "done", "failed", "cancelled"]
    done: int
    total: int
    rate: float | None = Field(description="Items per second.")
    eta_s: float | None
    skipped: list[SkippedBody]
    error: str | None = Field(default=None, exclude_if=lambda value: value is None)

    @classmethod
    def of(cls, job: Job) -> Self:
        """The body that shows this job."""
        return cls(
            id=job.id,
            index=job.index,
            kind=job.kind,
            state=job.state.value,
            done=job.done,
            total=job.total,
            rate=job.rate,
            eta_s=job.eta_s,
            skipped=[SkippedBody(id=item.id, reason=item.reason) for item in job.skipped],
            error=job.error,
        )


class JobList(AnswerBody):
    """Every job, newest first."""

    jobs: list[JobBody]

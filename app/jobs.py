"""Jobs as callers see them; light, so that routes and the command line can import it without the workflow engine.

JobError
├── RebuildRunning   the index already has an unfinished rebuild
├── JobNotFound      no job with this id
├── SourceNotFound   no source with this name
├── ModelNotFound    no artifact with this name
├── DiskFull         a rebuild would leave too little free on the disk
├── RebuildFailed    a rebuild found something wrong and did not swap
│   └── TooManyBadItems
├── WorkerTaken      another worker of this home has the id
└── JobsUnreachable  the database of jobs cannot be reached, or its address cannot be read
"""

from dataclasses import dataclass
from enum import StrEnum

from model.skipped import Skipped as Skipped


class JobState(StrEnum):
    """Where a job stands; the last three are final."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def final(self) -> bool:
        """Whether the job will never change again."""
        return self in (JobState.DONE, JobState.FAILED, JobState.CANCELLED)


@dataclass(frozen=True, slots=True)
class Job:
    """A rebuild as it stands now."""

    id: str
    index: str
    kind: str
    state: JobState
    done: int  # items that have been looked at, skipped ones included
    total: int  # 0 until the plan is made
    rate: float | None  # items per second since the job started or resumed
    eta_s: float | None  # seconds left at that rate; None when there is no rate yet or the job is final
    skipped: tuple[Skipped, ...]
    error: str | None  # why it failed


class JobError(Exception):
    """Base of every error about jobs."""


class RebuildRunning(JobError):
    """The index already has a rebuild that is queued or running."""


class JobNotFound(JobError):
    """No job has this id."""


class SourceNotFound(JobError):
    """No source of items has this name; the message lists the known ones."""


class ModelNotFound(JobError):
    """No artifact has this name; the message lists the known ones."""


class DiskFull(JobError):
    """The disk has no room for a rebuild; nothing was started."""


class RebuildFailed(JobError):
    """Something is wrong with the source or with what was built from it; the old generation stays."""


class TooManyBadItems(RebuildFailed):
    """More items were skipped than a rebuild may skip."""


class WorkerTaken(JobError):
    """Another worker of this home runs under the same id."""


class JobsUnreachable(JobError):
    """The database of jobs does not answer, or nobody knows its address."""

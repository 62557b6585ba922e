"""The demo of a first start: an ordinary rebuild of an index, of what ships with the package alone.

Asked for by ``CROSSBIT_DEMO``; until the index is there the service is not ready, and says how far it is.
"""

from collections.abc import Iterable
from contextlib import suppress
from typing import Protocol

from app.jobs import Job, JobError, JobState, RebuildRunning
from app.logs import Log
from app.settings import Settings
from index.generations import IndexDirectory

INDEX = MODEL = "demo"
SOURCE = "openclipart"

log = Log(__name__)


class Jobs(Protocol):
    """What is needed of ``app.rebuild_queue.RebuildQueue``."""

    def start(self, index: str, *, source: str, model: str) -> Job:
        """Queue a rebuild."""


def queue_demo(settings: Settings, jobs: Jobs) -> None:
    """Queue the demo's rebuild where it is wanted, unless the index is there or another worker was first."""
    if not settings.demo or IndexDirectory(settings.indexes_dir / INDEX).current() is not None:
        return
    try:
        with suppress(RebuildRunning):
            jobs.start(INDEX, source=SOURCE, model=MODEL)
    except JobError as error:  # whatever else there is can be served and rebuilt all the same
        log.error("demo_not_queued", reason=str(error))


def describe_demo(jobs: Iterable[Job]) -> str:
    """How far the demo's index is, by the jobs, newest first; why it failed is for those who may look at jobs."""
    job = next((one for one in jobs if one.index == INDEX), None)
    if job is not None and job.state is JobState.DONE:
        return "the index of the demo is built, and is being opened"
    if job is None or job.state is JobState.CANCELLED:
        return "a worker builds the index of the demo when it starts; none has yet"
    if job.state is JobState.FAILED:
        return "the index of the demo was not built: GET /v1/jobs says why; a worker that starts tries again"
    return f"building {100 * job.done // max(1, job.total)} % of the index of the demo"

"""Rebuilds as callers see them: queued, watched and cancelled in the database of jobs, whichever process works on them.

Every call here blocks: from async code, use a thread.
"""

import logging
import uuid
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, fields
from typing import Any, Protocol

from app import job_store
from app.building import Texts
from app.disk_space import check_room
from app.jobs import (
    Job,
    JobNotFound,
    JobState,
    ModelNotFound,
    RebuildRunning,
    Skipped,
    SourceNotFound,
)
from app.jobs_lock import deciding
from app.logs import EventHandler, Log
from app.rebuild_steps import RESERVED, Places, Request
from app.workflows import AlreadyQueued, Status, open_client
from index.errors import IndexNotFound
from index.generations import IndexDirectory
from model.errors import ArchiveError
from model.manifest import list_artifacts

KIND = "rebuild"  # name of the workflow of a job
SHARD = "rebuild-shard"  # name of the workflow of a part of it
WORKFLOW_VERSION = "rebuild-2"  # changes with the order or the results of the steps, and with nothing else
MAX_ATTEMPTS = 20  # a rebuild that takes the process down with it this often is given up
LISTED_JOBS = 100
DEFAULT_BITS = 64
PROGRESS = "progress"  # event of a job
SKIPPED = "skipped"  # event of a job that has met bad items
DONE = "done"  # event of a shard
FAILED = "failed"  # attribute of a workflow that was stopped for a reason that its own code could not give

STATES = {
    "DELAYED": JobState.QUEUED,
    "ENQUEUED": JobState.QUEUED,
    "PENDING": JobState.RUNNING,
    "SUCCESS": JobState.DONE,
    "ERROR": JobState.FAILED,
    "MAX_RECOVERY_ATTEMPTS_EXCEEDED": JobState.FAILED,
    "CANCELLED": JobState.CANCELLED,
}
UNFINISHED = [name for name, state in STATES.items() if not state.final]

log = Log(__name__)


class Settings(Places, job_store.Settings, Protocol):
    """What the queue needs of ``app.settings.Settings``."""

    @property
    def min_free_bytes(self) -> int:
        """What a rebuild must leave free."""

    def rebuild_sources(self) -> dict[str, str]:
        """Source name of a request -> data set."""


class RebuildQueue:
    """The jobs of one home; opened by every process that starts, watches or runs them."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def open(self) -> None:
        """Connect to the database of jobs, which is made where it is missing.

        Raises:
            JobsUnreachable: it cannot be reached.
        """
        url = job_store.database_url(self._settings)
        job_store.check_reachable(url)
        self._engine_log = EventHandler("workflow_engine_logged")
        logging.getLogger("dbos").addHandler(self._engine_log)  # without any handler dbos takes the console
        self._client = open_client(url)

    def close(self) -> None:
        """Let go of the database."""
        self._client.destroy()
        logging.getLogger("dbos").removeHandler(self._engine_log)

    def start(
        self,
        index: str,
        *,
        source: str | None = None,
        model: str | None = None,
        bits: int | None = None,
        reuse: bool = True,
        dry_run: bool = False,
        idempotency_key: str | None = None,
    ) -> Job:
        """Queue a rebuild; what is not given stays as it is in the generation that serves.

        The same ``idempotency_key`` for the same index gives the job that it gave the first time. An index that does
        not exist yet needs a source and a model.

        Raises:
            RebuildRunning, SourceNotFound, ModelNotFound, IndexNotFound, DiskFull
        """
        job_id = _job_id(index, idempotency_key)
        if (known := self.status(job_id)) is not None:
            return self._job(known)
        request = self._request(index, source, model, bits, reuse=reuse, dry_run=dry_run)
        with suppress(ArchiveError):  # the job will say what is wrong with its source
            check_room(request, self._settings)
        try:
            self._client.enqueue(
                {
                    "workflow_name": KIND,
                    "queue_name": KIND,
                    "workflow_id": job_id,
                    "deduplication_id": index,
                    "app_version": WORKFLOW_VERSION,
                },
                job_id,
                asdict(request),
            )
        except AlreadyQueued as error:
            raise RebuildRunning(f"index {index!r} already has a rebuild; wait for it or cancel it") from error
        log.info("rebuild_queued", job=job_id, **asdict(request))
        return self.get(job_id)

    def get(self, job_id: str) -> Job:
        """The job as it stands.

        Raises:
            JobNotFound
        """
        status = self.status(job_id)
        if status is None:
            raise JobNotFound(f"no job {job_id!r}; it may have been deleted with its home")
        return self._job(status)

    def list(self) -> list[Job]:
        """The newest jobs, newest first."""
        return [self._job(one) for one in self._client.list_workflows(name=KIND, limit=LISTED_JOBS, sort_desc=True)]

    def cancel(self, job_id: str) -> Job:
        """Stop a job within a batch and take back what it made; too late once it has swapped, and then it finishes.

        Raises:
            JobNotFound
        """
        index = self.get(job_id).index
        with deciding(self._settings.jobs_dir, index):
            job = self.get(job_id)
            if job.state.final or self.has_swapped(job):
                return job
            self._client.cancel_workflow(job_id, cancel_children=True)
        log.info("rebuild_cancelled", job=job_id, index=index)
        return self.get(job_id)

    def fail(self, job_id: str, reason: str) -> None:
        """Stop a job that no worker can go on with."""
        self._client.update_workflow_attributes(job_id, {FAILED: reason})
        self._client.cancel_workflow(job_id, cancel_children=True)
        log.warning("rebuild_given_up", job=job_id, reason=reason)

    def status(self, job_id: str) -> Status | None:
        """What the workflow engine knows of a job."""
        found = self._client.list_workflows(workflow_ids=[job_id], name=KIND)
        return found[0] if found else None

    def has(self, worker: str, workflow_id: str) -> bool:
        """Whether this worker has that job or shard."""
        found = self._client.list_workflows(workflow_ids=[workflow_id], load_input=False, load_output=False)
        return [(one.status, one.executor_id) for one in found] == [("PENDING", worker)]

    def is_over(self, job_id: str) -> bool:
        """Whether the job has ended."""
        status = self.status(job_id)
        return status is not None and STATES[status.status].final

    def unfinished(self) -> Sequence[Status]:
        """What the workflow engine knows of the jobs that have not ended."""
        return self._client.list_workflows(name=KIND, status=UNFINISHED)

    def taken(self) -> Sequence[Status]:
        """What the workflow engine knows of the jobs and shards that workers have, or had when they died."""
        return self._client.list_workflows(status="PENDING", load_input=False)

    def shards(self, shard_ids: Sequence[str]) -> Sequence[Status]:
        """What the workflow engine knows of these shards."""
        return self._client.list_workflows(workflow_ids=list(shard_ids), load_input=False)

    def event(self, workflow_id: str, key: str) -> Any:  # noqa: ANN401 - JSON
        """What a workflow has last shown under this key, if anything."""
        return self._client.get_event(workflow_id, key, 0)

    def cancel_shards(self, job_id: str) -> None:
        """Stop what is left of the shards of a job that failed."""
        left = self._client.list_workflows(
            parent_workflow_id=job_id, status=UNFINISHED, load_input=False, load_output=False
        )
        self._client.cancel_workflows([one.workflow_id for one in left])

    def has_swapped(self, job: Job) -> bool:
        """Whether the job's generation has become the one that serves; for who holds the lock on deciding."""
        steps = self._client.list_workflow_steps(job.id)
        if any(step["function_name"] == "swap" and step["error"] is None for step in steps):
            return True
        reserved = self._settings.jobs_dir / job.id / RESERVED
        current = IndexDirectory(self._settings.indexes_dir / job.index).current()
        return current is not None and reserved.is_file() and int(reserved.read_text()) == current.generation

    def _request(
        self, index: str, source: str | None, model: str | None, bits: int | None, *, reuse: bool, dry_run: bool
    ) -> Request:
        directory = IndexDirectory(self._settings.indexes_dir / index)
        pointer = directory.current()
        sources = self._settings.rebuild_sources()
        if source is not None and source not in sources:
            raise SourceNotFound(f"no source named {source!r}; known: {', '.join(sorted(sources)) or 'none'}")
        artifacts = list_artifacts(self._settings.artifacts_dir)
        if model is not None and model not in artifacts:
            raise ModelNotFound(f"no artifact named {model!r}; known: {', '.join(artifacts) or 'none'}")
        if pointer is not None:
            old = directory.manifest(pointer.generation)
            return Request(
                index=index,
                source=old.source if source is None else sources[source],
                artifact=old.artifact if model is None else model,
                bits=old.bits if bits is None else bits,
                texts=old.texts,
                reuse=reuse,
                dry_run=dry_run,
            )
        if source is None or model is None:
            raise IndexNotFound(f"no index named {index!r}; to make it, name a source and a model")
        return Request(index, sources[source], model, bits or DEFAULT_BITS, Texts.FIRST, reuse, dry_run)

    def _job(self, status: Status) -> Job:
        given_up = (status.attributes or {}).get(FAILED)
        state = STATES[status.status] if given_up is None else JobState.FAILED
        progress = self.event(status.workflow_id, PROGRESS) or {}
        return Job(
            id=status.workflow_id,
            index=request_of(status).index,
            kind=KIND,
            state=state,
            done=progress.get("done", 0),
            total=progress.get("total", 0),
            rate=progress.get("rate"),
            eta_s=None if state.final else progress.get("eta_s"),
            skipped=tuple(Skipped(*one) for one in self.event(status.workflow_id, SKIPPED) or ()),
            error=given_up or error_of(status),
        )


def request_of(status: Status) -> Request:
    """The request that a job was started with; what an earlier or later version has beyond this one's is left out.

    Raises:
        JobNotFound: the job cannot be read at all.
    """
    try:
        raw: dict[str, Any] = status.input["args"][1] if status.input else {}  # Any: JSON
        known: dict[str, Any] = {one.name: raw.get(one.name) for one in fields(Request)}
        return Request(**known | {"index": raw["index"]})
    except (KeyError, IndexError) as error:
        raise JobNotFound(f"job {status.workflow_id} was written by a version that this one cannot read") from error


def _job_id(index: str, idempotency_key: str | None) -> str:
    if idempotency_key is None:
        return str(uuid.uuid4())
    return str(uuid.uuid5(uuid.NAMESPACE_OID, f"{index} {idempotency_key}"))


def shard_id(job_id: str, number: int) -> str:
    """Id of the workflow of a shard."""
    return f"{job_id}-{number}"


def error_of(status: Status) -> str | None:
    """Why a job or shard failed."""
    if status.status == "MAX_RECOVERY_ATTEMPTS_EXCEEDED":
        return f"the process ended {MAX_ATTEMPTS} times during this rebuild; find out why, then start again"
    return None if status.error is None else str(status.error)

"""Rebuilds as durable workflows: the only importer of dbos, itself imported when jobs start and not before.

plan -> one step a shard -> write -> verify -> swap -> prune. dbos records every finished step in an SQLite file; after
a crash the next ``launch`` goes on behind the last recorded one. Every call here blocks: from async code, use a thread.
"""

import logging
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

from dbos import DBOS, DBOSConfig, DBOSPortableJSONSerializer, SetEnqueueOptions, SetWorkflowID, WorkflowStatus
from dbos import error as dbos_errors

from app.building import SHARD_ITEMS, Texts, check_skipped
from app.jobs import Job, JobError, JobNotFound, JobState, ModelNotFound, RebuildRunning, Skipped, SourceNotFound
from app.jobs_lock import lock_jobs
from app.logs import EventHandler, Log, with_fields
from app.meter import Meter
from app.metrics import Metrics
from app.rebuild_steps import LoadHasher, Places, Plan, RebuildSteps, Request
from index.errors import IndexNotFound, SearchError
from index.generations import IndexDirectory
from model.manifest import list_artifacts

KIND = "rebuild"  # name of the workflow and of its queue
EXECUTOR = "local"  # there is one worker a home, so the one that starts takes over what the last one left
WORKFLOW_VERSION = "rebuild-1"  # changes with the order or the results of the steps, and with nothing else
MAX_ATTEMPTS = 20  # a rebuild that takes the process down with it this often is given up
POLL_S = 0.5
CLOSE_S = 60.0  # longest wait for a running batch when closing
LISTED_JOBS = 100
DEFAULT_BITS = 64

STATES = {
    "DELAYED": JobState.QUEUED,
    "ENQUEUED": JobState.QUEUED,
    "PENDING": JobState.RUNNING,
    "SUCCESS": JobState.DONE,
    "ERROR": JobState.FAILED,
    "MAX_RECOVERY_ATTEMPTS_EXCEEDED": JobState.FAILED,
    "CANCELLED": JobState.CANCELLED,
}

STOPPED = (dbos_errors.DBOSWorkflowCancelledError, dbos_errors.DBOSWorkflowConflictIDError)

log = Log(__name__)


class Settings(Places, Protocol):
    """What rebuilds need of ``app.settings.Settings``."""

    @property
    def jobs_dir(self) -> Path:
        """Where jobs keep their state."""

    def rebuild_sources(self) -> dict[str, str]:
        """Source name of a request -> data set."""


class _Closing(BaseException):
    """Stops a workflow without an outcome, so that the next launch resumes it; no handler of dbos may catch it."""


class Rebuilds:
    """The rebuilds of one home: started, watched, cancelled, and resumed after any end of the process."""

    def __init__(
        self,
        settings: Settings,
        *,
        load_hasher: LoadHasher,
        on_swap: Callable[[str], None],
        metrics: Metrics | None = None,
    ) -> None:
        self._settings = settings
        self._metrics = metrics or Metrics()
        self._load_hasher = load_hasher
        self._on_swap = on_swap
        self._closing = threading.Event()
        self._swapping = threading.Lock()
        self._meters: dict[str, Meter] = {}  # of the jobs that run, finer than what dbos records
        self._cancelled: set[str] = set()
        self._swapped: set[str] = set()
        self._running = 0
        self._idle = threading.Condition()

    def launch(self) -> None:
        """Take the jobs of this home and go on with those that were interrupted.

        Raises:
            JobsLocked: another process has them.
        """
        directory = self._settings.jobs_dir.absolute()
        self._lock = lock_jobs(directory)
        self._engine_log = EventHandler("workflow_engine_logged")
        logging.getLogger("dbos").addHandler(self._engine_log)  # without any handler dbos takes the console
        DBOS(
            config=DBOSConfig(
                name="crossbit",
                system_database_url=f"sqlite:///{directory / 'jobs.sqlite'}",
                executor_id=EXECUTOR,
                application_version=WORKFLOW_VERSION,
                serializer=DBOSPortableJSONSerializer(),  # the default is pickle
                enable_otlp=False,
                log_level="WARNING",
            )
        )
        self._workflow = DBOS.workflow(name=KIND, max_recovery_attempts=MAX_ATTEMPTS)(self._workflow_function())
        DBOS.launch()
        DBOS.register_queue(KIND, worker_concurrency=1, polling_interval_sec=POLL_S, on_conflict="always_update")
        self._sweep()

    def close(self) -> None:
        """Stop within a batch; what runs stays as it is for the next launch."""
        self._closing.set()
        with self._idle:
            self._idle.wait_for(lambda: not self._running, timeout=CLOSE_S)
        DBOS.destroy(destroy_registry=True)
        logging.getLogger("dbos").removeHandler(self._engine_log)
        self._lock.close()

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
            RebuildRunning, SourceNotFound, ModelNotFound, IndexNotFound
        """
        job_id = _job_id(index, idempotency_key)
        if (known := self._status(job_id)) is not None:
            return self._job(known)
        request = self._request(index, source, model, bits, reuse=reuse, dry_run=dry_run)
        try:
            with SetWorkflowID(job_id), SetEnqueueOptions(deduplication_id=index):
                DBOS.enqueue_workflow(KIND, self._workflow, job_id, asdict(request))
        except dbos_errors.DBOSQueueDeduplicatedError as error:
            raise RebuildRunning(f"index {index!r} already has a rebuild; wait for it or cancel it") from error
        log.info("rebuild_queued", job=job_id, **asdict(request))
        return self.get(job_id)

    def get(self, job_id: str) -> Job:
        """The job as it stands.

        Raises:
            JobNotFound
        """
        status = self._status(job_id)
        if status is None:
            raise JobNotFound(f"no job {job_id!r}; it may have been deleted with its home")
        return self._job(status)

    def list(self) -> list[Job]:
        """The newest jobs, newest first."""
        return [self._job(one) for one in DBOS.list_workflows(name=KIND, limit=LISTED_JOBS, sort_desc=True)]

    def cancel(self, job_id: str) -> Job:
        """Stop a job within a batch and take back what it made; too late once it has swapped, and then it finishes.

        Raises:
            JobNotFound
        """
        with self._swapping:
            job = self.get(job_id)
            if job.state.final or job_id in self._swapped:
                return job
            self._cancelled.add(job_id)
            DBOS.cancel_workflow(job_id)
        log.info("rebuild_cancelled", job=job_id, index=job.index)
        return self.get(job_id)

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

    def _workflow_function(self) -> Callable[[str, dict[str, Any]], None]:
        def rebuild(job_id: str, request: dict[str, Any]) -> None:
            self._run(job_id, Request(**request))

        return rebuild

    def _run(self, job_id: str, request: Request) -> None:
        steps = self._steps(job_id, request)
        started = time.monotonic()
        with self._counted(), with_fields(job=job_id):
            try:
                plan = Plan(**DBOS.run_step({"name": "plan"}, lambda: asdict(steps.plan())))
                items = self._build(job_id, steps, plan)
                if request.dry_run:
                    DBOS.run_step({"name": "discard"}, steps.discard)
                    return
                self._publish(job_id, steps, plan)
                took_s = time.monotonic() - started
                self._metrics.record_rebuild(took_s)
                log.info(
                    "rebuild_finished",
                    job=job_id,
                    index=request.index,
                    generation=plan.generation,
                    items=items,
                    took_s=round(took_s, 1),
                )
            except (Exception, *STOPPED) as error:
                # the job keeps the message, which may name items
                is_unforeseen = not isinstance(error, (JobError, SearchError, *STOPPED))
                log.warning(
                    "rebuild_stopped",
                    job=job_id,
                    index=request.index,
                    error=type(error).__name__,
                    exc_info=error if is_unforeseen else None,
                )
                if self._is_over(job_id, error):
                    steps.discard()
                    if job_id not in self._cancelled:
                        self._metrics.record_failed_rebuild()
                raise
            finally:
                steps.close()
                self._meters.pop(job_id, None)

    def _build(self, job_id: str, steps: RebuildSteps, plan: Plan) -> int:
        """Make and check the new generation; returns its number of items."""
        meter: Meter | None = None
        skipped: list[Skipped] = []

        def encode(number: int) -> list[list[str]]:
            nonlocal meter
            meter = meter or Meter(plan.total, done=number * SHARD_ITEMS)
            self._meters[job_id] = meter
            shard = steps.encode_shard(plan, number, progress=self._progress(job_id, meter))
            DBOS.set_event("progress", _progress_of(meter))
            encoded = len(shard.items) - shard.reused
            self._metrics.record_rebuilt(encoded=encoded, reused=shard.reused, skipped=len(shard.skipped))
            return [[one.id, one.reason] for one in shard.skipped]

        for number in range(plan.shards):
            skipped += [Skipped(*one) for one in DBOS.run_step({"name": "encode_shard"}, encode, number)]
            check_skipped(skipped, plan.total)
        items = plan.total - len(skipped)
        self._check(job_id)
        DBOS.run_step({"name": "write"}, steps.write, plan)
        self._check(job_id)
        DBOS.run_step({"name": "verify"}, lambda: steps.verify(plan, items=items))
        return items

    def _publish(self, job_id: str, steps: RebuildSteps, plan: Plan) -> None:
        DBOS.run_step({"name": "swap"}, lambda: self._swap(job_id, steps, plan))
        self._swapped.add(job_id)
        DBOS.run_step({"name": "prune"}, lambda: self._prune(job_id, steps))

    def _swap(self, job_id: str, steps: RebuildSteps, plan: Plan) -> None:
        with self._swapping:
            self._check(job_id)
            steps.swap(plan)
            self._swapped.add(job_id)
        try:
            self._on_swap(steps.request.index)
        except Exception as error:  # the pointer has moved: the rebuild is done, whatever became of this server
            log.error("swap_not_served", job=job_id, index=steps.request.index, reason=str(error), exc_info=error)

    def _prune(self, job_id: str, steps: RebuildSteps) -> None:
        try:
            steps.prune()
        except OSError as error:  # the rebuild is done; the next one prunes again
            log.warning("prune_failed", job=job_id, index=steps.request.index, reason=error.strerror)

    def _is_over(self, job_id: str, error: BaseException) -> bool:
        """Whether nobody needs any more what the job made: it has an outcome, and that is not a swap."""
        if job_id in self._swapped:
            return False
        return job_id in self._cancelled or not (self._closing.is_set() or isinstance(error, STOPPED))

    def _progress(self, job_id: str, meter: Meter) -> Callable[[int], None]:
        def advance(count: int) -> None:
            self._check(job_id)
            meter.add(count)

        return advance

    def _check(self, job_id: str) -> None:
        if self._closing.is_set():
            raise _Closing
        if job_id in self._cancelled:
            raise dbos_errors.DBOSWorkflowCancelledError(f"job {job_id} was cancelled")

    @contextmanager
    def _counted(self) -> Iterator[None]:
        with self._idle:
            self._running += 1
        try:
            yield
        finally:
            with self._idle:
                self._running -= 1
                self._idle.notify_all()

    def _steps(self, job_id: str, request: Request) -> RebuildSteps:
        return RebuildSteps(request, self._settings.jobs_dir / job_id, self._settings, self._load_hasher)

    def _sweep(self) -> None:
        """Clean up behind jobs that ended while their process was already dead."""
        for work_dir in self._settings.jobs_dir.iterdir():
            status = self._status(work_dir.name) if work_dir.is_dir() else None
            if status is None or not STATES[status.status].final:
                continue
            steps = self._steps(work_dir.name, _request_of(status))
            if STATES[status.status] is JobState.DONE:
                steps.clear()  # its generation has served, and may be one to roll back to
            else:
                steps.discard()

    def _status(self, job_id: str) -> WorkflowStatus | None:
        found = DBOS.list_workflows(workflow_ids=[job_id], name=KIND)
        return found[0] if found else None

    def _job(self, status: WorkflowStatus) -> Job:
        state = STATES[status.status]
        results = _results(status.workflow_id)
        meter = self._meters.get(status.workflow_id)
        recorded = DBOS.get_all_events(status.workflow_id).get("progress", {})
        progress = recorded if meter is None else _progress_of(meter)
        return Job(
            id=status.workflow_id,
            index=_request_of(status).index,
            kind=KIND,
            state=state,
            done=progress.get("done", 0),
            total=next((output["total"] for name, output in results if name == "plan"), 0),
            rate=progress.get("rate"),
            eta_s=None if state.final else progress.get("eta_s"),
            skipped=tuple(Skipped(*one) for name, output in results if name == "encode_shard" for one in output),
            error=_error_of(status),
        )


def _job_id(index: str, idempotency_key: str | None) -> str:
    if idempotency_key is None:
        return str(uuid.uuid4())
    return str(uuid.uuid5(uuid.NAMESPACE_OID, f"{index} {idempotency_key}"))


def _progress_of(meter: Meter) -> dict[str, Any]:  # Any: JSON
    return {"done": meter.done, "rate": meter.rate, "eta_s": meter.eta_s}


def _results(job_id: str) -> list[tuple[str, Any]]:  # Any: JSON
    """Name and result of every step that succeeded, in order."""
    steps = DBOS.list_workflow_steps(job_id)
    return [(step["function_name"], step["output"]) for step in steps if step["error"] is None]


def _request_of(status: WorkflowStatus) -> Request:
    if status.input is None:
        raise JobNotFound(f"job {status.workflow_id} was written by a version that this one cannot read")
    return Request(**status.input["args"][1])


def _error_of(status: WorkflowStatus) -> str | None:
    if status.status == "MAX_RECOVERY_ATTEMPTS_EXCEEDED":
        return f"the process ended {MAX_ATTEMPTS} times during this rebuild; find out why, then start again"
    return None if status.error is None else str(status.error)

"""The worker that runs rebuilds as durable workflows; imported when one starts and not before.

plan -> one step a shard -> write -> verify -> swap -> prune. dbos records every finished step in the database of jobs;
after a crash the worker that is started again, or another one, goes on behind the last recorded one.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

from dbos import DBOS, DBOSConfig, DBOSPortableJSONSerializer
from dbos import error as dbos_errors

from app import job_store, rebuild_queue
from app.building import SHARD_ITEMS, check_skipped
from app.disk_space import check_room
from app.heartbeats import Heartbeats
from app.job_spans import JobSpans
from app.jobs import JobError, JobState, Skipped
from app.jobs_lock import deciding, rebuilding, take_worker_id, try_rebuilding
from app.logs import Log, with_fields
from app.meter import Meter
from app.metrics import Metrics
from app.rebuild_queue import APPLICATION, KIND, MAX_ATTEMPTS, PROGRESS, STATES, WORKFLOW_VERSION, RebuildQueue
from app.rebuild_steps import LoadHasher, Plan, RebuildSteps, Request
from app.takeover import Takeover
from index.errors import SearchError

POLL_S = 0.5
PROGRESS_S = 0.5  # between two notes of progress; a cancelled job, or one that was taken over, is noticed with them
CLOSE_S = 60.0  # longest wait for a running batch when closing

STOPPED = (dbos_errors.DBOSWorkflowCancelledError, dbos_errors.DBOSWorkflowConflictIDError)

log = Log(__name__)


class Settings(rebuild_queue.Settings, Protocol):
    """What a worker needs of ``app.settings.Settings``."""

    @property
    def max_bad_share(self) -> float:
        """Share of bad items beyond which nothing is swapped."""

    @property
    def worker_id(self) -> str | None:
        """Name of this worker."""

    @property
    def worker_timeout_s(self) -> float:
        """Seconds without a sign of life after which a worker is dead."""


class _Leaving(BaseException):
    """Ends a workflow in this process without an outcome: its job is another's now, or the next launch's.

    No handler of dbos may catch it.
    """


class RebuildWorker:
    """Runs the rebuilds of one home, one at a time; dbos allows one a process."""

    def __init__(
        self,
        settings: Settings,
        queue: RebuildQueue,
        *,
        load_hasher: LoadHasher,
        on_swap: Callable[[str], None] = lambda index: None,
        metrics: Metrics | None = None,
        spans: JobSpans | None = None,
    ) -> None:
        self._settings = settings
        self._queue = queue
        self._metrics = metrics or Metrics()
        self._load_hasher = load_hasher
        self._spans = spans or JobSpans()
        self._on_swap = on_swap
        self._closing = threading.Event()
        self._swapped: set[str] = set()
        self._running = 0
        self._idle = threading.Condition()

    @property
    def name(self) -> str:
        """The id that no other worker has."""
        return self._name

    def launch(self) -> None:
        """Work off the queue, and go on with what a worker of this name left unfinished.

        Raises:
            WorkerTaken: a worker of this name runs already.
        """
        url = job_store.database_url(self._settings)
        self._name, self._lock = take_worker_id(self._settings.jobs_dir, self._settings.worker_id)
        self._heartbeats = Heartbeats(url, self._settings.worker_timeout_s)
        self._heartbeats.beat(self._name, WORKFLOW_VERSION)  # before anybody can see a job of ours
        self._metrics.watch_worker(self._name, self._heartbeats.beat_age_s)
        DBOS(
            config=DBOSConfig(
                name=APPLICATION,
                system_database_url=url,
                executor_id=self._name,
                application_version=WORKFLOW_VERSION,
                serializer=DBOSPortableJSONSerializer(),  # the default is pickle
                enable_otlp=False,
                log_level="WARNING",
            )
        )
        DBOS.workflow(name=KIND, max_recovery_attempts=MAX_ATTEMPTS)(self._workflow_function())
        DBOS.launch()
        DBOS.register_queue(KIND, worker_concurrency=1, polling_interval_sec=POLL_S, on_conflict="always_update")
        self._takeover = Takeover(
            self._name,
            WORKFLOW_VERSION,
            self._heartbeats,
            self._queue,
            recover=lambda worker: DBOS._recover_pending_workflows([worker]),  # the engine has no public name for it
            sweep=self._sweep,
        )
        self._takeover.start()

    def close(self) -> None:
        """Stop within a batch; what runs stays as it is for the next launch."""
        self._closing.set()
        with self._idle:
            self._idle.wait_for(lambda: not self._running, timeout=CLOSE_S)
        self._takeover.stop()
        DBOS.destroy(destroy_registry=True)
        self._heartbeats.close()
        self._lock.close()

    def _workflow_function(self) -> Callable[[str, dict[str, Any]], None]:
        def rebuild(job_id: str, request: dict[str, Any]) -> None:
            wanted = Request(**request)
            try:
                with (
                    with_fields(job=job_id),
                    self._counted(),
                    rebuilding(self._settings.jobs_dir, wanted.index, lambda: self._check(job_id)),
                ):
                    self._run(job_id, wanted)
            except STOPPED as error:  # dbos would keep a thread waiting for what the job comes to elsewhere
                raise _Leaving from error

        return rebuild

    def _run(self, job_id: str, request: Request) -> None:
        steps = self._steps(job_id, request)
        started = time.monotonic()
        try:
            self._check(job_id)
            plan = Plan(**DBOS.run_step({"name": "plan"}, lambda: self._plan(steps)))
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
        except STOPPED as error:
            log.warning("rebuild_stopped", job=job_id, index=request.index, error=type(error).__name__)
            if job_id not in self._swapped and self._state(job_id) is JobState.CANCELLED:
                steps.discard()
            raise
        except Exception as error:
            # the job keeps the message, which may name items
            is_unforeseen = not isinstance(error, (JobError, SearchError))
            log.warning(
                "rebuild_stopped",
                job=job_id,
                index=request.index,
                error=type(error).__name__,
                exc_info=error if is_unforeseen else None,
            )
            if job_id not in self._swapped and self._is_ours(job_id):
                steps.discard()
                self._metrics.record_failed_rebuild()
            raise
        finally:
            steps.close()

    def _plan(self, steps: RebuildSteps) -> dict[str, Any]:  # Any: JSON
        check_room(steps.request, self._settings)  # again: the job may have waited for long
        return asdict(steps.plan())

    def _build(self, job_id: str, steps: RebuildSteps, plan: Plan) -> int:
        """Make and check the new generation; returns its number of items."""
        meter: Meter | None = None
        skipped: list[Skipped] = []

        def encode(number: int) -> list[list[str]]:
            nonlocal meter
            meter = meter or Meter(plan.total, done=number * SHARD_ITEMS)
            shard = steps.encode_shard(plan, number, progress=self._progress(job_id, meter))
            DBOS.set_event(PROGRESS, _progress_of(meter))
            encoded = len(shard.items) - shard.reused
            self._metrics.record_rebuilt(encoded=encoded, reused=shard.reused, skipped=len(shard.skipped))
            return [[one.id, one.reason] for one in shard.skipped]

        for number in range(plan.shards):
            skipped += [Skipped(*one) for one in DBOS.run_step({"name": "encode_shard"}, encode, number)]
            check_skipped(skipped, plan.total, max_share=self._settings.max_bad_share)
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
        steps.catch_up(plan, progress=lambda _: self._check(job_id))
        with deciding(self._settings.jobs_dir, steps.request.index):
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

    def _progress(self, job_id: str, meter: Meter) -> Callable[[int], None]:
        noted = time.monotonic()

        def advance(count: int) -> None:
            nonlocal noted
            self._leave_when_closing()
            meter.add(count)
            if time.monotonic() - noted >= PROGRESS_S:
                DBOS.set_event(PROGRESS, _progress_of(meter))  # raises where the job is not ours any more
                noted = time.monotonic()

        return advance

    def _check(self, job_id: str) -> None:
        self._leave_when_closing()
        if not self._is_ours(job_id):
            raise dbos_errors.DBOSWorkflowConflictIDError(job_id)

    def _leave_when_closing(self) -> None:
        if self._closing.is_set():
            raise _Leaving

    def _is_ours(self, job_id: str) -> bool:
        status = self._queue.status(job_id)
        return status is not None and (status.status, status.executor_id) == ("PENDING", self._name)

    def _state(self, job_id: str) -> JobState | None:
        status = self._queue.status(job_id)
        return None if status is None else STATES[status.status]

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
        return RebuildSteps(request, self._settings.jobs_dir / job_id, self._settings, self._load_hasher, self._spans)

    def _sweep(self) -> None:
        """Clean up behind jobs that ended while their process was already dead."""
        for work_dir in self._settings.jobs_dir.iterdir():
            if work_dir.is_dir() and (status := self._queue.status(work_dir.name)) is not None:
                self._clean_up(work_dir, rebuild_queue.request_of(status))

    def _clean_up(self, work_dir: Path, request: Request) -> None:
        lock = try_rebuilding(self._settings.jobs_dir, request.index)
        if lock is None:  # somebody is at work there, and cleans up
            return
        try:
            state = self._state(work_dir.name)  # again, now that nobody else can change what is there
            if state is JobState.DONE:
                self._steps(work_dir.name, request).clear()  # its generation has served, and may be one to roll back to
            elif state is not None and state.final:
                self._steps(work_dir.name, request).discard()
        finally:
            lock.close()


def _progress_of(meter: Meter) -> dict[str, Any]:  # Any: JSON
    return {"done": meter.done, "rate": meter.rate, "eta_s": meter.eta_s}

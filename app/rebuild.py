"""The worker that runs rebuilds as durable workflows; imported when one starts and not before.

plan -> shards -> write -> verify -> swap -> prune: the worker that has the job takes these steps, and any worker takes
the shards (``app/shards.py``). The database of jobs records every finished step and shard; after a crash the worker
that is started again, or another one, goes on behind the last recorded one.
"""

import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

from app import job_store, rebuild_queue, workflows
from app.disk_space import check_room
from app.heartbeats import Heartbeats
from app.job_spans import JobSpans
from app.jobs import JobError, JobState
from app.jobs_lock import deciding, rebuilding, take_worker_id, try_rebuilding
from app.logs import Log, with_fields
from app.metrics import Metrics
from app.open_rebuilds import OpenRebuilds
from app.ownership import Ownership
from app.rebuild_queue import KIND, MAX_ATTEMPTS, SHARD, STATES, WORKFLOW_VERSION, RebuildQueue
from app.rebuild_steps import LoadHasher, Plan, RebuildSteps, Request
from app.shards import AT_ONCE, ShardEncoder, ShardWatch, enqueue_shards
from app.takeover import Takeover
from app.workflows import STOPPED, Kind, step
from index.errors import SearchError

POLL_S = 0.5  # between two looks at the queues, and at the shards of a running job
PROGRESS_S = 0.5  # between two notes of a shard's progress; that it was cancelled or taken over is noticed with them

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
        self._rebuilds = OpenRebuilds(settings.jobs_dir, settings, load_hasher, spans or JobSpans())
        self._on_swap = on_swap
        self._swapped: set[str] = set()

    @property
    def name(self) -> str:
        """The id that no other worker has."""
        return self._name

    def launch(self) -> None:
        """Work off the queues, and go on with what a worker of this name left unfinished.

        Raises:
            WorkerTaken: a worker of this name runs already.
        """
        url = job_store.database_url(self._settings)
        self._name, self._lock = take_worker_id(self._settings.jobs_dir, self._settings.worker_id)
        self._heartbeats = Heartbeats(url, self._settings.worker_timeout_s)
        self._heartbeats.beat(self._name, WORKFLOW_VERSION)  # before anybody can see a job of ours
        self._metrics.watch_worker(self._name, self._heartbeats.beat_age_s)
        self._ownership = Ownership(self._queue, self._name)
        shards = ShardEncoder(self._queue, self._ownership, self._rebuilds, self._metrics, every_s=PROGRESS_S)
        kinds = [
            Kind(KIND, self._workflow(), at_once=1, attempts=MAX_ATTEMPTS),
            Kind(SHARD, shards.workflow(), at_once=AT_ONCE, attempts=MAX_ATTEMPTS),
        ]
        workflows.launch(url, kinds, worker=self._name, version=WORKFLOW_VERSION, poll_s=POLL_S)
        self._takeover = Takeover(
            self._name,
            WORKFLOW_VERSION,
            self._heartbeats,
            self._queue,
            recover=workflows.recover,
            sweep=self._sweep,
        )
        self._takeover.start()

    def close(self) -> None:
        """Stop within a batch; what runs stays as it is for the next launch."""
        self._ownership.close()
        self._takeover.stop()
        workflows.end()
        self._rebuilds.close_ended(lambda _: True)
        self._heartbeats.close()
        self._lock.close()

    def _workflow(self) -> Callable[[str, dict[str, Any]], None]:
        def rebuild(job_id: str, request: dict[str, Any]) -> None:
            wanted = Request(**request)
            with (
                self._ownership.running(),
                with_fields(job=job_id),
                rebuilding(self._settings.jobs_dir, wanted.index, lambda: self._ownership.check(job_id)),
            ):
                self._run(job_id, wanted)

        return rebuild

    def _run(self, job_id: str, request: Request) -> None:
        steps = self._rebuilds.steps(job_id, request)
        started = time.monotonic()
        try:
            self._ownership.check(job_id)
            plan = Plan(**step("plan", lambda: self._plan(steps)))
            items = self._build(job_id, request, steps, plan)
            if request.dry_run:
                step("discard", steps.discard)
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
                self._rebuilds.close(job_id)
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
            if job_id not in self._swapped and self._ownership.has(job_id):
                self._queue.cancel_shards(job_id)
                self._rebuilds.close(job_id)
                steps.discard()
                self._metrics.record_failed_rebuild()
            raise
        finally:
            self._rebuilds.close(job_id)

    def _plan(self, steps: RebuildSteps) -> dict[str, Any]:  # Any: JSON
        check_room(steps.request, self._settings)  # again: the job may have waited for long
        return asdict(steps.plan())

    def _build(self, job_id: str, request: Request, steps: RebuildSteps, plan: Plan) -> int:
        """Make and check the new generation; returns its number of items."""
        enqueue_shards(job_id, request, plan, self._ownership.check_open)
        items = plan.total - len(step("encode", self._encode, job_id, plan))
        self._ownership.check(job_id)
        step("write", steps.write, plan)
        self._ownership.check(job_id)
        step("verify", lambda: steps.verify(plan, items=items))
        return items

    def _encode(self, job_id: str, plan: Plan) -> list[list[str]]:
        """Wait for the shards, which this worker and others encode; returns the ids of bad items, with reasons."""
        watch = ShardWatch(self._queue, job_id, plan, max_bad_share=self._settings.max_bad_share)
        while not watch.look():
            self._ownership.pause(POLL_S)
            self._ownership.check(job_id)
        return watch.skipped

    def _publish(self, job_id: str, steps: RebuildSteps, plan: Plan) -> None:
        step("swap", lambda: self._swap(job_id, steps, plan))
        self._swapped.add(job_id)
        step("prune", lambda: self._prune(job_id, steps))

    def _swap(self, job_id: str, steps: RebuildSteps, plan: Plan) -> None:
        steps.catch_up(plan, progress=lambda _: self._ownership.check(job_id))
        with deciding(self._settings.jobs_dir, steps.request.index):
            self._ownership.check(job_id)
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

    def _state(self, job_id: str) -> JobState | None:
        status = self._queue.status(job_id)
        return None if status is None else STATES[status.status]

    def _sweep(self) -> None:
        """Clean up behind jobs that ended while their process was already dead."""
        for work_dir in self._settings.jobs_dir.iterdir():
            if work_dir.is_dir() and (status := self._queue.status(work_dir.name)) is not None:
                self._clean_up(work_dir, rebuild_queue.request_of(status))
        self._rebuilds.close_ended(self._queue.is_over)

    def _clean_up(self, work_dir: Path, request: Request) -> None:
        lock = try_rebuilding(self._settings.jobs_dir, request.index)
        if lock is None:  # somebody is at work there, and cleans up
            return
        try:
            state = self._state(work_dir.name)  # again, now that nobody else can change what is there
            if state is JobState.DONE:  # its generation has served, and may be one to roll back to
                self._rebuilds.new(work_dir.name, request).clear()
            elif state is not None and state.final:
                self._rebuilds.new(work_dir.name, request).discard()
        finally:
            lock.close()

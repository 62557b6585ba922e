"""The shards of a rebuild: queued by the worker that has the job, encoded by every worker that is free.

A shard is a workflow of its own, so each is checkpointed, taken over and cancelled like a job. What it encoded lies in
the job's folder, which all workers share; the database holds who has it and which items were bad.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

from app.building import SHARD_ITEMS, check_skipped
from app.jobs import JobError, JobState, RebuildFailed, Skipped
from app.logs import Log, with_fields
from app.meter import Meter
from app.metrics import Metrics
from app.open_rebuilds import OpenRebuilds
from app.ownership import Ownership
from app.rebuild_queue import (
    DONE,
    PROGRESS,
    SHARD,
    SKIPPED,
    STATES,
    WORKFLOW_VERSION,
    RebuildQueue,
    error_of,
    shard_id,
)
from app.rebuild_steps import Plan, Request
from app.workflows import current_id, enqueue_child, publish, step
from index.errors import SearchError

AT_ONCE = 2  # shards that a worker takes: it encodes one, and the next waits, so that it need not look for it
LOOK_AHEAD = 256  # unfinished shards that are looked at together; more than workers take at a time

log = Log(__name__)


class ShardEncoder:
    """Encodes shards of any job in this process."""

    def __init__(
        self, queue: RebuildQueue, ownership: Ownership, rebuilds: OpenRebuilds, metrics: Metrics, *, every_s: float
    ) -> None:
        self._queue = queue
        self._ownership = ownership
        self._rebuilds = rebuilds
        self._metrics = metrics
        self._every_s = every_s  # between two notes of progress

    def workflow(self) -> Callable[..., list[list[str]]]:
        """The workflow of one shard; its result is the ids of bad items, each with a reason."""

        def encode_shard(job_id: str, number: int, request: dict[str, Any], plan: dict[str, Any]) -> list[list[str]]:
            with self._ownership.running(), with_fields(job=job_id), self._rebuilds.in_hand(job_id):
                return step("encode", self._encode, job_id, number, Request(**request), Plan(**plan))

        return encode_shard

    def _encode(self, job_id: str, number: int, request: Request, plan: Plan) -> list[list[str]]:
        if self._queue.is_over(job_id):  # it ended in the moment that this shard was queued
            return []
        try:
            steps = self._rebuilds.steps(job_id, request)
            shard = steps.encode_shard(plan, number, progress=self._progress(), turn=self._turn())
        except Exception as error:
            self._ownership.check(current_id())  # a job that has ended takes its folder away
            is_unforeseen = not isinstance(error, (JobError, SearchError))
            log.warning(
                "shard_failed", shard=number, error=type(error).__name__, exc_info=error if is_unforeseen else None
            )
            raise
        encoded = len(shard.items) - shard.reused
        self._metrics.record_rebuilt(encoded=encoded, reused=shard.reused, skipped=len(shard.skipped))
        return [[one.id, one.reason] for one in shard.skipped]

    @contextmanager
    def _turn(self) -> Iterator[None]:
        with self._rebuilds.turn():
            self._ownership.check(current_id())  # it may have been taken away while it waited
            yield

    def _progress(self) -> Callable[[int], None]:
        meter, noted_s = Meter(None), -self._every_s  # the first batch is noted at once

        def advance(count: int) -> None:
            nonlocal noted_s
            self._ownership.check_open()
            meter.add(count)
            if meter.elapsed_s - noted_s >= self._every_s:
                publish(DONE, meter.done)  # raises where the shard is not ours any more
                noted_s = meter.elapsed_s

        return advance


def enqueue_shards(job_id: str, request: Request, plan: Plan, check: Callable[[], None]) -> None:
    """Offer every shard to all workers; those of the job that was queued first are taken first."""
    for number in range(plan.shards):
        check()
        enqueue_child(SHARD, shard_id(job_id, number), WORKFLOW_VERSION, job_id, number, asdict(request), asdict(plan))


class ShardWatch:
    """Follows the shards of one job, and shows how far they are; for use within a step of the job's workflow."""

    def __init__(self, queue: RebuildQueue, job_id: str, plan: Plan, *, max_bad_share: float) -> None:
        self._queue = queue
        self._job_id = job_id
        self._total = plan.total
        self._max_bad_share = max_bad_share
        self._waiting = list(range(plan.shards))
        self._ended_items = 0
        self._skipped: dict[int, list[list[str]]] = {}  # by shard
        self._meter: Meter | None = None

    @property
    def skipped(self) -> list[list[str]]:
        """Ids of the bad items that are known by now, each with a reason, in the order of the shards."""
        return [one for _, several in sorted(self._skipped.items()) for one in several]

    def look(self) -> bool:
        """Look once; returns whether every shard is encoded.

        Raises:
            RebuildFailed: a shard failed, or too many items are bad.
        """
        known = len(self._skipped)
        running_items = self._update()
        done = self._ended_items + running_items
        self._meter = self._meter or Meter(self._total, done=done)
        self._meter.add(done - self._meter.done)
        publish(PROGRESS, {"done": done, "total": self._total, "rate": self._meter.rate, "eta_s": self._meter.eta_s})
        if len(self._skipped) > known:
            publish(SKIPPED, self.skipped)
        check_skipped([Skipped(*one) for one in self.skipped], self._total, max_share=self._max_bad_share)
        return not self._waiting

    def _update(self) -> int:
        """Note which shards have ended; returns the items of those under way that are done."""
        looked = {shard_id(self._job_id, number): number for number in self._waiting[:LOOK_AHEAD]}
        ended, running_items = set(), 0
        for status in self._queue.shards(list(looked)):
            number = looked[status.workflow_id]
            state = STATES[status.status]
            if state is JobState.RUNNING:
                running_items += min(self._items_of(number), self._queue.event(status.workflow_id, DONE) or 0)
            elif state is JobState.DONE:
                ended.add(number)
                self._ended_items += self._items_of(number)
                if status.output:
                    self._skipped[number] = status.output
            elif state.final:
                raise RebuildFailed(error_of(status) or f"shard {number} was {state}; start again")
        self._waiting = [number for number in self._waiting if number not in ended]
        return running_items

    def _items_of(self, number: int) -> int:
        return min(SHARD_ITEMS, self._total - number * SHARD_ITEMS)

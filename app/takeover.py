"""One worker's eye on the others: what nobody works on any more goes back to its queue, or fails with a reason."""

import threading
import time
from collections.abc import Callable, Collection, Sequence
from typing import Protocol

from app.heartbeats import Heartbeats
from app.logs import Log

BEATS = 5  # within the patience

log = Log(__name__)


class Status(Protocol):
    """What is needed of the workflow engine's word on a job or shard."""

    @property
    def workflow_id(self) -> str:
        """Its id."""

    @property
    def executor_id(self) -> str | None:
        """The worker that has it, or had it last."""

    @property
    def app_version(self) -> str | None:
        """Version of the workflow that it was queued for."""


class Queue(Protocol):
    """What is needed of ``app.rebuild_queue.RebuildQueue``."""

    def unfinished(self) -> Sequence[Status]:
        """The jobs that have not ended."""

    def taken(self) -> Sequence[Status]:
        """The jobs and shards that workers have, or had when they died."""

    def fail(self, job_id: str, reason: str) -> None:
        """Give a job up."""


class Takeover:
    """Shows that this worker is alive and looks after what those had that are not, in a thread of its own."""

    def __init__(
        self,
        worker: str,
        version: str,
        heartbeats: Heartbeats,
        queue: Queue,
        *,
        recover: Callable[[str], object],
        sweep: Callable[[], None],
    ) -> None:
        self._worker = worker
        self._version = version
        self._heartbeats = heartbeats
        self._queue = queue
        self._recover = recover
        self._sweep = sweep
        self._stranded: dict[str, float] = {}  # job -> when it was first seen without a worker that could take it
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="takeover", daemon=True)

    def start(self) -> None:
        """Look once, then go on in the background."""
        self.look()
        self._thread.start()

    def stop(self) -> None:
        """Stop looking; others will take this worker for dead."""
        self._stopping.set()
        self._thread.join()

    def look(self) -> None:
        """Beat, hand on what the dead left, give up what no version can go on with, and clean up behind the ended."""
        self._heartbeats.beat(self._worker, self._version)
        unfinished, taken = self._queue.unfinished(), self._queue.taken()
        alive = self._heartbeats.alive()  # after what they have: who has something by then has beaten before
        for worker in sorted({one.executor_id for one in taken if self._is_left(one, alive)} - {None}, key=str):
            log.warning("rebuild_taken_over", worker=worker)
            self._recover(str(worker))
        self._give_up([one for one in unfinished if one.app_version not in alive.values()], sorted(alive.values()))
        self._sweep()

    def _is_left(self, one: Status, alive: Collection[str]) -> bool:
        return one.app_version == self._version and one.executor_id not in alive

    def _give_up(self, stranded: Sequence[Status], versions: Sequence[str]) -> None:
        """Fail jobs of versions that no worker has had for as long as it takes to call one dead."""
        now = time.monotonic()
        self._stranded = {one.workflow_id: self._stranded.get(one.workflow_id, now) for one in stranded}
        for one in stranded:
            if now - self._stranded[one.workflow_id] > self._heartbeats.patience_s:
                self._queue.fail(
                    one.workflow_id,
                    f"expected a worker of workflow version {one.app_version}, found {', '.join(versions)} alone: the "
                    "software was changed while the job was queued or running; start it again",
                )

    def _watch(self) -> None:
        while not self._stopping.wait(self._heartbeats.patience_s / BEATS):
            try:
                self.look()
            except Exception as error:  # whatever it was, a worker that stopped beating would be taken for dead
                log.error("takeover_failed", reason=str(error), exc_info=error)

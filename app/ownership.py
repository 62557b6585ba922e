"""What this process may go on with: nothing while it closes, and nothing that has become another worker's."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from app.rebuild_queue import RebuildQueue
from app.workflows import STOPPED, NotOurs

CLOSE_S = 60.0  # longest wait for a running batch when closing


class _Leaving(BaseException):
    """Ends a workflow in this process without an outcome: it is another's now, or the next launch's.

    No handler of the workflow engine may catch it.
    """


class Ownership:
    """The workflows that run in this process."""

    def __init__(self, queue: RebuildQueue, worker: str) -> None:
        self._queue = queue
        self._worker = worker
        self._closing = threading.Event()
        self._running = 0
        self._idle = threading.Condition()

    @contextmanager
    def running(self) -> Iterator[None]:
        """Around a workflow; ``close`` waits for its end."""
        with self._idle:
            self._running += 1
        try:
            yield
        except STOPPED as error:  # the engine would keep a thread waiting for what the workflow comes to elsewhere
            raise _Leaving from error
        finally:
            with self._idle:
                self._running -= 1
                self._idle.notify_all()

    def check(self, workflow_id: str) -> None:
        """Raise where the process closes or the workflow is not ours: one of ``STOPPED``, or what ends it silently."""
        self.check_open()
        if not self.has(workflow_id):
            raise NotOurs(workflow_id)

    def check_open(self) -> None:
        """Raise where the process closes."""
        if self._closing.is_set():
            raise _Leaving

    def has(self, workflow_id: str) -> bool:
        """Whether this process's worker has the workflow."""
        return self._queue.has(self._worker, workflow_id)

    def pause(self, seconds: float) -> None:
        """Wait, but no longer than until the process closes."""
        self._closing.wait(seconds)

    def close(self) -> None:
        """Let every workflow leave, within a batch."""
        self._closing.set()
        with self._idle:
            self._idle.wait_for(lambda: not self._running, timeout=CLOSE_S)

"""Bounded stages of work in threads: full is refused at once, and work that nobody waits for is dropped."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from typing import TypeVar

from app.problems import Problem

T = TypeVar("T")

RETRY_AFTER_S = 1


def overloaded(stage: str, queue: int) -> Problem:
    """What answers a call that finds the queue of a stage full."""
    detail = f"{queue} calls are already waiting for {stage}; try again later"
    return Problem("overloaded", detail, headers={"Retry-After": str(RETRY_AFTER_S)})


class Stage:
    """A few threads that work off a bounded queue."""

    def __init__(self, name: str, *, threads: int, queue: int) -> None:
        self.name = name
        self.queue = queue
        self._threads = threads
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix=name)
        self._lock = threading.Lock()
        self._pending = 0

    @property
    def waiting(self) -> int:
        """Calls that no thread has taken yet."""
        return max(0, self._pending - self._threads)

    async def run(self, call: Callable[[], T]) -> T:
        """Run the call in a thread of this stage; a caller that gives up takes a waiting call out of the queue.

        Raises:
            Problem: ``overloaded``, the queue is full.
        """
        with self._lock:
            if self._pending >= self._threads + self.queue:
                raise overloaded(self.name, self.queue)
            self._pending += 1

        def finish(_: "Future[T]") -> None:
            with self._lock:
                self._pending -= 1

        future = self._pool.submit(copy_context().run, call)  # log events in the thread carry the request's id
        future.add_done_callback(finish)
        return await asyncio.wrap_future(future)

    def close(self) -> None:
        """Drop what waits and wait for what runs."""
        self._pool.shutdown(cancel_futures=True)

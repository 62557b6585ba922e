"""Bounded stages of work in threads: full is refused at once, and work that nobody waits for is dropped."""

import asyncio
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from typing import TypeVar

from app.problems import Problem

T = TypeVar("T")


class Stage:
    """A few threads that work off a bounded queue."""

    def __init__(self, name: str, *, threads: int, queue: int) -> None:
        self.name = name
        self.queue = queue
        self._threads = threads
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix=name)
        self._lock = threading.Lock()
        self._pending = 0
        self._depths: Counter[str] = Counter()

    @property
    def waiting(self) -> int:
        """Calls that no thread has taken yet."""
        return max(0, self._pending - self._threads)

    def depth(self, kind: str) -> int:
        """Calls of this kind that no thread has taken yet."""
        return self._depths[kind]

    async def run(self, call: Callable[[], T], *, kind: str = "") -> T:
        """Run the call in a thread of this stage; a caller that gives up takes a waiting call out of the queue.

        Raises:
            Problem: ``overloaded``, the queue is full.
        """
        with self._lock:
            if self._pending >= self._threads + self.queue:
                detail = f"{self.queue} calls are already waiting for {self.name}; try again later"
                raise Problem("overloaded", detail, headers={"Retry-After": "1"})
            self._pending += 1
            self._depths[kind] += 1
        is_taken = False

        def take() -> T:
            nonlocal is_taken
            with self._lock:
                is_taken = True
                self._depths[kind] -= 1
            return call()

        def finish(_: "Future[T]") -> None:
            with self._lock:
                self._pending -= 1
                self._depths[kind] -= not is_taken

        future = self._pool.submit(copy_context().run, take)  # log events in the thread carry the request's id
        future.add_done_callback(finish)
        return await asyncio.wrap_future(future)

    def close(self) -> None:
        """Drop what waits and wait for what runs."""
        self._pool.shutdown(cancel_futures=True)

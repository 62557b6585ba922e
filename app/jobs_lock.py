"""Locks between the processes that work on one home; the operating system frees them when a process ends, however."""

import fcntl
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from app.jobs import WorkerTaken

WORKERS = "workers"  # folder of the jobs directory: one locked file for each worker that runs
LOCKS = "locks"  # folder of the jobs directory: one file for each index
POLL_S = 0.02


@dataclass(frozen=True, slots=True)
class Lock:
    """A held lock on a file."""

    path: Path
    descriptor: int

    def close(self) -> None:
        """Let go of it."""
        os.close(self.descriptor)


def take_worker_id(jobs_dir: Path, wanted: str | None = None) -> tuple[str, Lock]:
    """An id that no other worker of this home has, held until the lock is closed.

    Without a wish it is the first free one of ``HOST-1``, ``HOST-2``, …, so that a worker that is started again gets
    the id that it had, and with it its unfinished jobs.

    Raises:
        WorkerTaken: another worker has the wanted id.
    """
    folder = jobs_dir / WORKERS
    for number in count(1):
        name = wanted or f"{socket.gethostname()}-{number}"
        lock = try_lock(folder / f"{name}.lock")
        if lock is not None:
            return name, lock
        if wanted:
            raise WorkerTaken(f"another worker of {jobs_dir} is called {wanted!r}; set another CROSSBIT_WORKER_ID")
    raise AssertionError("count() ends")


def running_workers(jobs_dir: Path) -> list[str]:
    """Ids that workers on this machine hold now."""
    found = []
    for path in sorted((jobs_dir / WORKERS).glob("*.lock")):
        lock = try_lock(path)
        if lock is None:
            found.append(path.stem)
        else:
            lock.close()
    return found


@contextmanager
def rebuilding(jobs_dir: Path, index: str, check: Callable[[], None]) -> Iterator[None]:
    """Work on the index's rebuild alone: a worker that was taken for dead may still be at its last step.

    ``check`` is called while waiting, and may raise.
    """
    with _waited(_path(jobs_dir, index, "rebuild"), check):
        yield


def try_rebuilding(jobs_dir: Path, index: str) -> Lock | None:
    """The same lock if nobody has it."""
    return try_lock(_path(jobs_dir, index, "rebuild"))


@contextmanager
def deciding(jobs_dir: Path, index: str) -> Iterator[None]:
    """Swap the index or cancel its job, one of them at a time."""
    with _waited(_path(jobs_dir, index, "swap"), lambda: None):
        yield


def try_lock(path: Path) -> Lock | None:
    """Lock a file, which is made where it is missing; None if another process, or this one, has the lock."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return Lock(path, descriptor)


@contextmanager
def _waited(path: Path, check: Callable[[], None]) -> Iterator[None]:
    while (lock := try_lock(path)) is None:
        check()
        time.sleep(POLL_S)
    try:
        yield
    finally:
        lock.close()


def _path(jobs_dir: Path, index: str, purpose: str) -> Path:
    return jobs_dir / LOCKS / f"{index}.{purpose}"

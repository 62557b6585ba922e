"""One writer at a time for each index: a lock that the operating system frees when its process ends."""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from index.errors import IndexLocked, IndexNotFound

WAIT_S = 10.0  # the lock is held for one write or one swap, never while anything is encoded or merged
POLL_S = 0.01


@contextmanager
def writing(index_dir: Path, *, wait_s: float = WAIT_S) -> Iterator[None]:
    """Hold the writer's lock of an index; readers never look at it.

    Raises:
        IndexNotFound: there is no such directory.
        IndexLocked: another writer, in this process or another, held it all the time.
    """
    try:
        descriptor = os.open(index_dir, os.O_RDONLY)
    except FileNotFoundError:
        raise IndexNotFound(f"there is no index {index_dir.name!r}; build it first") from None
    try:
        deadline = time.monotonic() + wait_s
        while not _is_taken(descriptor):
            if time.monotonic() >= deadline:
                raise IndexLocked(
                    f"expected to be the only writer of index {index_dir.name!r}, found another one at work for "
                    f"{wait_s:g} s; try again when it has finished"
                )
            time.sleep(POLL_S)
        yield
    finally:
        os.close(descriptor)


def _is_taken(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True

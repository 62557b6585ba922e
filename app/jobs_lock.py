"""One process runs the jobs of a home: a lock that ends with the process, however that ends."""

import sqlite3
from pathlib import Path

from app.jobs import JobsLocked


def lock_jobs(jobs_dir: Path) -> sqlite3.Connection:
    """Lock the jobs in this directory, which is made where it is missing, until the connection is closed.

    Raises:
        JobsLocked: another process has them.
    """
    jobs_dir.mkdir(parents=True, exist_ok=True)
    # SQLite locks files on every operating system, and the system lets go of them when a process dies
    connection = sqlite3.connect(jobs_dir / "lock.sqlite", timeout=0, isolation_level=None, check_same_thread=False)
    try:
        connection.execute("BEGIN EXCLUSIVE")
    except sqlite3.OperationalError as error:
        connection.close()
        raise JobsLocked(
            f"the jobs in {jobs_dir} belong to another running crossbit process; stop it or set CROSSBIT_HOME"
        ) from error
    return connection

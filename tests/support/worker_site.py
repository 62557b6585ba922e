"""A home with workers in processes of their own, and what a test asks of the jobs that they run."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from fastapi.testclient import TestClient
from jobs_database import execute
from watched_worker import ALLOWED, ENCODED

from app.settings import Settings
from index.generations import IndexDirectory

SCRIPT = Path(__file__).parent / "watched_worker.py"
WAIT_S = 60.0


class Site:
    """A home with a server in this process and workers in others."""

    def __init__(self, home: Path, jobs_url: str | None = None) -> None:
        self.home = home
        self.jobs_url = jobs_url
        self.workers: list[subprocess.Popen[str]] = []

    def work(self, *, name: str | None = None, timeout_s: float = 1) -> subprocess.Popen[str]:
        """A worker that has said that it is ready; without a sign of life for ``timeout_s`` others take over."""
        environment = os.environ | {
            "CROSSBIT_HOME": str(self.home),
            "CROSSBIT_WORKER_TIMEOUT_S": str(timeout_s),
            "CROSSBIT_THREADS": "1",
            **({} if name is None else {"CROSSBIT_WORKER_ID": name}),
            **({} if self.jobs_url is None else {"CROSSBIT_JOBS_URL": self.jobs_url}),
        }
        worker = subprocess.Popen(
            [sys.executable, "-W", "error", str(SCRIPT)], env=environment, stderr=subprocess.PIPE, text=True
        )
        self.workers.append(worker)
        assert worker.stderr is not None
        lines: list[str] = []
        for line in worker.stderr:
            lines.append(line)
            if line.startswith("working on rebuilds as "):
                return worker
        raise AssertionError("".join(lines))

    def allow(self, items: int | None) -> None:
        if items is None:
            (self.home / ALLOWED).unlink(missing_ok=True)
        else:
            (self.home / ALLOWED).write_text(str(items))

    def encoded(self, worker: subprocess.Popen[str]) -> list[int]:
        """Positions of the pictures that a worker has encoded."""
        log = self.home / ENCODED
        lines = log.read_text().splitlines() if log.exists() else []
        return [int(one) for line in lines for one in line.split()[1:] if int(line.split()[0]) == worker.pid]

    def settings(self, **changes: object) -> Settings:
        """Of a server that leaves rebuilds to the workers."""
        wanted = {"log_level": "error", "worker": "none", "refresh_s": 0.05, "jobs_url": self.jobs_url} | changes
        return Settings(home=self.home, **wanted)

    def taken(self) -> dict[str, str]:
        """Job or shard -> the worker that has it."""
        query = "SELECT workflow_uuid, executor_id FROM {dbos}workflow_status WHERE status = 'PENDING'"
        return dict(map(tuple, execute(self.settings(), query)))

    def shards(self) -> dict[int, str]:
        """Number of a shard -> the worker that has it."""
        return {int(one.rpartition("-")[2]): worker for one, worker in self.taken().items() if one.count("-") == 5}

    def directory(self, index: str) -> IndexDirectory:
        return IndexDirectory(self.home / "indexes" / index)

    def close(self) -> None:
        self.allow(None)
        for worker in self.workers:
            worker.kill()
            worker.communicate()


def start(client: TestClient, index: str = "tiny", **body: object) -> str:
    answer = client.post(f"/v1/indexes/{index}/rebuild", json={"source": "tiny", "model": "first"} | body)
    assert answer.status_code == 202, answer.text
    location: str = answer.headers["location"]
    return location


def wait(client: TestClient, job: str, until: Callable[[dict], bool]) -> dict:
    deadline = time.monotonic() + WAIT_S
    while not until(found := client.get(job).json()):
        assert time.monotonic() < deadline, found
        time.sleep(0.02)
    return dict(found)


def ended(job: dict) -> bool:
    return job["state"] not in ("queued", "running")


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)

"""Workers in processes of their own beside a server that runs no rebuilds: shared, killed, stopped, replaced."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from jobs_database import execute
from tiny_home import load_fake, make_home
from watched_worker import ALLOWED, ENCODED

from app.building import BATCH_ITEMS, SAMPLE_ITEMS, SHARD_ITEMS
from app.main import create_app
from app.settings import Settings
from index.generations import IndexDirectory
from index.snapshot import Snapshot

pytestmark = pytest.mark.slow

SCRIPT = Path(__file__).parent.parent / "support" / "watched_worker.py"
ITEMS, DATABASE = 700, 560  # three shards
WAIT_S = 60.0


class Site:
    """A home with a server in this process and workers in others."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.workers: list[subprocess.Popen[str]] = []

    def work(self, *, name: str | None = None) -> subprocess.Popen[str]:
        """A worker that has said that it is ready."""
        environment = os.environ | {
            "CROSSBIT_HOME": str(self.home),
            "CROSSBIT_WORKER_TIMEOUT_S": "1",
            "CROSSBIT_THREADS": "1",
            **({} if name is None else {"CROSSBIT_WORKER_ID": name}),
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

    def directory(self, index: str) -> IndexDirectory:
        return IndexDirectory(self.home / "indexes" / index)

    def close(self) -> None:
        self.allow(None)
        for worker in self.workers:
            worker.kill()
            worker.communicate()


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    site = Site(make_home(tmp_path, ITEMS))
    yield site
    site.close()


@pytest.fixture
def client(site: Site) -> Iterator[TestClient]:
    settings = Settings(home=site.home, log_level="error", worker="none", refresh_s=0.05)
    with TestClient(create_app(settings, load_hasher=load_fake)) as client:
        yield client


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


def test_a_worker_runs_what_the_server_queues_and_the_server_serves_it(client: TestClient, site: Site) -> None:
    job = start(client)
    assert client.get(job).json()["state"] == "queued"
    worker = site.work()
    assert wait(client, job, ended)["state"] == "done"
    query = {"query": "title 7", "target": "text", "limit": 1}
    wait(client, "/v1/indexes", lambda answer: len(answer["indexes"]) == 1)
    assert client.post("/v1/search/text", json=query).json()["hits"][0]["id"] == "item-0007"
    niceness = os.getpriority(os.PRIO_PROCESS, 0)
    assert os.getpriority(os.PRIO_PROCESS, worker.pid) == min(19, niceness + 10)
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(WAIT_S) == 0


def test_two_workers_run_two_jobs_at_once(client: TestClient, site: Site) -> None:
    site.allow(BATCH_ITEMS)
    first, second = start(client, "one"), start(client, "two")
    workers = [site.work(), site.work()]
    for job in (first, second):
        wait(client, job, lambda job: job["done"] > 0)
    assert [len(site.encoded(worker)) for worker in workers] == [BATCH_ITEMS, BATCH_ITEMS]
    site.allow(None)
    for index, job in (("one", first), ("two", second)):
        assert wait(client, job, ended)["state"] == "done"
        with Snapshot.open(site.home / "indexes" / index) as snapshot:
            assert snapshot.manifest.items == DATABASE


def test_another_worker_goes_on_behind_the_last_shard_of_a_killed_one(client: TestClient, site: Site) -> None:
    site.allow(SHARD_ITEMS + BATCH_ITEMS)
    job = start(client)
    killed = site.work()
    wait(client, job, lambda job: job["done"] > SHARD_ITEMS)
    killed.kill()
    killed.wait()
    other = site.work(name="other")
    site.allow(None)
    assert wait(client, job, ended)["state"] == "done"
    again = site.encoded(other)
    assert len(again) == DATABASE - SHARD_ITEMS + SAMPLE_ITEMS
    assert sum(one < SHARD_ITEMS for one in again) <= SAMPLE_ITEMS


def test_a_worker_that_is_started_again_goes_on_at_once(client: TestClient, site: Site) -> None:
    site.allow(SHARD_ITEMS + BATCH_ITEMS)
    job = start(client)
    killed = site.work()
    wait(client, job, lambda job: job["done"] > SHARD_ITEMS)
    killed.kill()
    killed.wait()
    site.allow(None)
    again = site.work()
    assert wait(client, job, ended)["state"] == "done"
    assert len(site.encoded(again)) == DATABASE - SHARD_ITEMS + SAMPLE_ITEMS


def test_a_worker_that_was_only_stopped_leaves_the_job_to_the_one_that_took_it_over(
    client: TestClient, site: Site
) -> None:
    site.allow(SHARD_ITEMS + BATCH_ITEMS)
    job = start(client)
    stopped = site.work()
    wait(client, job, lambda job: job["done"] > SHARD_ITEMS)
    stopped.send_signal(signal.SIGSTOP)
    other = site.work()
    wait_for_owner(site, job.rsplit("/", 1)[-1], "-2")
    site.allow(None)
    stopped.send_signal(signal.SIGCONT)
    assert wait(client, job, ended)["state"] == "done"
    assert len(site.encoded(stopped)) <= 2 * SHARD_ITEMS
    assert len(site.encoded(other)) == DATABASE - SHARD_ITEMS + SAMPLE_ITEMS
    assert site.directory("tiny").generations() == [1]
    stopped.send_signal(signal.SIGTERM)
    assert stopped.wait(WAIT_S) == 0


def wait_for_owner(site: Site, job_id: str, suffix: str) -> None:
    """Until the worker whose name ends so has the job."""
    query = "SELECT executor_id, status FROM {dbos}workflow_status WHERE workflow_uuid = :job"
    deadline = time.monotonic() + WAIT_S
    while True:
        ((worker, status),) = execute(Settings(home=site.home), query, job=job_id)
        if worker.endswith(suffix) and status == "PENDING":
            return
        assert time.monotonic() < deadline, (worker, status)
        time.sleep(0.02)


def test_a_job_is_cancelled_from_another_process(client: TestClient, site: Site) -> None:
    site.allow(SHARD_ITEMS)
    job = start(client)
    site.work()
    wait(client, job, lambda job: job["done"] >= SHARD_ITEMS)
    assert client.post(f"{job}/cancel").json()["state"] == "cancelled"
    site.allow(None)
    assert wait(client, start(client), ended)["state"] == "done"  # one worker, so the other is over by now
    assert client.get(job).json()["state"] == "cancelled"
    assert [path.name for path in (site.home / "jobs").iterdir() if path.name == job.rsplit("/", 1)[-1]] == []
    assert len(site.directory("tiny").generations()) == 1


def test_a_name_is_one_workers(client: TestClient, site: Site) -> None:
    site.work(name="same")
    with pytest.raises(AssertionError, match=r"another worker of .* is called 'same'"):
        site.work(name="same")

"""Workers in processes of their own beside a server that runs no rebuilds: shared, killed, stopped, replaced."""

import os
import signal
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from tiny_home import load_fake, make_home
from worker_site import WAIT_S, Site, ended, start, wait, wait_until

from app.building import BATCH_ITEMS, SAMPLE_ITEMS, SHARD_ITEMS
from app.job_store import database_url
from app.main import create_app
from index.snapshot import Snapshot

pytestmark = pytest.mark.slow

ITEMS, DATABASE = 700, 560  # three shards


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    site = Site(make_home(tmp_path, ITEMS))
    yield site
    site.close()


@pytest.fixture
def client(site: Site) -> Iterator[TestClient]:
    with TestClient(create_app(site.settings(), load_hasher=load_fake)) as client:
        yield client


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


def test_two_workers_share_the_shards_of_one_rebuild(client: TestClient, site: Site) -> None:
    site.allow(0)
    job = start(client)
    workers = [site.work(timeout_s=WAIT_S) for _ in range(2)]  # on a busy machine a live one may be silent for a second
    wait_until(lambda: len(set(site.taken().values())) == 2)
    site.allow(None)
    found = wait(client, job, ended)
    assert (found["state"], found["done"], found["total"]) == ("done", DATABASE, DATABASE)
    encoded = [site.encoded(worker) for worker in workers]
    assert all(encoded)
    assert set(encoded[0] + encoded[1]) == set(range(DATABASE))
    assert len(encoded[0] + encoded[1]) == DATABASE + SAMPLE_ITEMS
    with Snapshot.open(site.home / "indexes" / "tiny") as snapshot:
        assert snapshot.manifest.items == DATABASE


def wait_for_one_recorded(client: TestClient, job: str, site: Site) -> None:
    """Until the worker has recorded a shard and encoded a batch of the next; it took the last one in place of that."""
    wait(client, job, lambda job: job["done"] > SHARD_ITEMS)
    wait_until(lambda: len(site.shards()) == 2 and 2 in site.shards())


def test_another_worker_goes_on_behind_the_last_shard_of_a_killed_one(client: TestClient, site: Site) -> None:
    site.allow(SHARD_ITEMS + BATCH_ITEMS)
    job = start(client)
    killed = site.work()
    wait_for_one_recorded(client, job, site)
    killed.kill()
    killed.wait()
    other = site.work(name="other")
    site.allow(None)
    assert wait(client, job, ended)["state"] == "done"
    again = site.encoded(other)
    assert len(again) == DATABASE - SHARD_ITEMS + SAMPLE_ITEMS
    assert len(set(again) & set(site.encoded(killed)[:SHARD_ITEMS])) <= SAMPLE_ITEMS


def test_a_worker_that_is_started_again_goes_on_at_once(client: TestClient, site: Site) -> None:
    site.allow(SHARD_ITEMS + BATCH_ITEMS)
    job = start(client)
    killed = site.work()
    wait_for_one_recorded(client, job, site)
    killed.kill()
    killed.wait()
    site.allow(None)
    again = site.work()
    assert wait(client, job, ended)["state"] == "done"
    assert len(site.encoded(again)) == DATABASE - SHARD_ITEMS + SAMPLE_ITEMS


def stop_between_transactions(worker: subprocess.Popen[str], site: Site) -> None:
    """SQLite takes a lock away from a dead process, and not from one that only stands still."""
    path = database_url(site.settings()).removeprefix("sqlite:///")
    while True:
        worker.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, worker.pid, os.WSTOPPED)  # a signal takes its time
        try:
            with closing(sqlite3.connect(path, timeout=0.1, isolation_level=None)) as database:
                database.execute("BEGIN EXCLUSIVE")  # a reader, too, keeps others from writing
                database.execute("ROLLBACK")
                return
        except sqlite3.OperationalError:
            worker.send_signal(signal.SIGCONT)
            time.sleep(0.02)


def test_a_worker_that_was_only_stopped_leaves_the_job_to_the_one_that_took_it_over(
    client: TestClient, site: Site
) -> None:
    site.allow(SHARD_ITEMS + BATCH_ITEMS)
    job = start(client)
    stopped = site.work()
    wait_for_one_recorded(client, job, site)
    stop_between_transactions(stopped, site)
    other = site.work(name="other")
    wait_until(lambda: list(site.taken().values()) == 3 * ["other"])  # the job and both shards
    site.allow(None)
    stopped.send_signal(signal.SIGCONT)
    assert wait(client, job, ended)["state"] == "done"
    assert len(site.encoded(stopped)) <= 2 * SHARD_ITEMS
    assert len(site.encoded(other)) == DATABASE - SHARD_ITEMS + SAMPLE_ITEMS
    assert site.directory("tiny").generations() == [1]
    stopped.send_signal(signal.SIGTERM)
    assert stopped.wait(WAIT_S) == 0


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

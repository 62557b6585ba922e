"""One rebuild by workers that share a Postgres database and a folder, as on many hosts."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from postgres import postgres_server
from tiny_home import load_fake, make_home
from worker_site import Site, ended, start, wait, wait_until

from app.building import SAMPLE_ITEMS, SHARD_ITEMS
from app.index_commands import build
from app.main import create_app
from app.rebuild_steps import Request
from app.settings import Settings
from index.generations import IndexDirectory
from index.snapshot import Snapshot

pytestmark = pytest.mark.postgres

ITEMS, DATABASE = 3200, 2560  # ten shards
BAD = (3, 2001)  # numbers of items, both in the database


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with postgres_server() as url:
        site = Site(make_home(tmp_path / "home", ITEMS, bad=BAD), url)
        yield site
        site.close()


@pytest.fixture
def client(site: Site) -> Iterator[TestClient]:
    with TestClient(create_app(site.settings(), load_hasher=load_fake)) as client:
        yield client


def test_a_worker_that_dies_in_a_shard_is_replaced_and_the_codes_are_those_of_one_worker(
    client: TestClient, site: Site, tmp_path: Path
) -> None:
    site.allow(SHARD_ITEMS // 2)
    job = start(client)
    names = ("first", "second", "third")
    workers = {name: site.work(name=name) for name in names}
    wait_until(lambda: set(site.taken().values()) == set(names))  # each has shards
    wait_until(lambda: any(site.encoded(worker) for worker in workers.values()))
    killed = next(name for name in names if site.encoded(workers[name]))  # in the midst of one
    left = {shard for shard, worker in site.taken().items() if worker == killed}
    workers[killed].kill()
    workers[killed].wait()
    wait_until(lambda: not left & {shard for shard, worker in site.taken().items() if worker == killed})
    site.allow(None)
    found = wait(client, job, ended)
    assert (found["state"], found["done"], found["total"]) == ("done", DATABASE, DATABASE)
    assert [one["id"] for one in found["skipped"]] == ["item-0003", "item-2001"]
    others = [one for name in names if name != killed for one in site.encoded(workers[name])]
    assert len(others) == DATABASE - len(BAD) + SAMPLE_ITEMS
    assert all(site.encoded(workers[name]) for name in names)
    check_same(site.home, alone(tmp_path / "alone"))


def alone(home: Path) -> Path:
    """The same index, built in this process."""
    make_home(home, ITEMS, bad=BAD)
    build(Settings(home=home), Request("tiny", "tiny", "first", 64, "first", reuse=False, dry_run=False), load_fake)
    return home


def check_same(home: Path, other: Path) -> None:
    """Both have every item once, with the same codes bit for bit."""
    manifests = [IndexDirectory(one / "indexes" / "tiny").manifest(1) for one in (home, other)]
    for name in ("image.codes", "text.codes"):
        assert manifests[0].files[name] == manifests[1].files[name]  # size and checksum
    ids = []
    for one in (home, other):
        with Snapshot.open(one / "indexes" / "tiny") as snapshot:
            ids.append([item.id for item in snapshot.all_items()])
    assert ids[0] == ids[1]
    assert len(set(ids[0])) == len(ids[0]) == DATABASE - len(BAD)

"""What becomes of the jobs of workers that are gone."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from app.heartbeats import Heartbeats
from app.takeover import Takeover


@dataclass(frozen=True)
class Status:
    workflow_id: str
    status: str = "PENDING"
    executor_id: str | None = "them"
    app_version: str | None = "1"


@dataclass
class Queue:
    jobs: list[Status] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)

    def unfinished(self) -> list[Status]:
        return self.jobs

    def taken(self) -> list[Status]:
        return [one for one in self.jobs if one.status == "PENDING"]

    def fail(self, job_id: str, reason: str) -> None:
        self.failed[job_id] = reason


@dataclass
class Watch:
    queue: Queue
    heartbeats: Heartbeats
    recovered: list[str]
    takeover: Takeover


@pytest.fixture
def watch(tmp_path: Path) -> Iterator[Watch]:
    heartbeats = Heartbeats(f"sqlite:///{tmp_path / 'jobs.sqlite'}", 10)
    queue, recovered = Queue(), []
    yield Watch(
        queue,
        heartbeats,
        recovered,
        Takeover("us", "1", heartbeats, queue, recover=recovered.append, sweep=lambda: None),
    )
    heartbeats.close()


def test_what_a_dead_worker_had_goes_back(watch: Watch) -> None:
    watch.queue.jobs = [Status("a"), Status("b"), Status("c", executor_id="others")]
    watch.heartbeats.beat("others", "1")
    watch.takeover.look()
    assert (watch.recovered, watch.queue.failed) == (["them"], {})


def test_what_nobody_has_begun_and_what_is_ours_stays(watch: Watch) -> None:
    watch.queue.jobs = [Status("a", "ENQUEUED", None), Status("b", executor_id="us")]
    watch.takeover.look()
    assert watch.recovered == []


def test_a_job_of_another_version_is_left_to_its_workers(watch: Watch) -> None:
    watch.heartbeats.beat("old", "0")
    watch.queue.jobs = [Status("a", app_version="0")]
    watch.heartbeats.patience_s = -1
    watch.takeover.look()
    assert (watch.recovered, watch.queue.failed) == ([], {})


def test_a_job_of_a_version_that_nobody_has_fails_in_the_end(watch: Watch) -> None:
    watch.queue.jobs = [Status("a", app_version="0"), Status("b", "ENQUEUED", None, "0")]
    watch.takeover.look()
    assert watch.queue.failed == {}
    watch.heartbeats.patience_s = 0
    watch.takeover.look()
    assert watch.queue.failed.keys() == {"a", "b"}
    assert "version 0, found 1 alone" in watch.queue.failed["a"]


def test_patience_begins_anew_where_such_a_worker_was_seen(watch: Watch) -> None:
    watch.queue.jobs = [Status("a", app_version="0")]
    watch.takeover.look()
    watch.heartbeats.beat("old", "0")
    watch.takeover.look()
    watch.heartbeats.beat("old", "1")
    watch.heartbeats.patience_s = 0
    watch.takeover.look()
    assert watch.queue.failed == {}


def test_a_look_that_fails_is_not_the_last(watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    looks = []

    def unfinished() -> list[Status]:
        looks.append(len(looks))
        if len(looks) == 2:
            raise OSError("no database")
        if len(looks) > 3:
            watch.takeover._stopping.set()
        return []

    monkeypatch.setattr(watch.queue, "unfinished", unfinished)
    watch.heartbeats.patience_s = 0.01
    watch.takeover.start()
    watch.takeover._thread.join(10)
    assert len(looks) > 3

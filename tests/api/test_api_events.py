"""Server-sent events of a job, over real connections: callers that stay, leave, come back and are too many."""

import json
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import replace

import httpx2
import pytest
import uvicorn
from api_home import Home, RecordedJobs, open_recorded_jobs, wait_until

from app import job_events
from app.job_events import Listeners
from app.jobs import JobState
from app.main import create_app
from app.serving import bind
from app.settings import Settings

EVENTS = "/v1/jobs/job-1/events"


class Service:
    """A service whose job ``job-1`` the test moves on."""

    def __init__(self, home: Home) -> None:
        settings = Settings(home=home.path, log_level="error", limits={"listeners": 2})
        self.app = create_app(settings, load_hasher=home.load, open_jobs=open_recorded_jobs)

    @property
    def jobs(self) -> RecordedJobs:
        jobs: RecordedJobs = self.app.state.jobs
        return jobs

    @property
    def listeners(self) -> Listeners:
        listeners: Listeners = self.app.state.listeners
        return listeners

    def move(self, **changes: object) -> None:
        self.jobs.jobs["job-1"] = replace(self.jobs.jobs["job-1"], **changes)


@pytest.fixture
def service(home: Home, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Service, httpx2.Client]]:
    monkeypatch.setattr(job_events, "POLL_S", 0.01)
    service = Service(home)
    with closing(bind("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(uvicorn.Config(service.app, log_config=None, access_log=False))
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        wait_until(lambda: server.started and service.app.state.runtime.ready)
        with httpx2.Client(base_url=f"http://127.0.0.1:{listener.getsockname()[1]}", timeout=10) as client:
            client.post("/v1/indexes/colors/rebuild")
            yield service, client
        service.listeners.close()
        server.should_exit = True
        thread.join()


def blocks(lines: Iterator[str]) -> Iterator[list[str]]:
    block: list[str] = []
    for line in lines:
        if line:
            block.append(line)
        else:
            yield block
            block = []


def test_a_job_is_followed_to_its_end(service: tuple[Service, httpx2.Client]) -> None:
    served, client = service
    with client.stream("GET", EVENTS) as answer:
        assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert answer.headers["cache-control"] == "no-cache"
        events = blocks(answer.iter_lines())
        first = next(events)
        served.move(done=8)
        second = next(events)
        served.move(done=12, state=JobState.DONE)
        rest = list(events)
    assert [line.split(": ", 1)[0] for line in first] == ["event", "data", "id"]
    assert json.loads(first[1].removeprefix("data: ")) == client.get("/v1/jobs/job-1").json() | {
        "done": 3,
        "state": "running",
    }
    assert (first[0], second[0], second[2]) == ("event: progress", "event: progress", "id: running-8-12")
    assert [event[0] for event in rest] == ["event: end"]


def test_who_comes_back_after_the_end_is_sent_away(service: tuple[Service, httpx2.Client]) -> None:
    served, client = service
    served.move(done=12, state=JobState.DONE)
    assert client.get(EVENTS).text.startswith("event: end")
    again = client.get(EVENTS, headers={"Last-Event-ID": "done-12-12"})
    assert (again.status_code, again.content) == (204, b"")


def test_who_comes_back_in_between_gets_the_end(service: tuple[Service, httpx2.Client]) -> None:
    served, client = service
    served.move(done=12, state=JobState.FAILED, error="no more")
    answer = client.get(EVENTS, headers={"Last-Event-ID": "running-8-12"})
    assert '"error":"no more"' in answer.text


def test_a_job_that_stands_still_sends_comments(
    service: tuple[Service, httpx2.Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_events, "HEARTBEAT_S", 0.02)
    _, client = service
    with client.stream("GET", EVENTS) as answer:
        events = blocks(answer.iter_lines())
        assert next(events)[0] == "event: progress"
        assert next(events) == [": ping"]


def test_places_are_bounded_and_free_again_when_callers_leave(service: tuple[Service, httpx2.Client]) -> None:
    served, client = service
    with ExitStack() as stack:
        streams = [stack.enter_context(client.stream("GET", EVENTS)).iter_lines() for _ in range(2)]
        assert {next(lines) for lines in streams} == {"event: progress"}
        refused = client.get(EVENTS)
        assert (refused.status_code, refused.json()["code"]) == (429, "overloaded")
        assert refused.headers["retry-after"] == "10"
    served.move(state=JobState.DONE)
    wait_until(lambda: client.get(EVENTS).status_code == 200)


def test_a_caller_that_leaves_ends_the_looking(service: tuple[Service, httpx2.Client]) -> None:
    served, client = service
    with client.stream("GET", EVENTS) as answer:
        lines = answer.iter_lines()  # dropped, it would close the connection
        next(lines)
        assert served.listeners.count == 1
    wait_until(lambda: served.listeners.count == 0)


def test_the_service_closes_its_streams(service: tuple[Service, httpx2.Client]) -> None:
    served, client = service
    with client.stream("GET", EVENTS) as answer:
        lines = answer.iter_lines()
        next(lines)
        served.listeners.close()
        assert "event: end" not in list(lines)


def test_head_waits_for_nothing(service: tuple[Service, httpx2.Client]) -> None:
    served, client = service
    answer = client.head(EVENTS)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/event-stream; charset=utf-8")
    wait_until(lambda: served.listeners.count == 0)


def test_a_job_that_is_not_there_has_no_events(service: tuple[Service, httpx2.Client]) -> None:
    _, client = service
    assert client.get("/v1/jobs/nothing/events").json()["code"] == "job_not_found"

"""The service of a first start: not ready, and saying how far it is, until a worker has built the index of the demo."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from api_home import Home, RecordedJobs, Serve, runtime_of
from fastapi.testclient import TestClient

from app.demo import INDEX, MODEL, queue_demo
from app.jobs import DiskFull, Job, JobState, RebuildRunning
from app.settings import Settings


@pytest.fixture
def client(serve: Serve) -> TestClient:
    return serve(ready=False, demo=True)


def jobs_of(client: TestClient) -> RecordedJobs:
    jobs: RecordedJobs = client.app.state.jobs  # type: ignore[attr-defined]  # TestClient.app is any ASGI callable
    return jobs


def detail(client: TestClient) -> str:
    """What a service that has opened its indexes says of the demo."""
    runtime_of(client).open_all()
    answer = client.get("/readyz")
    assert (answer.status_code, answer.json()["code"]) == (503, "not_ready")
    text: str = answer.json()["detail"]
    return text


def rebuild(client: TestClient, **changes: object) -> None:
    job = Job("job-1", INDEX, "rebuild", JobState.RUNNING, 0, 0, None, None, (), None)
    jobs_of(client).jobs[job.id] = replace(job, **changes)  # type: ignore[arg-type]  # it takes any field


def test_before_any_worker_it_says_that_one_is_needed(client: TestClient) -> None:
    assert "none has yet" in detail(client)


def test_meanwhile_it_says_how_far_the_index_is(client: TestClient) -> None:
    rebuild(client, done=40, total=100)
    assert detail(client).startswith("building 40 %")


def test_before_the_plan_nothing_is_done(client: TestClient) -> None:
    rebuild(client, state=JobState.QUEUED, done=0, total=0)
    assert detail(client).startswith("building 0 %")


def test_between_the_end_of_the_rebuild_and_the_first_query_it_is_being_opened(client: TestClient) -> None:
    rebuild(client, state=JobState.DONE, done=100, total=100)
    assert "being opened" in detail(client)


def test_a_failure_is_told_without_its_reason_which_may_name_items(client: TestClient) -> None:
    rebuild(client, state=JobState.FAILED, error="item 7 is bad")
    assert "was not built" in detail(client)
    assert "item 7" not in detail(client)


def test_the_index_makes_it_ready(client: TestClient, home: Home) -> None:
    rebuild(client)
    detail(client)
    home.add_generation(INDEX, MODEL)
    runtime_of(client).refresh()
    assert client.get("/readyz").status_code == 200


def test_a_service_that_does_not_serve_that_index_does_not_wait_for_it(serve: Serve) -> None:
    assert serve(demo=True, indexes=("colors",)).get("/readyz").status_code == 200


def test_without_the_setting_a_home_without_indexes_is_ready(serve: Serve) -> None:
    assert serve().get("/readyz").status_code == 200


class Queue:
    """Remembers what it was asked for, or refuses it."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.asked: list[tuple[str, str, str]] = []

    def start(self, index: str, *, source: str, model: str) -> Job:
        self.asked.append((index, source, model))
        if self.error is not None:
            raise self.error
        return Job("1", index, "rebuild", JobState.QUEUED, 0, 0, None, None, (), None)


Asked = Callable[[Queue], list[tuple[str, str, str]]]


@pytest.fixture
def asked(home: Home) -> Asked:
    def ask(queue: Queue) -> list[tuple[str, str, str]]:
        queue_demo(Settings(home=home.path, demo=True), queue)
        return queue.asked

    return ask


@pytest.mark.parametrize("error", [None, RebuildRunning("another worker was first"), DiskFull("no room")])
def test_a_worker_asks_for_the_demo_and_goes_on_whatever_becomes_of_it(error: Exception | None, asked: Asked) -> None:
    assert asked(Queue(error)) == [("demo", "openclipart", "demo")]


def test_a_worker_leaves_an_index_that_is_there(home: Home, asked: Asked) -> None:
    home.add_generation(INDEX, MODEL)
    assert asked(Queue()) == []


def test_a_worker_makes_no_demo_that_nobody_wants(home: Home) -> None:
    queue = Queue()
    queue_demo(Settings(home=home.path), queue)
    assert queue.asked == []

"""Each limit: just within it a request is answered, just beyond it it gets its problem."""

import asyncio
import re
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from api_home import BITS, GatedHasher, Serve, png, wait_until
from fastapi.testclient import TestClient
from httpx2 import Response

from app.problems import Problem
from app.settings import Limits
from model.hasher import Modality

TEXT = "/v1/search/text"
IMAGE = "/v1/search/image"
CODE = "00" * (BITS // 8)


def text(**body: object) -> Callable[[TestClient], Response]:
    return lambda client: client.post(TEXT, json={"query": "a"} | body)


def images(count: int, size: tuple[int, int] = (8, 6)) -> Callable[[TestClient], Response]:
    return lambda client: client.post(IMAGE, files=[("file", png(size=size))] * count)


def append(*ids: str, **parts: object) -> Callable[[TestClient], Response]:
    items = [{"id": item_id, "text": "a"} | parts for item_id in ids]
    return lambda client: client.post("/v1/indexes/colors/items", json={"items": items})


def codes(count: int) -> Callable[[TestClient], Response]:
    return lambda client: client.post("/v1/search/code", json={"codes": [CODE] * count})


def texts(count: int) -> Callable[[TestClient], Response]:
    return lambda client: client.post(TEXT, json={"queries": ["a"] * count})


def padded(size: int) -> Callable[[TestClient], Response]:
    body = b'{"query": "a"}'.ljust(size)
    return lambda client: client.post(TEXT, content=body, headers={"Content-Type": "application/json"})


@pytest.mark.parametrize(
    ("limits", "within", "beyond", "code"),
    [
        ({"body_bytes": 2000}, padded(2000), padded(2001), "payload_too_large"),
        ({"image_pixels": 100}, images(1, (10, 10)), images(1, (101, 1)), "image_too_many_pixels"),
        ({"queries": 3}, texts(3), texts(4), "invalid_request"),
        ({"queries": 3}, images(3), images(4), "invalid_request"),
        ({"queries": 3}, codes(3), codes(4), "invalid_request"),
        ({"text_chars": 10}, text(query="x" * 10), text(query="x" * 11), "invalid_request"),
        ({"text_chars": 10}, append("a", text="x" * 10), append("a", text="x" * 11), "invalid_request"),
        ({"items": 2}, append("a", "b"), append("a", "b", "c"), "invalid_request"),
        ({"id_chars": 5}, append("x" * 5), append("x" * 6), "invalid_request"),
        (
            {"metadata_bytes": 11},
            append("a", metadata={"a": "é"}),
            append("a", metadata={"a": "éé"}),
            "invalid_request",
        ),
        ({"hits": 5}, text(limit=5), text(limit=6), "invalid_request"),
    ],
)
def test_what_a_request_may_hold(
    serve: Serve,
    limits: dict[str, int],
    within: Callable[[TestClient], Response],
    beyond: Callable[[TestClient], Response],
    code: str,
) -> None:
    client = serve(limits=limits)
    assert within(client).status_code == 200
    assert beyond(client).json()["code"] == code


def test_a_radius_search_gives_as_many_hits_as_its_depth_and_says_so(serve: Serve) -> None:
    client = serve(limits={"depth": 7})
    body = {"query": "a", "target": "text", "radius": BITS, "limit": 5}
    first = client.post(TEXT, json=body).json()
    last = client.post(TEXT, json=body | {"cursor": first["next_cursor"]}).json()
    assert [len(page["hits"]) for page in (first, last)] == [5, 2]
    assert (last["total_within_radius"], last["truncated"], last["next_cursor"]) == (12, True, None)
    assert client.post(TEXT, json=body | {"radius": 0}).json()["truncated"] is False


def test_the_depth_bounds_a_search_without_radius_too(serve: Serve) -> None:
    client = serve(limits={"depth": 3})
    answer = client.post(TEXT, json={"query": "a", "target": "text", "limit": 5}).json()
    assert (len(answer["hits"]), answer["next_cursor"]) == (3, None)


def test_calls_beyond_the_queue_are_told_when_to_come_back(serve: Serve) -> None:
    hasher = GatedHasher(BITS)
    client = serve(load=lambda *_: hasher, limits={"queue": 2})
    with ThreadPoolExecutor(3) as pool:
        calls = [pool.submit(text(), client)]
        hasher.entered.acquire(timeout=10)
        calls += [pool.submit(text(), client) for _ in range(2)]
        wait_until(lambda: client.app.state.runtime.encoding.waiting(Modality.TEXT) == 2)
        answer = text()(client)
        assert (answer.json()["code"], answer.headers["retry-after"]) == ("overloaded", "1")
        assert codes(1)(client).status_code == 200  # another stage has its own queue
        hasher.gate.set()
        assert [call.result().status_code for call in calls] == [200] * 3
    assert text()(client).status_code == 200


def test_the_queue_for_searching_is_bounded_too(serve: Serve) -> None:
    client = serve(limits={"queue": 0}, search_threads=1)
    stage = client.app.state.runtime.searching

    async def fill() -> None:
        gate = asyncio.Event()
        loop = asyncio.get_running_loop()
        held = asyncio.create_task(stage.run(lambda: asyncio.run_coroutine_threadsafe(gate.wait(), loop).result(10)))
        await asyncio.sleep(0)
        answer = await asyncio.to_thread(codes(1), client)
        assert answer.json()["code"] == "overloaded"
        with pytest.raises(Problem):
            await stage.run(lambda: None)
        gate.set()
        await held

    asyncio.run(fill())
    assert codes(1)(client).status_code == 200


def test_a_body_has_to_arrive_in_its_time(serve: Serve) -> None:
    def dawdling() -> Iterator[bytes]:
        yield b'{"query": '
        time.sleep(0.04)
        yield b'"a"}'

    sent = {"content": dawdling(), "headers": {"Content-Type": "application/json"}}
    assert serve(limits={"body_s": 5}).post(TEXT, **sent).status_code == 200  # beyond it: test_api_connections


def test_an_image_has_its_own_time_to_decode(serve: Serve) -> None:
    assert images(2)(serve(decode_processes=1)).status_code == 200
    hurried = serve(limits={"decode_s": 1e-6}, decode_processes=1)
    assert images(1)(hurried).json()["code"] == "unsupported_image"


@pytest.mark.parametrize("path", [TEXT, "/v1/encode/text"])
def test_the_deadline_counts_the_wait(serve: Serve, path: str) -> None:
    hasher = GatedHasher(BITS)
    client = serve(load=lambda *_: hasher, limits={"deadline_s": 0.05})
    assert [client.post(path, json={"query": "a"}).json()["code"] for _ in range(2)] == ["deadline_exceeded"] * 2
    hasher.gate.set()


def test_every_limit_has_a_test(request: pytest.FixtureRequest) -> None:
    source = "".join(path.read_text() for path in request.path.parent.glob("test_api_*.py"))
    assert [name for name in Limits.model_fields if not re.search(rf'\b{name}("|=)', source)] == []


def test_callers_are_told_the_limits(serve: Serve) -> None:
    client = serve(limits={"hits": 5, "queue": 9})
    told = client.get("/v1/models").json()
    assert told["limits"] == Limits(hits=5).model_dump(exclude={"queue", "listeners"})
    assert {queue["limit"] for queue in told["queues"]} == {9}

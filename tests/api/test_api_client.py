"""The Python client against the service itself, and against answers that a service in trouble would give."""

import asyncio
import inspect
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NotRequired, get_origin, get_type_hints

import httpx2
import pytest
from api_home import BITS, Home, Serve, png
from fastapi.testclient import TestClient
from pydantic import BaseModel

from app import client_types
from app.client import AsyncClient, Client, ServiceError, ServiceUnreachable
from app.schemas import base, encode, indexes, items, jobs, search
from model.fake import FusingFakeHasher

URL = "http://testserver"
FULL = {"type": "t", "title": "t", "status": 429, "detail": "64 calls are waiting", "code": "overloaded"}


@pytest.fixture
def served(home: Home, serve: Serve) -> TestClient:
    """A service whose default index is that of the colours; another one has pairs."""
    home.add_artifact("fusing", FusingFakeHasher)
    home.add_generation("fused", "fusing")
    return serve(default_index="colors")


@pytest.fixture
def client(served: TestClient) -> Client:
    return Client(URL, transport=served._transport)


def answering(*answers: httpx2.Response) -> tuple[httpx2.MockTransport, list[httpx2.Request]]:
    """A service that gives these answers, and what it was asked."""
    asked: list[httpx2.Request] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        asked.append(request)
        return answers[len(asked) - 1]

    return httpx2.MockTransport(answer), asked


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long the client waited, without waiting."""
    waited: list[float] = []

    async def wait(seconds: float) -> None:
        waited.append(seconds)

    monkeypatch.setattr("app.client.time.sleep", waited.append)
    monkeypatch.setattr("app.client.asyncio.sleep", wait)
    return waited


CALLS: dict[str, Callable[[Any], Any]] = {  # Any: either client, and what its call gives
    "search_text": lambda client: client.search_text("a gold square", limit=2, filter={"labels": "square"}),
    "search_texts": lambda client: client.search_texts(["a gold square", "a teal square"], target="text"),
    "search_image": lambda client: client.search_image(png("gold"), target="image", limit=3, filter={"number": 3}),
    "search_images": lambda client: client.search_images([png("gold"), png("teal")], radius=BITS),
    "search_pair": lambda client: client.search_pair(png("gold"), "a gold square", index="fused", explain=True),
    "search_item": lambda client: client.search_item("gold/03", "text"),
    "encode_texts": lambda client: client.encode_texts(["a gold square"], model="demo", bits=32),
    "encode_images": lambda client: client.encode_images([png("gold"), png("teal")]),
    "encode_pairs": lambda client: client.encode_pairs([png(), png()], ["a", "b"], index="fused"),
    "indexes": lambda client: client.indexes(),
    "index": lambda client: client.index("fused"),
    "item": lambda client: client.item("colors", "gold/03"),
    "thumbnail": lambda client: client.thumbnail("colors", "gold/03"),
    "models": lambda client: client.models(),
    "jobs": lambda client: client.jobs(),
}


def timeless(value: object) -> object:
    """An answer without how long it took, and with the names of dictionaries' classes left out."""
    if isinstance(value, dict):
        return {name: timeless(one) for name, one in value.items() if name != "took_ms"}
    return [timeless(one) for one in value] if isinstance(value, list) else value


@pytest.mark.parametrize("name", CALLS)
def test_a_call_and_an_awaited_call_give_the_same(served: TestClient, client: Client, name: str) -> None:
    async def awaited() -> object:
        async with AsyncClient(URL, transport=httpx2.ASGITransport(app=served.app)) as other:
            return await CALLS[name](other)

    found = CALLS[name](client)
    assert found or name == "jobs"
    assert timeless(asyncio.run(awaited())) == timeless(found)


def test_an_answer_is_that_of_the_service(served: TestClient, client: Client) -> None:
    raw = served.post("/v1/search/text", json={"query": "a gold square", "target": "text", "limit": 2}).json()
    found = client.search_text("a gold square", target="text", limit=2)
    assert timeless(found) == timeless(raw)
    assert found["hits"][0]["id"] == "gold/03"


def test_several_answers_come_in_order(client: Client) -> None:
    answers = client.search_texts(["a gold square", "a teal square"], target="text", limit=1)
    assert [answer["hits"][0]["id"] for answer in answers] == ["gold/03", "teal/07"]
    assert len(client.search_images([png("gold")])) == 1


def test_a_code_finds_what_its_text_finds(client: Client) -> None:
    encoded = client.encode_texts(["a gold square"])
    found = client.search_code(encoded["codes"][0], fingerprint=encoded["fingerprint"], target="text", limit=1)
    assert found["hits"][0]["distance"] == 0
    with pytest.raises(ServiceError) as caught:
        client.search_code(encoded["codes"][0], fingerprint="0" * 64)
    assert (caught.value.code, caught.value.status) == ("model_index_mismatch", 409)


def test_an_image_may_be_a_file(client: Client, tmp_path: Path) -> None:
    (tmp_path / "gold.png").write_bytes(png("gold"))
    assert client.encode_images([tmp_path / "gold.png"])["codes"] == client.encode_images([png("gold")])["codes"]


def test_pages_go_on_from_the_cursor(client: Client) -> None:
    first = client.search_text("a gold square", target="text", limit=5)
    cursor = first["next_cursor"]
    assert cursor is not None
    second = client.search_text("a gold square", target="text", limit=5, cursor=cursor)
    assert [hit["rank"] for hit in second["hits"]] == [6, 7, 8, 9, 10]


def test_a_rebuild_is_started_watched_and_cancelled(client: Client) -> None:
    job = client.rebuild("colors", idempotency_key="monday", reuse=False)
    assert (job["index"], job["state"]) == ("colors", "running")
    assert client.jobs() == [job]
    assert client.cancel(job["id"])["state"] == "cancelled"
    seen: list[client_types.Job] = []
    assert client.wait(job["id"], watch=seen.append) == seen[0] == client.job(job["id"])


def test_items_are_appended_and_deleted(client: Client, tmp_path: Path) -> None:
    (tmp_path / "new.png").write_bytes(png("navy"))
    drafts: list[client_types.Draft] = [
        {"id": "new/1", "image": tmp_path / "new.png", "metadata": {"number": 99}},
        {"id": "new/2", "image": png("teal"), "text": "a teal square"},
        {"id": "new/3", "text": "a crimson square"},
    ]
    assert client.append("colors", drafts)["appended"] == 3
    assert client.search_text("a crimson square", target="text", limit=1)["hits"][0]["id"] == "new/3"
    assert client.search_image(png("navy"), target="image", filter={"number": 99})["hits"][0]["id"] == "new/1"
    assert client.delete("colors", "new/3")["id"] == "new/3"
    with pytest.raises(ServiceError) as caught:
        client.item("colors", "new/3")
    assert caught.value.code == "item_not_found"


def test_it_waits_until_a_job_is_final(pauses: list[float]) -> None:
    states = ["queued", "running", "done"]
    transport, _ = answering(*(httpx2.Response(200, json={"state": state}) for state in states))
    assert Client(URL, transport=transport).wait("job", poll_s=2)["state"] == "done"
    assert pauses == [2, 2]


def test_a_rollback_serves_an_earlier_generation(home: Home, client: Client) -> None:
    home.add_generation("colors", "demo")
    assert client.rollback("colors", 1)["generation"] == 1


def test_a_full_service_is_asked_again_when_it_says(pauses: list[float]) -> None:
    full = httpx2.Response(429, json=FULL | {"request_id": "r"}, headers={"Retry-After": "3"})
    transport, asked = answering(full, full, httpx2.Response(200, json={"hits": []}))
    assert Client(URL, transport=transport).search_text("a boat") == {"hits": []}
    assert pauses == [3, 6]
    assert len({request.content for request in asked}) == 1


def test_a_service_that_stays_full_is_an_error(pauses: list[float]) -> None:
    full = httpx2.Response(429, json=FULL | {"request_id": "r-7"})
    transport, asked = answering(*[full] * 3)

    async def ask() -> None:
        async with AsyncClient(URL, transport=transport, retries=2) as client:
            await client.search_text("a boat")

    with pytest.raises(ServiceError, match="64 calls are waiting") as caught:
        asyncio.run(ask())
    assert (caught.value.code, caught.value.status, caught.value.request_id) == ("overloaded", 429, "r-7")
    assert (len(asked), len(pauses)) == (3, 2)


def test_nothing_else_is_asked_again(client: Client, pauses: list[float]) -> None:
    with pytest.raises(ServiceError) as caught:
        client.search_text("a boat", index="nowhere")
    assert caught.value.code == "index_not_found"
    assert caught.value.request_id
    assert not pauses


def test_an_answer_of_somebody_else_is_shown() -> None:
    transport, _ = answering(httpx2.Response(502, text="<html>Bad gateway"))
    with pytest.raises(ServiceError, match="Bad gateway") as caught:
        Client(URL, transport=transport).indexes()
    assert caught.value.code == "unknown"


def test_nothing_that_listens_is_an_error_of_its_own() -> None:
    with (
        pytest.raises(ServiceUnreachable, match=r"127\.0\.0\.1:9"),
        Client("http://127.0.0.1:9", timeout_s=5) as client,
    ):
        client.indexes()


def test_the_key_goes_with_every_call() -> None:
    transport, asked = answering(httpx2.Response(200, json={"indexes": []}))
    Client(URL, key="crossbit_secret", transport=transport).indexes()
    assert asked[0].headers["authorization"] == "Bearer crossbit_secret"


def test_a_name_cannot_leave_its_place_in_the_path() -> None:
    transport, asked = answering(httpx2.Response(200, json={}))
    Client(URL, transport=transport).item("colors", "../../jobs?x=1")
    assert asked[0].url.raw_path == b"/v1/indexes/colors/items/..%2F..%2Fjobs%3Fx%3D1"


def test_both_clients_have_the_same_calls() -> None:
    def calls(kind: type) -> dict[str, inspect.Signature]:
        public = inspect.getmembers(kind, inspect.isfunction)
        return {name: inspect.signature(one) for name, one in public if not name.startswith("_")}

    assert calls(Client) == calls(AsyncClient)
    assert {name for name in calls(Client) if name != "close"} >= set(CALLS)


SHAPES: list[tuple[type, type[BaseModel]]] = [
    (client_types.Answer, search.Answer),
    (client_types.Hit, search.Hit),
    (client_types.Tie, search.Tie),
    (client_types.Explanation, search.Explanation),
    (client_types.Presence, base.PresenceBody),
    (client_types.IndexReference, base.IndexReference),
    (client_types.ModelReference, base.ModelReference),
    (client_types.Took, base.Took),
    (client_types.Encoded, encode.Encoded),
    (client_types.Margins, encode.Margins),
    (client_types.IndexSummary, indexes.IndexSummary),
    (client_types.IndexBody, indexes.IndexBody),
    (client_types.Item, indexes.ItemBody),
    (client_types.Model, indexes.ModelBody),
    (client_types.Appended, items.AppendedBody),
    (client_types.Deleted, items.DeletedBody),
    (client_types.Pointer, jobs.PointerBody),
    (client_types.Skipped, jobs.SkippedBody),
    (client_types.Job, jobs.JobBody),
]


@pytest.mark.parametrize(("told", "body"), SHAPES, ids=[told.__name__ for told, _ in SHAPES])
def test_the_types_are_those_of_the_contract(told: type, body: type[BaseModel]) -> None:
    hints = get_type_hints(told, include_extras=True)
    optional = {name for name, hint in hints.items() if get_origin(hint) is NotRequired}
    assert set(hints) == set(body.model_fields)
    assert optional == {name for name, one in body.model_fields.items() if one.exclude_if is not None}


@pytest.mark.parametrize(
    ("told", "body"),
    [
        (client_types.SearchOptions, search.SearchOptions),
        (client_types.EncodeOptions, encode.EncodeOptions),
        (client_types.RebuildOptions, jobs.RebuildRequest),
    ],
)
def test_the_options_are_those_of_the_contract(told: type, body: type[BaseModel]) -> None:
    assert set(get_type_hints(told)) == set(body.model_fields)


def test_it_needs_httpx2_and_nothing_of_the_service() -> None:
    heavy = ("torch", "numpy", "fastapi", "starlette", "pydantic", "typer", "PIL", "model", "index", "encoders")
    code = f"import sys, app.client; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

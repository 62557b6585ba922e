"""Load and its figures, against small services in this process; the whole command is run in tests/e2e."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict
from pathlib import Path

import pytest
import typer
from aiohttp import ClientSession, web
from aiohttp.test_utils import TestServer
from hypothesis import given
from hypothesis import strategies as st
from tiny_home import load_fake, make_home

from app.bench.batching import SERVICES, SIZES, Round, as_notes, compare_batching, tell, work_of
from app.bench.load import Answered, Measurement, MeasurementFailed, measure, percentile, summarise
from app.bench.queries import Query, read_workload
from app.bench.serve import as_table
from app.index_commands import build
from app.rebuild_steps import Request
from app.settings import Settings
from index.generations import IndexDirectory
from index.writer import GenerationSpec, write_generation
from model.fake import FakeHasher
from model.hasher import EncodedBatch

TOOK = {"queue": 1.0, "decode": 0.0, "encode": 6.0, "search": 2.0, "total": 9.0}


class CountingHasher(FakeHasher):
    """Keeps the texts of each call."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[list[str]] = []

    def encode_texts(self, texts: Sequence[str]) -> EncodedBatch:
        self.calls.append(list(texts))
        return super().encode_texts(texts)


QUERIES = [Query("/a"), Query("/b"), Query("/c")]
Answer = Callable[[web.Request], Awaitable[web.Response]]


def service(status: int = 200, *, seen: list[str] | None = None, running: list[int] | None = None) -> Answer:
    """Answers every request alike; records the paths, and how many requests run at once."""
    count = 0

    async def answer(request: web.Request) -> web.Response:
        nonlocal count
        count += 1
        if seen is not None:
            seen.append(request.path)
        if running is not None:
            running.append(count)
        await asyncio.sleep(0.001)
        count -= 1
        return web.json_response({"took_ms": TOOK}, status=status)

    return answer


@asynccontextmanager
async def connected(answer: Answer) -> AsyncIterator[ClientSession]:
    app = web.Application()
    app.router.add_post("/{path:.*}", answer)
    async with TestServer(app) as server, ClientSession(server.make_url("/")) as client:
        yield client


def load(answer: Answer, *, concurrency: int = 1, requests: int = 4) -> Measurement:
    async def run() -> Measurement:
        async with connected(answer) as client:
            return await measure(client, "text", QUERIES, concurrency=concurrency, requests=requests)

    return asyncio.run(run())


def test_every_request_is_asked_once_going_round_the_queries() -> None:
    seen: list[str] = []
    assert load(service(seen=seen), requests=5).requests == 5
    assert seen == ["/a", "/b", "/c", "/a", "/b"]


def test_as_many_requests_run_at_once_as_asked_for() -> None:
    running: list[int] = []
    load(service(running=running), concurrency=4, requests=20)
    assert max(running) == 4


def test_a_refusal_is_counted_and_not_timed() -> None:
    measured = load(service(429))
    assert (measured.requests, measured.refused, measured.per_s, measured.p50_ms) == (4, 4, 0.0, 0.0)


def test_any_other_error_stops_the_measurement() -> None:
    with pytest.raises(MeasurementFailed, match="/a answered 500"):
        load(service(500))


def test_figures_tell_where_the_time_went() -> None:
    answers = [Answered(ms, TOOK) for ms in (30.0, 10.0, 20.0, 40.0)]
    measured = summarise("text", 4, answers, elapsed_s=2.0)
    assert (measured.p50_ms, measured.p95_ms, measured.p99_ms) == (20.0, 40.0, 40.0)
    assert (measured.per_s, measured.encode_ms, measured.wait_ms, measured.search_ms) == (2.0, 6.0, 1.0, 2.0)
    assert measured.added_ms == 1.0  # beside encoding and searching
    assert measured.encode_share == 6 / 8  # of the time that the service did not wait


@given(st.lists(st.floats(0, 1e6), min_size=1), st.sampled_from([50, 95, 99, 100]))
def test_a_percentile_is_the_smallest_value_that_so_many_do_not_exceed(values: list[float], percent: int) -> None:
    found = percentile(sorted(values), percent)
    assert sum(value <= found for value in values) >= percent / 100 * len(values)
    assert sum(value < found for value in values) < percent / 100 * len(values)


def test_batching_is_compared_over_the_same_texts_with_shares_of_the_bare_encoder_at_its_best() -> None:
    queries = [Query("/a", {"json": {"query": text}}) for text in ("one", "two", "three")]
    hasher, advanced = CountingHasher(), []

    async def run() -> list[Round]:
        async with AsyncExitStack() as stack:
            clients = {name: await stack.enter_async_context(connected(service())) for name in SERVICES}
            return await compare_batching(clients, hasher, queries, 10, advanced.append)

    rounds = asyncio.run(run())
    assert sum(advanced) == work_of(10)
    assert hasher.calls[len(SIZES) :][:2] == [["one"], ["two"]]
    assert {len(call) for call in hasher.calls} == {1, 4, 16, 30, 14, 2}
    told = tell(rounds)
    best = [max(one.bare_per_s.values()) for one in rounds]
    shares = sorted(one.saturated["batched"].per_s / most for one, most in zip(rounds, best, strict=True))
    assert told["services"]["batched"]["share_of_bare"] == shares[1]
    assert told["services"]["unbatched"]["alone_added_ms"] == 1.0
    assert len(as_notes(told)) == 1 + len(SERVICES)


def test_a_request_is_made_once_as_it_goes_over_the_wire() -> None:
    assert Query("/a", {"json": {"query": "é"}}).encode() == ('{"query":"é"}'.encode(), "application/json")
    body, kind = Query("/b", {"data": {"limit": 10}, "files": {"file": ("a.webp", b"RIFF", "image/webp")}}).encode()
    assert kind.startswith("multipart/form-data; boundary=")
    assert b"RIFF" in body


@pytest.fixture
def index_dir(tmp_path: Path) -> Path:
    home = make_home(tmp_path / "home", 100)
    request = Request("demo", "tiny", "first", 64, "first", reuse=True, dry_run=False)
    build(Settings(home=home), request, load_fake)
    return home / "indexes" / "demo"


def test_queries_are_the_indexs_own_items_spread_evenly(index_dir: Path) -> None:
    workload = read_workload(index_dir)
    assert workload.index == {"name": "demo", "artifact": "first", "bits": 64, "generation": 1, "items": 80}
    assert {kind: len(queries) for kind, queries in workload.queries.items()} == {"text": 64, "image": 64, "code": 128}
    first = {kind: queries[0].body for kind, queries in workload.queries.items()}
    assert first["text"]["json"] == {"index": "demo", "limit": 10, "target": "image", "query": "title 0"}
    assert first["image"]["data"] == {"index": "demo", "limit": 10, "target": "text"}
    assert first["image"]["files"]["file"][1][8:12] == b"WEBP"
    assert len(first["code"]["json"]["codes"][0]) == 16


def test_an_empty_index_cannot_be_measured(tmp_path: Path) -> None:
    spec = GenerationSpec("empty", 64, "first", "0" * 64, "cpu", "tiny", "first", columns=("image",))
    write_generation(tmp_path / "empty", spec, [])
    IndexDirectory(tmp_path / "empty").activate(1)
    with pytest.raises(typer.BadParameter, match="expected items to ask for, found none"):
        read_workload(tmp_path / "empty")


def test_the_table_has_a_cell_for_each_heading() -> None:
    headings, rows = as_table({"measurements": [asdict(load(service()))]})
    assert {len(row) for row in rows} == {len(headings)}

"""Load of a fixed number of requests at a fixed concurrency, and what it took.

The requests are made beforehand and sent by aiohttp, whose parser is compiled: the client shares the cores with the
service, and what it takes of them the service lacks.
"""

import asyncio
import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from statistics import median
from typing import TYPE_CHECKING

from app.bench.queries import Query
from app.jobs import JobError

if TYPE_CHECKING:
    from aiohttp import ClientSession

OVERLOADED = 429
Wire = tuple[str, bytes, str]  # path, body and content type of a request


class MeasurementFailed(JobError):
    """The service answered a query with an error, or not at all."""


@dataclass(frozen=True, slots=True)
class Answered:
    """One answer: how long it took the client, and where the service spent that time."""

    ms: float
    took_ms: dict[str, float]  # by stage, as the service told it; empty where it refused


@dataclass(frozen=True, slots=True)
class Measurement:
    """One kind of query at one concurrency; milliseconds are those that the client waited."""

    kind: str
    concurrency: int
    requests: int
    refused: int  # 429: the service's queue was full
    p50_ms: float
    p95_ms: float
    p99_ms: float
    per_s: float
    encode_ms: float  # median that the encoder ran
    wait_ms: float  # median in the service's queues
    search_ms: float
    added_ms: float  # median of what the service took beside encoding and searching
    encode_share: float  # of the time that the service worked, waiting left out


async def measure(
    client: "ClientSession",
    kind: str,
    queries: Sequence[Query],
    *,
    concurrency: int,
    requests: int,
    advance: Callable[[int], None] = lambda count: None,
) -> Measurement:
    """Ask ``requests`` times, ``concurrency`` at once, going round the queries.

    Raises:
        MeasurementFailed: an answer that is neither a result nor a refusal.
    """
    wanted = islice(cycle([(query.path, *query.encode()) for query in queries]), requests)
    answers: list[Answered] = []
    started = time.perf_counter()
    await asyncio.gather(*(_ask(client, wanted, answers, advance) for _ in range(concurrency)))
    elapsed = time.perf_counter() - started
    return summarise(kind, concurrency, answers, elapsed)


async def _ask(
    client: "ClientSession", wanted: Iterator[Wire], answers: list[Answered], advance: Callable[[int], None]
) -> None:
    for path, body, kind in wanted:
        started = time.perf_counter()
        async with client.post(path, data=body, headers={"Content-Type": kind}) as response:
            text = await response.text()
        ms = 1000 * (time.perf_counter() - started)
        if response.status not in (200, OVERLOADED):
            raise MeasurementFailed(f"{path} answered {response.status}: {text:.300}")
        answers.append(Answered(ms, json.loads(text)["took_ms"] if response.status == 200 else {}))
        advance(1)


def summarise(kind: str, concurrency: int, answers: Sequence[Answered], elapsed_s: float) -> Measurement:
    """Figures over the answers that were results; ``elapsed_s`` is the time from the first request to the last."""
    results = [answer for answer in answers if answer.took_ms]
    times = sorted(answer.ms for answer in results)
    stages = {
        stage: median([answer.took_ms[stage] for answer in results] or [0.0]) for stage in ("encode", "queue", "search")
    }
    added = [answer.took_ms["total"] - answer.took_ms["encode"] - answer.took_ms["search"] for answer in results]
    worked = [answer.took_ms["total"] - answer.took_ms["queue"] for answer in results]
    encoded = [answer.took_ms["encode"] for answer in results]
    return Measurement(
        kind=kind,
        concurrency=concurrency,
        requests=len(answers),
        refused=len(answers) - len(results),
        p50_ms=percentile(times, 50),
        p95_ms=percentile(times, 95),
        p99_ms=percentile(times, 99),
        per_s=len(results) / elapsed_s,
        encode_ms=stages["encode"],
        wait_ms=stages["queue"],
        search_ms=stages["search"],
        added_ms=median(added or [0.0]),
        encode_share=sum(encoded) / sum(worked) if sum(worked) else 0.0,
    )


def percentile(ascending: Sequence[float], percent: float) -> float:
    """Nearest rank: the smallest value that at least ``percent`` % of the values do not exceed; 0 of none."""
    return ascending[math.ceil(percent / 100 * len(ascending)) - 1] if ascending else 0.0

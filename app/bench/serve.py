"""What `crossbit bench serve` does: start the service, ask it, and say where the time went and what batching gains."""

import asyncio
import os
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack, ExitStack
from dataclasses import asdict
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import typer

from app.bench.batching import SERVICES, Round, compare_batching, tell, work_of
from app.bench.load import Measurement, MeasurementFailed, measure
from app.bench.queries import Workload, read_workload
from app.bench.service import Running, running_service
from app.lookup import find_index
from app.settings import Settings
from app.show import progress
from model.hasher import Hasher

if TYPE_CHECKING:
    from aiohttp import ClientSession

CONCURRENCIES = (1, 4, 16)
CODE_REQUESTS = 10  # times as many as of the others: they are that much quicker
WARM_UP = 16  # requests before each measurement, not counted
TIMEOUT_S = 60.0
KEEP_ALIVE_S = 2.0  # the service closes idle connections after 5 s, which goes unseen while texts are encoded here


def bench_serve(settings: Settings, index: str | None, requests: int) -> dict[str, Any]:  # Any: JSON
    """Measure text, image and code queries of one index at each concurrency, and texts without batching.

    Raises:
        IndexNotFound: the message lists those that exist.
        JobError: the service did not start, or answered with an error.
        typer.BadParameter: aiohttp is missing.
    """
    if find_spec("aiohttp") is None:
        raise typer.BadParameter("expected aiohttp, found none; pip install 'crossbit[bench]'")
    workload = read_workload(find_index(settings, index))
    load = os.getloadavg()[0]
    total = sum(_requests(kind, requests) for kind in workload.queries) * len(CONCURRENCIES)
    total += work_of(requests) if "text" in workload.queries else 0
    with ExitStack() as stack:
        services = {
            name: stack.enter_context(running_service(settings, **variables)) for name, variables in SERVICES.items()
        }
        advance = stack.enter_context(progress("measuring", total))
        measured, rounds = asyncio.run(_measure_all(services, settings, workload, requests, advance))
    return {
        "index": dict(workload.index),
        "cores": os.cpu_count(),
        "load_before": load,
        "measurements": [asdict(one) for one in measured],
        "batching": tell(rounds) if rounds else None,
    }


def as_table(measured: dict[str, Any]) -> tuple[list[str], list[list[str]]]:  # Any: JSON
    """Headings and a row a measurement."""
    headings = ["query", "at once", "p50 ms", "p95 ms", "p99 ms", "per s", "encoder ms", "encoder's share", "refused"]
    rows = [
        [
            one["kind"],
            str(one["concurrency"]),
            *(f"{one[key]:.1f}" for key in ("p50_ms", "p95_ms", "p99_ms", "per_s", "encode_ms")),
            f"{one['encode_share']:.0%}",
            str(one["refused"]),
        ]
        for one in measured["measurements"]
    ]
    return headings, rows


def _open_hasher(settings: Settings, workload: Workload) -> Hasher:
    """The bare model of the index, as the service loads it."""
    from model.artifact import load_hasher

    index = workload.index
    return load_hasher(settings.artifacts_dir / index["artifact"], index["bits"], settings.device)


async def _measure_all(
    services: Mapping[str, Running],
    settings: Settings,
    workload: Workload,
    requests: int,
    advance: Callable[[int], None],
) -> tuple[list[Measurement], list[Round]]:
    from aiohttp import ClientError

    async with AsyncExitStack() as stack:
        clients = {name: await stack.enter_async_context(_client_of(one)) for name, one in services.items()}
        try:
            measured = await _measure_kinds(clients["batched"], workload, requests, advance)
            if "text" not in workload.queries:
                return measured, []
            hasher, texts = _open_hasher(settings, workload), workload.queries["text"]
            return measured, await compare_batching(clients, hasher, texts, requests, advance)
        except (ClientError, TimeoutError) as error:
            raise MeasurementFailed(f"the service stopped answering: {error!r}") from error


def _client_of(service: Running) -> "ClientSession":
    from aiohttp import ClientSession, ClientTimeout, TCPConnector

    return ClientSession(
        service.url,
        headers={"Authorization": f"Bearer {service.key}"},
        timeout=ClientTimeout(TIMEOUT_S),
        # otherwise never more than 100 requests would be under way
        connector=TCPConnector(limit=0, keepalive_timeout=KEEP_ALIVE_S),
    )


async def _measure_kinds(
    client: "ClientSession", workload: Workload, requests: int, advance: Callable[[int], None]
) -> list[Measurement]:
    measured = []
    for kind, queries in workload.queries.items():
        await measure(client, kind, queries, concurrency=max(CONCURRENCIES), requests=WARM_UP)
        for concurrency in CONCURRENCIES:
            count = _requests(kind, requests)
            measured.append(
                await measure(client, kind, queries, concurrency=concurrency, requests=count, advance=advance)
            )
    return measured


def _requests(kind: str, requests: int) -> int:
    return requests * CODE_REQUESTS if kind == "code" else requests

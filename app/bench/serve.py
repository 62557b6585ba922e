"""What `crossbit bench serve` does: start the service, ask it, and say where the time went."""

import asyncio
import os
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import typer

from app.bench.load import Measurement, MeasurementFailed, measure
from app.bench.queries import Workload, read_workload
from app.bench.service import Running, running_service
from app.lookup import find_index
from app.settings import Settings
from app.show import progress

CONCURRENCIES = (1, 4, 16)
CODE_REQUESTS = 10  # times as many as of the others: they are that much quicker
WARM_UP = 16  # requests before each measurement, not counted
TIMEOUT_S = 60.0


def bench_serve(settings: Settings, index: str | None, requests: int) -> dict[str, Any]:  # Any: JSON
    """Measure text, image and code queries of one index at each concurrency.

    Raises:
        typer.BadParameter: the extra `bench` is not installed.
        JobError: the service did not start, or answered with an error.
    """
    try:
        import httpx2  # noqa: F401
    except ImportError as error:
        raise typer.BadParameter("expected httpx2, found none; pip install 'crossbit[bench]'") from error
    workload = read_workload(find_index(settings, index))
    load = os.getloadavg()[0]
    total = sum(_requests(kind, requests) for kind in workload.queries) * len(CONCURRENCIES)
    with running_service(settings) as service, progress("measuring", total) as advance:
        measured = asyncio.run(_measure_all(service, workload, requests, advance))
    return {
        "index": dict(workload.index),
        "cores": os.cpu_count(),
        "load_before": load,
        "measurements": [asdict(one) for one in measured],
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


async def _measure_all(
    service: Running, workload: Workload, requests: int, advance: Callable[[int], None]
) -> list[Measurement]:
    from httpx2 import AsyncClient, HTTPError

    measured = []
    headers = {"Authorization": f"Bearer {service.key}"}
    async with AsyncClient(base_url=service.url, headers=headers, timeout=TIMEOUT_S, trust_env=False) as client:
        try:
            for kind, queries in workload.queries.items():
                await measure(client, kind, queries, concurrency=max(CONCURRENCIES), requests=WARM_UP)
                for concurrency in CONCURRENCIES:
                    count = _requests(kind, requests)
                    measured.append(
                        await measure(client, kind, queries, concurrency=concurrency, requests=count, advance=advance)
                    )
        except HTTPError as error:
            raise MeasurementFailed(f"the service stopped answering: {error!r}") from error
    return measured


def _requests(kind: str, requests: int) -> int:
    return requests * CODE_REQUESTS if kind == "code" else requests

"""A rebuild beside the bare encoder, and queries over HTTP beside rebuilds and swaps.

    python benchmarks/rebuild.py HOME [--index demo] [--queries 2000]

Prints, from one run: items per second of rebuilds that reuse nothing, with loading the model, reading, thumbnails,
writing and verifying, against the bare ``Hasher`` on the same files in as many threads, in turn, and the median of the
rounds' ratios (a first rebuild, which also imports what models stand on, is shown beside them); and the milliseconds
that text queries took, one at a time: on an idle service, while `crossbit worker` rebuilds in one thread and stands
back, and while the service swaps generations (rollbacks to and fro, queries in flight over them). A query that fails
ends it.
"""

import argparse
import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from own_service import MAIN, OwnService, own_service

from app.bench.load import percentile
from app.client import AsyncClient, Client
from app.show import progress, show_table
from app.sources import open_source
from index.generations import IndexDirectory
from model.artifact import load_hasher
from model.bulk import in_batches
from model.images import decode_image
from model.items import Item

BATCH, THREADS = 32, 2
ROUNDS = 3
SWAPS, SWAP_PAUSE_S = 40, 0.5
WORDS = (
    "a red flag",
    "two dogs",
    "a boat on a lake",
    "a piece of cake",
    "a sleeping cat",
    "a house with a tree",
    "music",
)


def bare_rate(home: Path, index: str) -> tuple[float, int]:
    """Items per second, images decoded and both sides encoded; and how many items."""
    manifest = IndexDirectory(home / "indexes" / index).current_manifest()
    source = open_source(manifest.source, home / "data")
    hasher = load_hasher(home / "artifacts" / manifest.artifact, manifest.bits, "auto")

    def encode(items: Sequence[Item]) -> None:
        hasher.encode_images([decode_image(source.archive.read_image(item)) for item in items])
        hasher.encode_texts([item.texts[source.archive.info.captions[0]][0] for item in items])

    started = time.perf_counter()
    with progress("bare encoder", len(source.items)) as advance:
        list(in_batches(source.items, encode, batch=BATCH, workers=THREADS, advance=advance))
    return len(source.items) / (time.perf_counter() - started), len(source.items)


def rebuild_rate(service: OwnService, index: str) -> float:
    """Items per second from the call to the swap."""
    with Client(service.url, key=service.key) as client, progress("rebuild", None) as advance:
        started, done = time.perf_counter(), 0
        job = client.rebuild(index, reuse=False)
        while job["state"] in ("queued", "running"):
            time.sleep(0.2)
            job = client.job(job["id"])
            advance(job["done"] - done)
            done = job["done"]
    if job["state"] != "done":
        raise SystemExit(f"the rebuild ended as {job['state']}: {job.get('error')}")
    return job["total"] / (time.perf_counter() - started)


def rates(home: Path, index: str) -> list[list[str]]:
    """Rows of the table: a rebuild that only makes the service ready, then rounds, then their medians."""
    with own_service(home, CROSSBIT_THREADS=str(THREADS)) as service:
        found = []
        for _ in range(1 + ROUNDS):
            bare, items = bare_rate(home, index)
            found.append((bare, rebuild_rate(service, index)))
    rounds = found[1:]
    middle = (*(median(side) for side in zip(*rounds, strict=True)), median(rate / bare for bare, rate in rounds))
    lines = [(*one, one[1] / one[0]) for one in found]
    names = ["first", *(f"round {number}" for number in range(1, 1 + ROUNDS)), "median of the rounds"]
    return [
        [name, str(items), f"{bare:.1f}", f"{rate:.1f}", f"{ratio:.2f}"]
        for name, (bare, rate, ratio) in zip(names, [*lines, middle], strict=True)
    ]


async def ask(client: AsyncClient, index: str, count: int, what: str) -> list[tuple[float, float]]:
    """When each query began, and its milliseconds."""
    found = []
    with progress(what, count) as advance:
        for number in range(count):
            began = time.perf_counter()
            await client.search_text(WORDS[number % len(WORDS)], index=index, limit=10)
            found.append((began, 1000 * (time.perf_counter() - began)))
            advance(1)
    return found


async def beside_rebuilds(client: AsyncClient, index: str, count: int) -> list[tuple[float, float]]:
    """Queries while rebuilds go on, one after another."""
    asking = asyncio.create_task(ask(client, index, count, "queries beside a rebuild"))
    while not asking.done():
        job = await client.rebuild(index, reuse=False)
        while not asking.done() and (await client.job(job["id"]))["state"] in ("queued", "running"):
            await asyncio.sleep(0.5)
    await client.cancel(job["id"])
    return await asking


async def over_swaps(client: AsyncClient, index: str) -> list[float]:
    """Milliseconds of the queries that were in flight while the service swapped."""
    job = await client.rebuild(index)  # so that there are two to swap
    while job["state"] in ("queued", "running"):
        await asyncio.sleep(0.5)
        job = await client.job(job["id"])
    generations = (await client.index(index))["generations"][-2:]
    swaps: list[tuple[float, float]] = []

    async def swap() -> None:
        for number in range(SWAPS):
            await asyncio.sleep(SWAP_PAUSE_S)
            began = time.perf_counter()
            await client.rollback(index, generations[number % 2])
            swaps.append((began, time.perf_counter()))

    swapping, found = asyncio.create_task(swap()), []
    while not swapping.done():
        found += await ask(client, index, 20, "queries over swaps")
    await swapping
    return [ms for at, ms in found if any(at < end and at + ms / 1000 > began for began, end in swaps)]


async def latencies(service: OwnService, index: str, count: int) -> list[list[str]]:
    """Rows of the table."""
    async with AsyncClient(service.url, key=service.key) as client:
        await ask(client, index, 50, "warming up")
        idle = [ms for _, ms in await ask(client, index, count, "queries on an idle service")]
        beside = [ms for _, ms in await beside_rebuilds(client, index, count)]
        swapped = await over_swaps(client, index)
    rows = []
    for name, found in (("idle", idle), ("beside a rebuild", beside), ("in flight over a swap", swapped)):
        p50, p99 = (percentile(sorted(found), percent) for percent in (50, 99))
        times = p99 / percentile(sorted(idle), 99)
        rows.append([name, str(len(found)), f"{p50:.1f}", f"{p99:.1f}", f"{times:.2f}"])
    return rows


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("home", type=Path)
    parser.add_argument("--index", default="demo")
    parser.add_argument("--queries", type=int, default=2000)
    asked = parser.parse_args()
    show_table(
        ["rebuild", "items", "bare encoder, items/s", "rebuild, items/s", "ratio"], rates(asked.home, asked.index)
    )
    with own_service(asked.home, CROSSBIT_WORKER="none") as service:
        own = {"CROSSBIT_HOME": str(service.home), "CROSSBIT_THREADS": "1"}
        worker = subprocess.Popen([sys.executable, "-c", MAIN, "worker"], env=os.environ | own)  # noqa: S603
        try:
            rows = asyncio.run(latencies(service, asked.index, asked.queries))
        finally:
            worker.terminate()
            worker.wait()
    show_table(["text queries", "number", "p50 ms", "p99 ms", "p99 to idle"], rows)


if __name__ == "__main__":
    main()

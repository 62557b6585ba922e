"""The goals of the search kernel, measured in one go: ``python benchmarks/index_bars.py [--n-large N]``.

Prints each goal with what was found. Takes some ten minutes and 2 GB; draws 10 million codes unless told otherwise.
"""

import argparse
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from app.bench.codes import Codes, Kind, draw_codes
from app.bench.index import bench_index
from index.kernel.library import load
from index.search import open_engine
from index.search.stored import save_structures
from index.search.structures import prepare

ONLY = ("crossbit", "faiss")
LATENCIES = 3000
MILLION = 1_000_000
Goal = tuple[str, str, float]  # what was measured, the bar, the figure


def ratio(measured: dict[str, Any], mode: str, engine: str = "crossbit", to: str = "") -> float:
    """Queries a second of one engine to those of the best faiss, or of one dispatch level."""
    rates = {row["engine"]: row["per_s"] for row in measured["rows"] if row["mode"] == mode}
    if to:
        return float(rates[engine] / rates[to])
    rows = [row for row in measured["rows"] if row["mode"] == mode and row["engine"] == engine]
    return float(rows[0]["ratio_to_faiss"])


def row_of(measured: dict[str, Any], engine: str, mode: str) -> dict[str, Any]:
    """One engine's figures in one mode."""
    return next(row for row in measured["rows"] if (row["engine"], row["mode"]) == (engine, mode))


def opening_s(codes: Codes) -> float:
    """From a stored file to an engine that answers."""
    library = load()
    assert library is not None
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "image.structures"
        save_structures(prepare(library, codes.database), path)
        started = time.perf_counter()
        open_engine(codes.database, "kernel", stored=path).knn(codes.queries[:1], 100)
        return time.perf_counter() - started


def p99_ratio(codes: Codes) -> float:
    """p99 of single queries while a thread appends, builds and swaps, to that without: median of three rounds."""
    engines = [open_engine(codes.database, "kernel")]
    added = codes.database[:20_000]
    is_over = threading.Event()

    def write() -> None:
        while not is_over.wait(0.01):
            engines[0] = open_engine(codes.database[: len(codes.database) - len(added)], "kernel")
            engines[0] = open_engine(np.concatenate((codes.database[:-1], added[:1])), "kernel")

    def p99() -> float:
        took = []
        for number in range(LATENCIES):
            query = codes.queries[number % len(codes.queries)][np.newaxis]
            started = time.perf_counter()
            engines[0].knn(query, 100)
            took.append(time.perf_counter() - started)
        return float(np.percentile(took, 99))

    ratios = []
    for _ in range(3):
        idle = p99()
        is_over.clear()
        writer = threading.Thread(target=write)
        writer.start()
        ratios.append(p99() / idle)
        is_over.set()
        writer.join()
    return float(np.median(ratios))


def measure_sets(large: Codes) -> dict[str, dict[str, Any]]:
    """Every set of a million codes by kind and length, and the large one."""
    cases = [(Kind.LEARNED, 64), (Kind.LEARNED, 32), (Kind.COLLAPSED, 64), (Kind.RANDOM, 64), (Kind.RANDOM, 128)]
    more = [(Kind.LEARNED, 16), (Kind.LEARNED, 128), (Kind.COLLAPSED, 128)]
    sets = {f"{kind} {bits}": bench_index(draw_codes(kind, MILLION, bits, 0), ONLY) for kind, bits in cases + more}
    return sets | {"large": bench_index(large, ONLY)}


def best_scan(sets: dict[str, dict[str, Any]]) -> str:
    """The plain scan of the highest dispatch level that this machine has."""
    return f"crossbit scan {sets['random 64']['levels'][-1]}"


def goals_of_learned_codes(sets: dict[str, dict[str, Any]]) -> list[Goal]:
    """Codes that look like trained ones, which the planner is made for."""
    return [
        ("learned 64 bit, 1M, batch", ">= 6", ratio(sets["learned 64"], "batch")),
        ("learned 64 bit, large, batch", ">= 20", ratio(sets["large"], "batch")),
        ("learned 64 bit, large, single", ">= 20", ratio(sets["large"], "single")),
        ("learned 32 bit, 1M, batch", ">= 20", ratio(sets["learned 32"], "batch")),
        ("collapsed 64 bit, 1M, batch", ">= 12", ratio(sets["collapsed 64"], "batch")),
    ]


def goals_of_random_codes(sets: dict[str, dict[str, Any]]) -> Iterator[Goal]:
    """Codes in which nothing but a scan finds anything, at each dispatch level."""
    for bits in (64, 128):
        measured = sets[f"random {bits}"]
        yield f"random {bits} bit, 1M, batch", ">= 3 with AVX-512", ratio(measured, "batch")
        for level in ("avx2", "popcnt"):
            if level in sets["random 64"]["levels"]:
                found = ratio(measured, "batch", f"crossbit scan {level}")
                yield f"random {bits} bit, {level} build, to the best faiss", ">= 1.3", found
        found = ratio(measured, "batch", "crossbit scan popcnt", "faiss none")
        yield f"random {bits} bit, popcnt build, to faiss without AVX", ">= 1.3", found


def goals_of_all(sets: dict[str, dict[str, Any]], large: Codes) -> list[Goal]:
    """The worst over the sets, what the structures cost, and queries beside a writer."""
    scan = best_scan(sets)
    worst = min(ratio(measured, mode) for measured in sets.values() for mode in ("batch", "single"))
    overhead = min(
        row_of(measured, "crossbit", "batch")["per_s"] / row_of(measured, scan, "batch")["per_s"]
        for measured in sets.values()
    )
    ceiling = row_of(sets["random 64"], scan, "batch")["share_of_ceiling"]
    relative_bytes = row_of(sets["large"], "crossbit", "batch")["bytes_per_item"] / 8
    beside_writer = p99_ratio(draw_codes(Kind.LEARNED, MILLION, 64, 0))
    return [
        ("the worst of all sets and modes", ">= 1", worst),
        ("planner to plain scan, worst batch", ">= 0.9", overhead),
        ("share of the popcount ceiling, batch scan, random 64", ">= 0.5", ceiling),
        ("bytes per item to raw, learned 64, large", "<= 2.5", relative_bytes),
        ("build of the large set, s", "<= 10", sets["large"]["build_s"]),
        ("opening codes and structures of the large set, s", "< 1", opening_s(large)),
        ("p99 while a thread rebuilds and swaps, to idle, 1M", "<= 2", beside_writer),
    ]


def show(goals: Iterable[Goal], sets: dict[str, dict[str, Any]]) -> None:
    """A table of the goals, and one of the ratios of every set."""
    table = Table("goal", "bar", "found")
    for name, bar, found in goals:
        table.add_row(name, bar, f"{found:.2f}")
    Console().print(table)
    every = Table("set", "mode", "x faiss", "plain scan x faiss")
    for name, measured in sets.items():
        for mode in ("batch", "single"):
            every.add_row(name, mode, f"{ratio(measured, mode):.2f}", f"{ratio(measured, mode, best_scan(sets)):.2f}")
    Console().print(every)


def main() -> None:
    """Measure every set, then print the goals and all ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n-large", type=int, default=10 * MILLION)
    large = draw_codes(Kind.LEARNED, parser.parse_args().n_large, 64, 0)
    sets = measure_sets(large)
    show([*goals_of_learned_codes(sets), *goals_of_random_codes(sets), *goals_of_all(sets, large)], sets)


if __name__ == "__main__":
    main()

"""What `crossbit bench index` does: engines on the same codes in interleaved rounds, and their share of the limits."""

import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import typer
from numpy.typing import NDArray

from app.bench.codes import Codes
from app.bench.engines import Contender, check, contenders, level_names
from app.show import progress
from index.kernel.library import Library, load
from index.search.structures import prepare

K = 100
ROUNDS = 7
CHECKED = 8  # queries whose answers are compared with a sort of all
BATCH_S, SINGLE_S = 0.5, 0.1  # CPU time that an engine is given in a round, at most a batch or SINGLES queries
SINGLES = 200
L1_WORDS = 4096  # 32 KiB


@dataclass(frozen=True, slots=True)
class Row:
    """One engine in one mode; ratios are medians over rounds, of CPU time on one thread."""

    engine: str
    n: int
    bits: int
    kind: str
    mode: str  # batch or single
    threads: int
    per_s: float
    ratio_to_faiss: float  # to the fastest of its dispatch levels
    share_of_ceiling: float  # batch: bits counted in the first cache; single: over codes where they lie
    bytes_per_item: float


def bench_index(codes: Codes, only: tuple[str, ...] = ("",)) -> dict[str, Any]:  # Any: JSON
    """Measure batches and single queries of 100 neighbours, of the engines whose names start with one of ``only``.

    Raises:
        typer.BadParameter: there is no compiled kernel, or the extra `bench` is not installed.
        AssertionError: an engine's answers are wrong.
    """
    library = load()
    if library is None:
        raise typer.BadParameter("the kernel was not compiled; reinstall crossbit with a C compiler")
    started = time.perf_counter()
    structures = prepare(library, codes.database)
    build_s = time.perf_counter() - started
    engines = [one for one in contenders(library, codes.database, structures) if one.name.startswith(only)]
    k = min(K, len(codes.database))
    with progress("measuring", len(engines) * (2 * ROUNDS + 1)) as advance:
        for engine in engines:
            check(engine, codes.database, codes.queries[:CHECKED], k)
            advance(1)
        ceilings = _ceilings(library, codes)
        rows = [row for mode in ("batch", "single") for row in _rows(codes, engines, mode, k, ceilings, advance)]
    return {
        "instruction_sets": instruction_sets(),
        "levels": level_names(library),
        "load": os.getloadavg()[0],
        "distinct": structures.distinct,
        "build_s": build_s,
        "ceilings": {f"{mode}_per_s": value for mode, value in ceilings.items()},
        "bandwidth_gb_per_s": _bandwidth(),
        "rows": [asdict(row) for row in rows],
    }


def as_table(measured: dict[str, Any]) -> tuple[list[str], list[list[str]]]:  # Any: JSON
    """Headings and a row an engine and mode."""
    headings = ["engine", "mode", "queries per s", "x faiss", "share of ceiling", "bytes per item"]
    rows = [
        [
            one["engine"],
            one["mode"],
            f"{one['per_s']:,.0f}",
            f"{one['ratio_to_faiss']:.2f}",
            f"{one['share_of_ceiling']:.0%}",
            f"{one['bytes_per_item']:.1f}",
        ]
        for one in measured["rows"]
    ]
    return headings, rows


def plot(measured: dict[str, Any], path: Path) -> None:  # Any: JSON
    """The ratios as bars, an SVG."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    rows = measured["rows"]
    names = list(dict.fromkeys(row["engine"] for row in rows))
    figure = Figure(figsize=(8, 0.45 * len(names) + 1.2), layout="constrained")
    axes = figure.add_subplot()
    for offset, mode in ((-0.2, "batch"), (0.2, "single")):
        ratios = {row["engine"]: row["ratio_to_faiss"] for row in rows if row["mode"] == mode}
        axes.barh(np.arange(len(names)) + offset, [ratios[name] for name in names], 0.38, label=mode)
    axes.set_yticks(np.arange(len(names)), names)
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.axvline(1, color="black", linewidth=0.8)
    axes.set_xlabel("queries per second, times the best faiss IndexBinaryFlat")
    axes.set_title(f"{rows[0]['n']:,} {rows[0]['kind']} codes of {rows[0]['bits']} bits, one thread")
    axes.legend()
    with mpl.rc_context({"svg.hashsalt": "crossbit"}):
        figure.savefig(path, format="svg", metadata={"Date": None})


def instruction_sets() -> list[str]:
    """What of interest the processor says it has."""
    known = ("popcnt", "ssse3", "avx2", "avx512f", "avx512bw", "avx512_bitalg", "avx512_vpopcntdq", "asimd", "sve")
    info = Path("/proc/cpuinfo")
    words = set(info.read_text().split()) if info.is_file() else set()
    return [name for name in known if name in words]


def _rows(
    codes: Codes,
    engines: list[Contender],
    mode: str,
    k: int,
    ceilings: dict[str, float],
    advance: Callable[[int], None],
) -> list[Row]:
    counts = {engine.name: _affordable(engine, codes.queries, mode, k) for engine in engines}
    rates: dict[str, list[float]] = {engine.name: [] for engine in engines}
    for number in range(ROUNDS):
        for engine in engines:
            chosen = np.roll(codes.queries, -number * counts[engine.name], axis=0)[: counts[engine.name]]
            rates[engine.name].append(len(chosen) / _seconds(engine, chosen, mode, k))
            advance(1)
    best = max((name for name in rates if name.startswith("faiss")), key=lambda name: float(np.median(rates[name])))
    return [
        Row(
            engine=engine.name,
            n=len(codes.database),
            bits=codes.bits,
            kind=codes.kind.value,
            mode=mode,
            threads=1,
            per_s=float(np.median(rates[engine.name])),
            ratio_to_faiss=float(np.median(np.divide(rates[engine.name], rates[best]))),
            share_of_ceiling=float(np.median(rates[engine.name])) / ceilings[mode],
            bytes_per_item=engine.bytes_per_item,
        )
        for engine in engines
    ]


def _seconds(engine: Contender, queries: NDArray[np.uint8], mode: str, k: int) -> float:
    """CPU time of this thread, which is all that works."""
    started = time.thread_time()
    if mode == "batch":
        engine.ask(queries, k)
    else:
        for query in queries[:, np.newaxis]:
            engine.ask(query, k)
    return max(time.thread_time() - started, 1e-9)


def _affordable(engine: Contender, queries: NDArray[np.uint8], mode: str, k: int) -> int:
    """How many queries fit into a round; the two calls before it warm the engine up."""
    _seconds(engine, queries[:4], mode, k)
    each = _seconds(engine, queries[:4], mode, k) / 4
    seconds, most = (BATCH_S, len(queries)) if mode == "batch" else (SINGLE_S, SINGLES)
    return int(np.clip(seconds / each, 4, min(most, len(queries))))


def _ceilings(library: Library, codes: Codes) -> dict[str, float]:
    """Queries a second if nothing but counting bits took time: from the first cache, and from where the codes lie."""
    words = len(codes.database) * -(-codes.bits // 64)
    lying = np.arange(words, dtype=np.uint64)
    return {
        "batch": _counted_per_s(library, lying[:L1_WORDS]) / words,
        "single": _counted_per_s(library, lying) / words,
    }


def _counted_per_s(library: Library, words: NDArray[np.uint64]) -> float:
    rounds = max(1, 2**26 // len(words))
    rates = []
    for _ in range(ROUNDS):
        started = time.thread_time()
        library.count(words, rounds, library.best_level)
        rates.append(rounds * len(words) / (time.thread_time() - started))
    return float(np.median(rates))


def _bandwidth() -> float:
    """GB a second that one thread reads from memory."""
    array = np.ones(2**25, dtype=np.uint64)
    rates = []
    for _ in range(ROUNDS):
        started = time.thread_time()
        array.sum()
        rates.append(array.nbytes / 1e9 / (time.thread_time() - started))
    return float(np.median(rates))

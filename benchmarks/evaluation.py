"""Speed and memory of the evaluator: ``python benchmarks/evaluation.py [--rounds N]``.

Compares all figures of one direction (every metric, four tie treatments) with a straightforward mAP: a loop over
queries with two dot products and ``numpy.argsort``, as released code has it, which knows one arbitrary tie order and
no other figure. Both run in turn on the same random codes of MIRFLICKR's size; the ratio is that of their medians.
Then a case of NUS-WIDE's size runs in a process of its own, whose peak memory is printed.
"""

import argparse
import resource
import subprocess
import sys
import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from rich.table import Table

from index.kernel.tally import load_tally
from model.evaluation import counts
from model.evaluation.figures import figures

Sides = tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.bool_], NDArray[np.bool_]]
LABEL_SHARE = 0.15  # of 24 labels: two in five items are then relevant, as on MIRFLICKR


def random_sides(queries: int, database: int, bits: int, classes: int) -> Sides:
    """Random codes and labels of both sides."""
    generator = np.random.default_rng(0)
    codes = [generator.integers(0, 256, (rows, bits // 8), dtype=np.uint8) for rows in (queries, database)]
    labels = [generator.random((rows, classes)) < LABEL_SHARE for rows in (queries, database)]
    return codes[0], codes[1], labels[0], labels[1]


def straightforward(queries: NDArray, database: NDArray, own: NDArray, labels: NDArray) -> float:  # type: ignore[type-arg]  # any number
    """The mAP of released code, on signs and labels as numbers."""
    total = 0.0
    for query, wanted in zip(queries, own, strict=True):
        relevant = wanted @ labels.T > 0
        found = int(relevant.sum())
        if found:
            order = np.argsort(0.5 * (database.shape[1] - query @ database.T))
            ranks = np.flatnonzero(relevant[order]) + 1.0
            total += float(np.mean(np.arange(1, found + 1) / ranks))
    return total / len(queries)


def seconds(work: Callable[[], object]) -> float:
    """Wall time of one call."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def compare(sides: Sides, rounds: int, console: Console) -> None:
    """Print medians and ratios; the loop gets each type that its inputs may come in."""
    unpacked = [np.unpackbits(codes, axis=1, bitorder="little").astype(np.int8) * 2 - 1 for codes in sides[:2]]

    def loop(kind: type) -> Callable[[], object]:
        arrays = [array.astype(kind) for array in (*unpacked, *sides[2:])]
        return lambda: straightforward(*arrays)

    def all_figures() -> object:
        return figures(*sides, np.arange(len(sides[1])))

    def without_kernel() -> object:
        load, counts.load_tally = counts.load_tally, lambda: None
        try:
            return all_figures()
        finally:
            counts.load_tally = load

    ways = {f"argsort loop, {kind.__name__}": loop(kind) for kind in (np.float32, np.float64, np.int8)}
    ours = {"all figures, numpy alone": without_kernel}
    if load_tally():
        ours["all figures, compiled counting"] = all_figures
    times: dict[str, list[float]] = {name: [] for name in (*ways, *ours)}
    for _ in track(range(rounds), "rounds", console=Console(stderr=True)):
        for name, work in (ways | ours).items():
            times[name].append(seconds(work))
    medians = {name: float(np.median(taken)) for name, taken in times.items()}
    table = Table("way", "median s", *(f"times {name}" for name in ways))
    for name, median in medians.items():
        ratios = [f"{medians[way] / median:.1f}" if name in ours else "" for way in ways]
        table.add_row(name, f"{median:.3f}", *ratios)
    console.print(f"{len(sides[0]):,} x {len(sides[1]):,}, {8 * sides[0].shape[1]} bits, {rounds} rounds", table)


def large() -> None:
    """A case of NUS-WIDE's size: time, and peak memory of this process."""
    sides = random_sides(2_100, 193_734, 64, 21)
    taken = seconds(lambda: figures(*sides, np.arange(len(sides[1]))))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"2,100 x 193,734, 64 bits: {taken:.1f} s, peak memory {peak:.2f} GiB, interpreter included")


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--large", action="store_true", help="the large case alone, in this process")
    options = parser.parse_args()
    if options.large:
        large()
        return
    compare(random_sides(2_000, 22_581, 64, 24), options.rounds, Console(width=140))
    subprocess.run([sys.executable, __file__, "--large"], check=True)  # noqa: S603 - this file


if __name__ == "__main__":
    main()

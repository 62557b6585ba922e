"""Milvus beside the engine in this process: what taking an index over costs, and queries a second.

Random 64-bit codes, the 100 nearest, one thread here; the answers are compared first. A server must run, such as that
of the wheel: `milvus-server`. A ratio says how many times as fast the engine in this process is.

    python benchmarks/milvus.py http://127.0.0.1:19530 --codes 100000 1000000
"""

import argparse
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray
from pymilvus import MilvusClient

from index.generations import IndexDirectory
from index.milvus.server import MilvusOptions, MilvusServer
from index.search import SearchEngine
from index.snapshot import Snapshot
from index.writer import GenerationSpec, IndexedItem, write_generation

BITS, K, BATCH, ROUNDS, SINGLE = 64, 100, 64, 5, 100


def write(path: Path, codes: NDArray[np.uint8]) -> None:
    """An index of these codes on disk."""
    items = (IndexedItem(f"item-{n:09d}", "", None, {}, None, {"image": code[None]}) for n, code in enumerate(codes))
    spec = GenerationSpec(path.name, BITS, "none", "none", "cpu", "random", "first")
    write_generation(path, spec, items, verify=False)
    IndexDirectory(path).activate(1)


def rates(engine: SearchEngine, queries: NDArray[np.uint8]) -> tuple[float, float]:
    """Queries a second one by one, and in batches."""
    start = time.perf_counter()
    for query in queries[:SINGLE]:
        engine.knn(query[None], K)
    single = SINGLE / (time.perf_counter() - start)
    start = time.perf_counter()
    engine.knn(queries[:BATCH], K)
    return single, BATCH / (time.perf_counter() - start)


def compare(near: SearchEngine, far: SearchEngine, queries: NDArray[np.uint8]) -> Iterator[str]:
    """Interleaved rounds; medians."""
    for one, other in zip(near.knn(queries[:8], K).rows, far.knn(queries[:8], K).rows, strict=True):
        assert one == other
    rounds = [(rates(near, queries), rates(far, queries)) for _ in range(ROUNDS)]
    for number, kind in enumerate(("single", f"batch of {BATCH}")):
        here, there = (median(measured[side][number] for measured in rounds) for side in (0, 1))
        yield f"{kind}: embedded {here:,.0f}/s, milvus {there:,.0f}/s, ratio {here / there:.1f}"


def main() -> None:
    """Measure every size and index."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url")
    parser.add_argument("--codes", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument("--index", nargs="+", default=["BIN_FLAT", "BIN_IVF_FLAT"])
    asked = parser.parse_args()
    generator = np.random.default_rng(0)
    queries = generator.integers(0, 256, (max(SINGLE, BATCH), BITS // 8), dtype=np.uint8)
    for count in asked.codes:
        with TemporaryDirectory(prefix="crossbit-milvus-") as folder:
            path = Path(folder) / "random"
            write(path, generator.integers(0, 256, (count, BITS // 8), dtype=np.uint8))
            with Snapshot.open(path) as here:
                start = time.perf_counter()
                here.warm()
                opened_s = time.perf_counter() - start
                for kind in asked.index:
                    server = MilvusServer(MilvusOptions(asked.url, prefix="benchmark", index=kind))
                    with Snapshot.open(path, engine=server) as there:
                        start = time.perf_counter()
                        there.warm()
                        taken_s = time.perf_counter() - start
                        print(
                            f"{count:,} codes, {kind}: taken over in {taken_s:.1f} s, {count / taken_s:,.0f}/s; "
                            f"embedded opened in {opened_s:.3f} s"
                        )
                        engines = (one.written.columns["image"].warm() for one in (here, there))
                        for line in compare(*engines, queries):
                            print(f"  {line}", flush=True)
                        MilvusClient(asked.url).drop_collection(server.collection_name(there.written, "image"))


if __name__ == "__main__":
    main()

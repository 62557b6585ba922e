"""The engines that `crossbit bench index` compares; each answers a batch with distances, exact ones with rows too."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import faiss
import numpy as np
import typer
from numpy.typing import NDArray

from index.codes import distances
from index.kernel.library import Level, Library
from index.search import NumpyEngine, SearchEngine
from index.search.kernel_engine import KernelEngine
from index.search.structures import Structures, as_rows

Answer = tuple[NDArray[np.signedinteger], NDArray[np.int64] | None]  # distances (Q, k) and rows, in the total order
Ask = Callable[[NDArray[np.uint8], int], Answer]
FAISS_LEVELS = ("NONE", "AVX2", "AVX512", "AVX512_SPR", "AVX512_VPOPCNT", "ARM_NEON", "ARM_SVE")


@dataclass(frozen=True, slots=True)
class Contender:
    """One engine with the database in it."""

    name: str
    ask: Ask
    bytes_per_item: float


def contenders(library: Library, database: NDArray[np.uint8], structures: Structures) -> Iterator[Contender]:
    """The planner, the plain scan at every level, faiss at every level that it has here, usearch and numpy."""
    count, width = database.shape
    planned = KernelEngine(library, database, structures=structures)
    yield Contender("crossbit", _of_engine(planned), structures.size_bytes / count)
    plain = as_rows(database)
    for level in library.levels()[1:] or library.levels():  # the portable one only where there is no other
        scan = KernelEngine(library, database, structures=plain, level=level)
        yield Contender(f"crossbit scan {level.name.lower()}", _of_engine(scan), plain.size_bytes / count)
    yield from _faiss(database)
    yield Contender("usearch", _usearch(database), width)
    yield Contender("numpy", _of_engine(NumpyEngine(database)), width)


def check(one: Contender, database: NDArray[np.uint8], queries: NDArray[np.uint8], k: int) -> None:
    """Compare answers with a sort of all distances.

    Raises:
        AssertionError: the engine is not exact; its figures would mean nothing.
    """
    far, rows = one.ask(queries, k)
    for query, found in enumerate(far):
        every = distances(queries[query], database)
        order = np.argsort(every, kind="stable")[:k]
        if not np.array_equal(np.sort(found), every[order]):
            raise AssertionError(f"{one.name} gives other distances than a sort of all, for query {query}")
        if rows is not None and not np.array_equal(rows[query], order):
            raise AssertionError(f"{one.name} gives other rows than a sort of all, for query {query}")


def _of_engine(engine: SearchEngine) -> Ask:
    def ask(queries: NDArray[np.uint8], k: int) -> Answer:
        hits = engine.knn(queries, k)
        return hits.distances.reshape(len(queries), -1), hits.rows.reshape(len(queries), -1)

    return ask


def _faiss(database: NDArray[np.uint8]) -> Iterator[Contender]:
    faiss.omp_set_num_threads(1)
    index: Any = faiss.IndexBinaryFlat(database.shape[1] * 8)  # Any: its type hints lack most of it
    index.add(database)
    for name in FAISS_LEVELS:
        level = getattr(faiss, f"SIMDLevel_{name}", None)
        if level is None or not _has_level(level):
            continue

        def ask(queries: NDArray[np.uint8], k: int, level: int = level) -> Answer:
            faiss.SIMDConfig.set_level(level)
            far, rows = index.search(queries, min(k, len(database)))
            return far, rows

        yield Contender(f"faiss {name.lower()}", ask, database.shape[1])


def _has_level(level: int) -> bool:
    try:
        faiss.SIMDConfig.set_level(level)
    except RuntimeError:
        return False
    return True


def _usearch(database: NDArray[np.uint8]) -> Ask:
    try:
        from usearch.index import MetricKind, search  # type: ignore[attr-defined]  # not in its __all__
    except ImportError as error:
        raise typer.BadParameter("expected usearch, found none; pip install 'crossbit[bench]'") from error

    def ask(queries: NDArray[np.uint8], k: int) -> Answer:
        found: Any = search(database, queries, k, MetricKind.Hamming, exact=True, threads=1)
        return np.atleast_2d(found.distances), None  # its order inside a tie is arbitrary

    return ask


def level_names(library: Library) -> list[str]:
    """Instructions that the kernel can use here, the best last."""
    return [level.name.lower() for level in library.levels() if level is not Level.PORTABLE]

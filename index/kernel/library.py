"""Loading the compiled kernel and calling it: structures as in ``kernel.h``, arrays by address; calls free the GIL."""

import ctypes
import functools
from ctypes import POINTER, Structure, c_bool, c_char_p, c_int32, c_int64, c_uint64, c_void_p
from enum import IntEnum
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

MAX_BITS = 512
MAX_ROWS = 2**31  # rows are 32-bit numbers in the kernel
MAX_TABLES = 32


class Level(IntEnum):
    """Instructions that a scan can use."""

    PORTABLE = 0
    POPCNT = 1
    AVX2 = 2
    AVX512 = 3
    NEON = 4


class Segment(Structure):
    """``segment`` of kernel.h."""

    _fields_ = (
        ("count", c_int64),
        ("bits", c_int32),
        ("words", c_int32),
        ("level", c_int32),
        ("planes", c_void_p),
        ("ids", c_void_p),
        ("starts", c_void_p),
        ("rows", c_void_p),
        ("live", c_void_p),
        ("mask", c_void_p),
    )


class Tables(Structure):
    """``mih`` of kernel.h."""

    _fields_ = (
        ("tables", c_int32),
        ("first", c_int32 * (MAX_TABLES + 1)),
        ("heads", c_void_p * MAX_TABLES),
        ("lists", c_void_p * MAX_TABLES),
    )


class Found(NamedTuple):
    """What the kernel wrote for Q queries: views of one array, as allocations are much of a small search."""

    offsets: NDArray[np.int64]  # (Q + 1,) query q owns offsets[q]:offsets[q + 1] of rows and distances
    rows: NDArray[np.int64]
    distances: NDArray[np.int32]
    totals: NDArray[np.int64]  # (Q,)
    histogram: NDArray[np.int64]  # (Q, bits + 1)
    strategies: NDArray[np.uint8]  # (Q,) 0 scan, 1 lookup, 2 a lookup that fell back to the scan
    candidates: NDArray[np.int64]  # (Q,) codes that lookups compared


def address(array: NDArray[np.generic] | None) -> int | None:
    """Where the array's first element lies; the caller keeps the array alive while the kernel uses it."""
    return None if array is None else array.__array_interface__["data"][0]  # a quarter of what .ctypes.data costs


class Library:
    """The functions of the compiled kernel."""

    def __init__(self, path: Path) -> None:
        library = ctypes.CDLL(str(path))
        self._search = library.crossbit_search_packed
        self._search.argtypes = (
            *(POINTER(Segment), POINTER(Tables), c_char_p, c_int64, c_int64, c_int32, c_int64),
            *(POINTER(c_int64), c_void_p),
        )
        self._search.restype = c_bool
        self._sort = library.crossbit_sort
        self._sort.argtypes = (c_void_p, c_int64, c_int32, c_void_p)
        self._sort.restype = c_bool
        self._table = library.crossbit_mih_table
        self._table.argtypes = (c_void_p, c_int64, c_int32, c_int32, c_void_p, c_void_p)
        self._table.restype = None
        self._live = library.crossbit_live
        self._live.argtypes = (c_int64, c_void_p, c_void_p, c_void_p, c_void_p)
        self._live.restype = None
        self._count = library.crossbit_count
        self._count.argtypes = (c_void_p, c_int64, c_int64, c_int32)
        self._count.restype = c_uint64
        self._best_level = library.crossbit_best_level
        self._best_level.restype = c_int32
        self.best_level = Level(self._best_level())

    def levels(self) -> tuple[Level, ...]:
        """Every level that this processor runs, the best last."""
        if self.best_level is Level.NEON:
            return (Level.PORTABLE, Level.NEON)
        return tuple(level for level in Level if level <= self.best_level)

    def sort(self, planes: NDArray[np.uint64]) -> NDArray[np.uint32]:
        """A stable order of codes given as (words, N) planes that brings equal ones together.

        Raises:
            MemoryError: there is no room for two copies of the codes.
        """
        words, count = planes.shape
        order = np.empty(count, dtype=np.uint32)
        if not self._sort(address(planes), count, words, address(order)):
            raise MemoryError(f"no memory to sort {count:,} codes")
        return order

    def table(self, planes: NDArray[np.uint64], first: int, width: int) -> tuple[NDArray[np.uint32], ...]:
        """Heads (2**width + 1,) and list (U,) of the codes by the value of bits first..first + width."""
        heads = np.empty(2**width + 1, dtype=np.uint32)
        codes = np.empty(planes.shape[1], dtype=np.uint32)
        self._table(address(planes), planes.shape[1], first, width, address(heads), address(codes))
        return heads, codes

    def live(self, starts: NDArray[np.uint32], rows: NDArray[np.uint32], mask: NDArray[np.bool_]) -> NDArray[np.uint32]:
        """How many rows of each posting list are True in the mask."""
        live = np.empty(len(starts) - 1, dtype=np.uint32)
        self._live(len(live), address(starts), address(rows), address(mask), address(live))
        return live

    def count(self, words: NDArray[np.uint64], rounds: int, level: Level) -> int:
        """Bits counted in that many passes over the words: the most that a scan could do, for benchmarks."""
        return int(self._count(address(words), len(words), rounds, level))

    def search(
        self,
        segment: Segment,
        tables: Tables | None,
        queries: NDArray[np.uint8],
        *,
        limit: int,
        radius: int,
        everyone: int,
        credit: c_int64,
    ) -> Found:
        """The first ``limit`` rows of each (Q, bits / 8) query in the total order, within ``radius``.

        Totals are ``everyone``, or where that is -1 what lies within the radius.

        Raises:
            MemoryError: the answer does not fit.
        """
        count, bins = len(queries), segment.bits + 1
        histogram = 3 * count + 1  # as laid out in search.c
        rows = histogram + count * bins
        distances = rows + count * limit
        numbers = np.empty(distances + (count * (4 * limit + 1) + 7) // 8, dtype=np.int64)
        packed = queries.tobytes()
        if not self._search(segment, tables, packed, count, limit, radius, everyone, credit, address(numbers)):
            raise MemoryError(f"no memory to search {segment.count:,} codes for {count} queries of {limit} rows each")
        tail = numbers[distances:].view(np.int32)
        found = int(numbers[count])
        return Found(
            offsets=numbers[: count + 1],
            rows=numbers[rows : rows + found],
            distances=tail[:found],
            totals=numbers[count + 1 : 2 * count + 1],
            histogram=numbers[histogram:rows].reshape(count, bins),
            strategies=tail[count * limit :].view(np.uint8)[:count],
            candidates=numbers[2 * count + 1 : histogram],
        )


@functools.cache
def load() -> Library | None:
    """The compiled kernel, none where the installation could not compile it."""
    for path in sorted(Path(__file__).parent.glob("_kernel*.so")):
        try:
            return Library(path)
        except (OSError, AttributeError):  # built for another machine, or by an older version
            continue
    return None

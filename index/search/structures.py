"""What the kernel searches: planes of distinct codes, the rows of each, and tables of their substrings."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Self

import numpy as np
from numpy.typing import NDArray

from index.kernel.library import MAX_BITS, MAX_ROWS, Library

GROUPED_BELOW = 0.8  # distinct / codes: above, posting lists cost more than the repeats save
LOOKED_UP_FROM = 4096  # distinct codes: below, a scan takes less time than a few cache misses
LOOKED_UP_BITS = 128  # longer codes have so many substrings that their tables outweigh them
TABLE_BITS = 16  # heads stay in the cache; log2(U), as often advised, was slower at 1M codes and larger at 10M


@dataclass(frozen=True, slots=True)
class Table:
    """Distinct codes by the value of the substring of ``width`` bits from bit ``first`` on."""

    first: int
    width: int
    heads: NDArray[np.uint32]  # (2**width + 1,) where the codes of each value start in ``codes``
    codes: NDArray[np.uint32]  # (U,)


@dataclass(frozen=True, slots=True)
class Structures:
    """Flat arrays over N codes, U of them distinct; where codes hardly repeat, entries are rows and U = N."""

    bits: int
    count: int  # N
    planes: NDArray[np.uint64]  # (words, U): word w of entry u, unused high bits zero
    starts: NDArray[np.uint32] | None  # (U + 1,) none: every entry is the row of its number
    rows: NDArray[np.uint32] | None  # (N,) the rows of entry u are rows[starts[u]:starts[u + 1]], ascending
    tables: tuple[Table, ...]
    distinct: int  # different codes
    largest: int  # codes that are equal

    @property
    def size_bytes(self) -> int:
        """Bytes of all arrays."""
        return sum(array.nbytes for array in self.arrays().values())

    def arrays(self) -> dict[str, NDArray[np.unsignedinteger]]:
        """Every array by the name that ``from_arrays`` knows it by."""
        arrays: dict[str, NDArray[np.unsignedinteger]] = {"planes": self.planes}
        if self.starts is not None and self.rows is not None:
            arrays |= {"starts": self.starts, "rows": self.rows}
        for table in self.tables:
            arrays[f"heads-{table.first}-{table.width}"] = table.heads
            arrays[f"codes-{table.first}-{table.width}"] = table.codes
        return arrays

    @classmethod
    def from_arrays(
        cls, bits: int, count: int, arrays: Mapping[str, NDArray[np.unsignedinteger]], *, distinct: int, largest: int
    ) -> Self:
        """The structures whose ``arrays`` these are."""
        spans = sorted(tuple(map(int, name.split("-")[1:])) for name in arrays if name.startswith("heads-"))
        return cls(
            bits,
            count,
            arrays["planes"],
            arrays.get("starts"),
            arrays.get("rows"),
            tuple(Table(a, b, arrays[f"heads-{a}-{b}"], arrays[f"codes-{a}-{b}"]) for a, b in spans),
            distinct,
            largest,
        )

    def is_sound(self) -> bool:
        """Whether every number lies where it points, so that no search can leave the arrays."""
        words, entries = self.planes.shape
        if self.planes.dtype != np.uint64 or words != -(-self.bits // 64):
            return False
        if self.starts is None or self.rows is None:
            return entries == self.count and not self.tables
        lists = [(self.starts, self.rows, entries, self.count)]
        lists += [(table.heads, table.codes, 2**table.width, entries) for table in self.tables]
        edges = sorted((table.first, table.first + table.width) for table in self.tables)
        joined = [0, *(end for _, end in edges)]
        return (
            joined[:-1] == [first for first, _ in edges]
            and joined[-1] in (0, self.bits)
            and all(
                starts.dtype == numbers.dtype == np.uint32
                and starts.shape == (owners + 1,)
                and numbers.shape == (below if starts is not self.starts else self.count,)
                and starts[0] == 0
                and starts[-1] == len(numbers)
                and bool((starts[:-1] <= starts[1:]).all())
                and int(numbers.max(initial=0)) < max(1, below)
                for starts, numbers, owners, below in lists
            )
        )


def fits(bits: int, count: int) -> bool:
    """Whether the kernel can search that many codes of that length."""
    return bits <= MAX_BITS and count < MAX_ROWS


def planes_of(codes: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """The (words, N) planes of (N, bits / 8) codes; no copy where a code is one whole word."""
    count, width = codes.shape
    words = -(-width // 8)
    if width % 8:
        padded = np.zeros((count, words * 8), dtype=np.uint8)
        padded[:, :width] = codes
        codes = padded
    return np.ascontiguousarray(np.ascontiguousarray(codes).view("<u8").reshape(count, words).T)


def prepare(library: Library, codes: NDArray[np.uint8]) -> Structures:
    """Sort and group (N, bits / 8) codes, and table their substrings where lookups can pay."""
    count, bits = len(codes), codes.shape[1] * 8
    planes = planes_of(codes)
    order = library.sort(planes)
    is_first = np.zeros(count, dtype=np.bool_)
    is_first[:1] = True
    for plane in planes:
        ordered = plane[order]
        is_first[1:] |= ordered[1:] != ordered[:-1]
    firsts = np.flatnonzero(is_first)
    starts = np.append(firsts, count).astype(np.uint32)
    largest = int(np.diff(starts).max(initial=0))
    if len(firsts) > GROUPED_BELOW * count and bits > TABLE_BITS:
        return Structures(bits, count, planes, None, None, (), len(firsts), largest)
    distinct = np.ascontiguousarray(planes[:, order[firsts]])
    tables = _tables(library, distinct, bits)
    return Structures(bits, count, distinct, starts, order, tables, len(firsts), largest)


def as_rows(codes: NDArray[np.uint8]) -> Structures:
    """The (N, bits / 8) codes as they are, every entry a row: what a plain scan needs."""
    return Structures(codes.shape[1] * 8, len(codes), planes_of(codes), None, None, (), len(codes), 1)


def _tables(library: Library, distinct: NDArray[np.uint64], bits: int) -> tuple[Table, ...]:
    if bits > TABLE_BITS and (distinct.shape[1] < LOOKED_UP_FROM or bits > LOOKED_UP_BITS):
        return ()
    number = -(-bits // TABLE_BITS)
    edges = [bits * table // number for table in range(number + 1)]
    return tuple(
        Table(first, end - first, *library.table(distinct, first, end - first)) for first, end in pairwise(edges)
    )

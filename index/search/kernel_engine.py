"""The engine on the compiled kernel: planned scans and lookups over distinct codes, exact in the total order."""

import ctypes
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from index.codes import check_bits
from index.errors import InvalidQuery
from index.kernel.library import MAX_BITS, MAX_ROWS, Level, Library, Segment, Tables, address
from index.search.protocol import Hits, Plan
from index.search.structures import Structures, fits, prepare
from index.search.validation import check_at_least, check_mask, check_queries, check_radius

BLOCK = 2**22  # bounds queries x rows asked for that are held at a time
COMPACTED_BELOW = 0.25  # eligible / entries: fewer are copied together before they are scanned


@dataclass(frozen=True, slots=True)
class _Eligible:
    """A segment and the arrays that it points into."""

    segment: Segment
    tables: Tables | None
    count: int  # rows that may be found
    arrays: tuple[NDArray[np.generic] | None, ...]


class KernelEngine:
    """Exact search whose work follows the distinct codes near a query; frees the interpreter lock."""

    def __init__(
        self,
        library: Library,
        codes: NDArray[np.uint8],
        *,
        structures: Structures | None = None,
        level: Level | None = None,
    ) -> None:
        self._bits = check_bits(codes.shape[1] * 8)
        if not fits(self._bits, len(codes)):
            raise InvalidQuery(
                f"expected codes of at most {MAX_BITS} bits and fewer than {MAX_ROWS:,} of them for the kernel, "
                f"found {len(codes):,} of {self._bits} bits; take the engine 'faiss'"
            )
        self._library = library
        self._level = library.best_level if level is None else level
        self.structures = prepare(library, codes) if structures is None else structures
        self._credit = ctypes.c_int64(self.structures.planes.shape[1])  # one scan's worth of lookups to start with
        self._tables = _point_to_tables(self.structures)
        self._all = self._point_to(self.structures.planes, self._tables, len(self))

    @property
    def bits(self) -> int:
        """Code length, a multiple of 8."""
        return self._bits

    def __len__(self) -> int:
        return self.structures.count

    def knn(self, queries: NDArray[np.uint8], k: int, *, rows: NDArray[np.bool_] | None = None) -> Hits:
        """The k nearest entries of each query in the total order (distance, row)."""
        check_at_least("k", k, 1)
        return self._search(queries, None, k, rows)

    def within(
        self, queries: NDArray[np.uint8], radius: int, *, limit: int, rows: NDArray[np.bool_] | None = None
    ) -> Hits:
        """The first ``limit`` entries at distance <= radius in the total order; ``totals`` counts all of them."""
        check_radius(radius, self._bits)
        check_at_least("limit", limit, 1)
        return self._search(queries, radius, limit, rows)

    def _search(
        self, queries: NDArray[np.uint8], radius: int | None, limit: int, rows: NDArray[np.bool_] | None
    ) -> Hits:
        check_queries(queries, self._bits)
        check_mask(rows, len(self))
        eligible = self._all if rows is None else self._restrict(np.ascontiguousarray(rows))
        limit = min(limit, max(1, eligible.count))
        block = max(1, BLOCK // limit)
        if len(queries) <= block:
            return self._ask(eligible, queries, radius, limit)
        parts = [
            self._ask(eligible, queries[start : start + block], radius, limit)
            for start in range(0, len(queries), block)
        ]
        return Hits.join(parts)

    def _ask(self, eligible: _Eligible, queries: NDArray[np.uint8], radius: int | None, limit: int) -> Hits:
        """One call of the kernel."""
        offsets, rows, distances, totals, histogram, strategies, candidates = self._library.search(
            eligible.segment,
            eligible.tables,
            queries,
            limit=limit,
            radius=self._bits if radius is None else radius,
            everyone=eligible.count if radius is None else -1,
            credit=self._credit,
        )
        plan = Plan("kernel", eligible.count, eligible.segment.count, strategies, candidates)
        return Hits(offsets, rows, distances, totals, histogram, plan)

    def grant(self, work: int) -> None:
        """Set what lookups may spend before one has paid, in entries of a scan; a fresh engine has one scan's worth."""
        self._credit.value = work

    def _point_to(
        self,
        planes: NDArray[np.uint64],
        tables: Tables | None,
        count: int,
        *,
        ids: NDArray[np.uint32] | None = None,
        live: NDArray[np.uint32] | None = None,
        mask: NDArray[np.bool_] | None = None,
    ) -> _Eligible:
        whole = self.structures
        segment = Segment(
            count=planes.shape[1],
            bits=self._bits,
            words=len(planes),
            level=self._level,
            planes=address(planes),
            ids=address(ids),
            starts=address(whole.starts),
            rows=address(whole.rows),
            live=address(live),
            mask=address(mask),
        )
        return _Eligible(segment, tables, count, (planes, ids, live, mask))

    def _restrict(self, mask: NDArray[np.bool_]) -> _Eligible:
        """The rows that are True: entries that keep none are left out where that leaves few."""
        whole = self.structures
        count = int(np.count_nonzero(mask))
        if whole.starts is None or whole.rows is None:
            live, entries = None, mask
        else:
            live = self._library.live(whole.starts, whole.rows, mask)
            entries = live > 0
        if np.count_nonzero(entries) < COMPACTED_BELOW * len(entries):
            ids = np.flatnonzero(entries).astype(np.uint32)
            planes = np.ascontiguousarray(whole.planes[:, ids])
            return self._point_to(planes, None, count, ids=ids, live=live, mask=mask)
        return self._point_to(whole.planes, self._tables, count, live=live, mask=mask)


def _point_to_tables(structures: Structures) -> Tables | None:
    if not structures.tables:
        return None
    tables = Tables(tables=len(structures.tables))
    for number, table in enumerate(structures.tables):
        tables.first[number] = table.first
        tables.heads[number] = address(table.heads)
        tables.lists[number] = address(table.codes)
    tables.first[len(structures.tables)] = structures.bits
    return tables

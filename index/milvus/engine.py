"""Hamming search in a Milvus collection, with the answers of every other engine.

Milvus returns at most 16,384 hits of a query, in no order within a distance and cut anywhere inside a tie. A search is
therefore complete below its last distance alone; this engine asks for everything at that distance and sorts by
(distance, row). Where one answer cannot hold it, it asks for halves of the rows. With the index ``BIN_FLAT``, or with
``BIN_IVF_FLAT`` where all lists are probed, the answers are exact; with fewer probes entries may be missing.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from index.codes import check_bits
from index.search.protocol import Hits, Plan
from index.search.validation import check_at_least, check_mask, check_queries, check_radius

TOP = 16_384  # hits of one query that Milvus returns at most
SPARE = 64  # hits asked for beyond twice as many as wanted: ties that end there need no second search
LISTED = 8192  # rows that a filter names at most; Milvus reads about 200,000 a second
BLOCK = 2**20  # bounds queries x hits of one search


@dataclass(frozen=True, slots=True)
class Near:
    """Entries near the queries of one search, in any order."""

    query: NDArray[np.int64]  # (C,)
    row: NDArray[np.int64]  # (C,)
    distance: NDArray[np.int32]  # (C,)

    @classmethod
    def join(cls, parts: Iterable["Near"]) -> "Near":
        """The entries of all parts."""
        parts = [cls(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.int32)), *parts]
        return cls(
            np.concatenate([part.query for part in parts]),
            np.concatenate([part.row for part in parts]),
            np.concatenate([part.distance for part in parts]),
        )

    def only(self, kept: NDArray[np.bool_]) -> "Near":
        """The entries that are True in the (C,) mask."""
        return Near(self.query[kept], self.row[kept], self.distance[kept])

    def of(self, queries: NDArray[np.int64]) -> "Near":
        """The same entries, where query q of them is ``queries[q]``."""
        return Near(queries[self.query], self.row, self.distance)


class Collection(Protocol):
    """What is asked of a collection of Milvus."""

    def search(self, queries: NDArray[np.uint8], limit: int, *, where: str, radius: int | None = None) -> Near:
        """The ``limit`` nearest entries of each query, at distance <= radius, that satisfy the expression."""


@dataclass(frozen=True, slots=True)
class _Scope:
    """The eligible rows: an expression for Milvus, or a mask where it would name too many rows."""

    where: str
    mask: NDArray[np.bool_] | None
    eligible: int
    searched: int  # rows that satisfy the expression


class MilvusEngine:
    """Engine over rows 0..count-1 of a collection that is loaded and does not change."""

    def __init__(self, collection: Collection, *, bits: int, count: int) -> None:
        self._collection = collection
        self._bits = check_bits(bits)
        self._count = count

    @property
    def bits(self) -> int:
        """Code length, a multiple of 8."""
        return self._bits

    def __len__(self) -> int:
        return self._count

    def knn(self, queries: NDArray[np.uint8], k: int, *, rows: NDArray[np.bool_] | None = None) -> Hits:
        """The k nearest entries of each query in the total order (distance, row).

        Raises:
            EngineUnavailable: Milvus does not answer.
        """
        check_at_least("k", k, 1)
        return self._search(queries, self._bits, k, rows)

    def within(
        self, queries: NDArray[np.uint8], radius: int, *, limit: int, rows: NDArray[np.bool_] | None = None
    ) -> Hits:
        """The first ``limit`` entries at distance <= radius in the total order; ``totals`` counts all of them.

        Every entry within the radius comes over the network, in answers of 16,384.

        Raises:
            EngineUnavailable: Milvus does not answer.
        """
        check_radius(radius, self._bits)
        check_at_least("limit", limit, 1)
        return self._search(queries, radius, limit, rows)

    def _search(self, queries: NDArray[np.uint8], radius: int, limit: int, rows: NDArray[np.bool_] | None) -> Hits:
        check_queries(queries, self._bits)
        check_mask(rows, self._count)
        scope = _scope(rows, self._count)
        limit = min(limit, max(1, scope.eligible))
        is_all = radius == self._bits  # then the total is known, and only the nearest are asked for
        size = max(1, BLOCK // self._asked(limit, scope)) if is_all else max(1, BLOCK // TOP)
        parts = []
        for start in range(0, len(queries), size):
            some = np.ascontiguousarray(queries[start : start + size])
            if not scope.eligible:
                near = Near.join(())
            elif is_all:
                near = self._nearest(some, limit, scope)
            else:
                near = self._within(some, radius, scope)
            parts.append(self._rank(len(some), near, limit, scope.eligible if is_all else None, scope))
        return Hits.join(parts) if parts else self._rank(0, Near.join(()), limit, None, scope)

    def _nearest(self, queries: NDArray[np.uint8], k: int, scope: _Scope) -> Near:
        """The k nearest entries of each query, and all others at the last one's distance."""
        asked = self._asked(k, scope)
        found = self._collection.search(queries, asked, where=scope.where)
        counts = np.bincount(found.query, minlength=len(queries))
        sure = np.full(len(queries), -1, dtype=np.int64)  # up to here everything was found
        np.maximum.at(sure, found.query, found.distance)
        sure[counts == asked] -= 1  # others may be at the last distance
        sure[(counts < asked) | (asked >= scope.searched)] = self._bits
        near = _eligible(found, scope)
        while True:
            near = near.only(near.distance <= sure[near.query])
            reached = np.bincount(near.query, minlength=len(queries))
            short = np.flatnonzero((reached < k) & (sure < self._bits))
            if not len(short):
                return near
            sure[short] += 1
            parts = [near.only(~np.isin(near.query, short))]
            for radius in np.unique(sure[short]).tolist():
                which = short[sure[short] == radius]
                parts.append(self._within(queries[which], radius, scope).of(which))
            near = Near.join(parts)

    def _asked(self, k: int, scope: _Scope) -> int:
        """Hits to ask for, so that k eligible ones and the rest of their last tie are probably among them."""
        return min(TOP, (2 * k + SPARE) * max(1, scope.searched) // max(1, scope.eligible))

    def _within(self, queries: NDArray[np.uint8], radius: int, scope: _Scope) -> Near:
        """Every eligible entry at distance <= radius."""
        return _eligible(self._within_rows(queries, radius, scope.where, 0, self._count), scope)

    def _within_rows(self, queries: NDArray[np.uint8], radius: int, where: str, first: int, last: int) -> Near:
        """Every entry of rows first..last-1 at distance <= radius that satisfies the expression."""
        bounds = "" if last - first == self._count else f"row >= {first} and row < {last}"
        both = " and ".join(f"({part})" for part in (where, bounds) if part)
        found = self._collection.search(queries, TOP, where=both, radius=radius)
        is_cut = np.bincount(found.query, minlength=len(queries)) == TOP
        if last - first <= TOP or not is_cut.any():
            return found
        which, middle = np.flatnonzero(is_cut), (first + last) // 2
        halves = ((first, middle), (middle, last))
        parts = [self._within_rows(queries[which], radius, where, *half).of(which) for half in halves]
        return Near.join([found.only(~is_cut[found.query]), *parts])

    def _rank(self, queries: int, near: Near, limit: int, total: int | None, scope: _Scope) -> Hits:
        """Entries in the total order; without a total they are all that count."""
        bins = self._bits + 1
        order = np.lexsort((near.row, near.distance, near.query))
        cells = near.query * bins + near.distance
        histogram = np.bincount(cells, minlength=queries * bins).reshape(queries, bins)
        return Hits.cut(
            near.query[order],
            near.row[order],
            near.distance[order],
            totals=histogram.sum(axis=1) if total is None else np.full(queries, total, dtype=np.int64),
            histogram=histogram,
            limit=limit,
            plan=Plan.scan("milvus", scope.eligible, scope.eligible, queries),
        )


def _scope(rows: NDArray[np.bool_] | None, count: int) -> _Scope:
    eligible = count if rows is None else int(np.count_nonzero(rows))
    if rows is None or eligible in (0, count):
        return _Scope("", None, eligible, count)
    if eligible <= LISTED:
        return _Scope(f"row in {np.flatnonzero(rows).tolist()}", None, eligible, eligible)
    if count - eligible <= LISTED:
        return _Scope(f"row not in {np.flatnonzero(~rows).tolist()}", None, eligible, eligible)
    return _Scope("", rows, eligible, count)


def _eligible(near: Near, scope: _Scope) -> Near:
    return near if scope.mask is None else near.only(scope.mask[near.row])

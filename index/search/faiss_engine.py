"""faiss ``IndexBinaryFlat`` over the distinct codes, expanded through posting lists to the exact total order.

faiss alone cuts a tie at the last distance wherever its scan happens to be; here every code at that distance is asked
for, so rows, totals and histogram are those of the reference engine.
"""

import os

# libgomp spins at barriers by default: on a busy host one query then takes hundreds of milliseconds instead of one.
# It reads this once, when faiss loads it.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from dataclasses import dataclass
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from index.codes import check_bits
from index.search.distinct import PostingLists, group
from index.search.protocol import Hits, Plan
from index.search.validation import check_at_least, check_mask, check_queries, check_radius

BLOCK = 2**24  # bounds queries x codes, and queries x rows asked for, that are held at a time


@dataclass(frozen=True, slots=True)
class _Segment:
    """Distinct codes in faiss and the rows of each; no list is empty."""

    codes: NDArray[np.uint8]  # (U, bits / 8), a view of what faiss holds
    index: Any  # faiss.IndexBinaryFlat
    postings: PostingLists
    counts: NDArray[np.int64]  # (U,) rows of each code


@dataclass(frozen=True, slots=True)
class _Candidates:
    """Distinct codes near the queries of one block; complete up to each query's last distance."""

    query: NDArray[np.int64]  # (C,)
    code: NDArray[np.int64]  # (C,)
    distance: NDArray[np.int64]  # (C,)


class FaissEngine:
    """Exact search whose work follows the distinct codes; frees the interpreter lock while it scans."""

    def __init__(self, codes: NDArray[np.uint8]) -> None:
        self._bits = check_bits(codes.shape[1] * 8)
        self._whole = _segment(*group(codes))

    @property
    def bits(self) -> int:
        """Code length, a multiple of 8."""
        return self._bits

    def __len__(self) -> int:
        return len(self._whole.postings.rows)

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
        faiss.omp_set_num_threads(1)  # for the calling thread only; requests are what runs in parallel
        live = self._whole if rows is None else _restrict(self._whole, rows)
        limit = min(limit, max(1, len(self)))
        block = max(1, min(BLOCK // max(1, len(live.codes)), BLOCK // limit))
        parts = []
        for start in range(0, len(queries), block):
            some = np.ascontiguousarray(queries[start : start + block])
            near = self._nearest(some, limit, live) if radius is None else self._within(some, radius, live)
            parts.append(self._rank(len(some), near, limit, live))
        plan = Plan.scan("faiss", len(live.postings.rows), len(live.codes), len(queries))
        hits = _join(parts, self._bits, plan)
        if radius is None:
            hits.totals[:] = len(live.postings.rows)
        return hits

    def _nearest(self, queries: NDArray[np.uint8], k: int, live: _Segment) -> _Candidates:
        """The codes that hold the k nearest rows of each query, and all others at the last one's distance."""
        if 4 * k > len(live.codes):
            return self._within(queries, self._bits, live)
        far, codes = live.index.search(queries, k)  # every code holds a row: k codes suffice
        reached = np.cumsum(live.counts[codes], axis=1)
        last = far[np.arange(len(far)), (reached < k).sum(axis=1)]
        is_cut = last == far[:, -1]  # faiss may have left out codes at this distance
        query = np.repeat(np.flatnonzero(~is_cut), k)
        parts = [_Candidates(query, codes[~is_cut].ravel(), far[~is_cut].ravel().astype(np.int64))]
        for radius in np.unique(last[is_cut]).tolist():
            which = np.flatnonzero(is_cut & (last == radius))
            near = self._within(queries[which], radius, live)
            parts.append(_Candidates(which[near.query], near.code, near.distance))
        return _Candidates(
            np.concatenate([part.query for part in parts]),
            np.concatenate([part.code for part in parts]),
            np.concatenate([part.distance for part in parts]),
        )

    def _within(self, queries: NDArray[np.uint8], radius: int, live: _Segment) -> _Candidates:
        limits, far, codes = live.index.range_search(queries, radius + 1)  # faiss means strictly less
        query = np.repeat(np.arange(len(queries)), np.diff(limits).astype(np.int64))
        return _Candidates(query, codes, far.astype(np.int64))

    def _rank(self, count: int, near: _Candidates, limit: int, live: _Segment) -> Hits:
        """Expand candidates to rows in the total order, the first ``limit`` of each query."""
        bins = self._bits + 1
        cell = near.query * bins + near.distance
        flat = np.bincount(cell, weights=live.counts[near.code], minlength=count * bins)  # exact below 2**53
        histogram = flat.astype(np.int64).reshape(count, bins)
        totals = histogram.sum(axis=1)
        last = (np.cumsum(histogram, axis=1) < limit).sum(axis=1)
        histogram[np.arange(bins) > last[:, np.newaxis]] = 0
        kept = np.flatnonzero(near.distance <= last[near.query])
        rows, source = live.postings.expand(near.code[kept], limit)
        order = np.argsort(cell[kept][source] * len(self) + rows)
        owner = near.query[kept][source][order]
        starts = np.searchsorted(owner, np.arange(count + 1))
        shown = order[np.arange(len(order)) - starts[owner] < limit]
        lengths = np.minimum(np.diff(starts), limit)
        return Hits(
            offsets=np.concatenate(([0], np.cumsum(lengths))),
            rows=rows[shown],
            distances=near.distance[kept][source][shown].astype(np.int32),
            totals=totals,
            histogram=histogram,
            plan=Plan.scan("faiss", len(live.postings.rows), len(live.codes), count),
        )


def _segment(codes: NDArray[np.uint8], postings: PostingLists) -> _Segment:
    index: Any = faiss.IndexBinaryFlat(codes.shape[1] * 8)  # Any: its type hints lack most of it
    index.add(np.ascontiguousarray(codes))
    held = faiss.rev_swig_ptr(index.xb.data(), codes.size).reshape(codes.shape) if len(codes) else codes
    return _Segment(held, index, postings, postings.counts())


def _restrict(whole: _Segment, rows: NDArray[np.bool_]) -> _Segment:
    """A segment of the eligible rows alone: one copy for a call is cheaper than a selector on every code it scans."""
    postings, codes = whole.postings.restrict(rows)
    return _segment(whole.codes[codes], postings)


def _join(parts: list[Hits], bits: int, plan: Plan) -> Hits:
    """The answers of consecutive blocks as one."""
    lengths = np.concatenate([np.empty(0, np.int64), *(np.diff(part.offsets) for part in parts)])
    return Hits(
        offsets=np.concatenate((np.zeros(1, np.int64), np.cumsum(lengths))),
        rows=np.concatenate([np.empty(0, np.int64), *(part.rows for part in parts)]),
        distances=np.concatenate([np.empty(0, np.int32), *(part.distances for part in parts)]),
        totals=np.concatenate([np.empty(0, np.int64), *(part.totals for part in parts)]),
        histogram=np.concatenate([np.empty((0, bits + 1), np.int64), *(part.histogram for part in parts)]),
        plan=plan,
    )

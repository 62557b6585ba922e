"""The reference engine: exact by construction, the oracle of every other engine, and fast enough for small indexes."""

import numpy as np
from numpy.typing import NDArray

from index.codes import check_bits, distances
from index.search.protocol import Hits, Plan
from index.search.validation import check_at_least, check_mask, check_queries, check_radius


class NumpyEngine:
    """Scans all codes; owns no copy of them."""

    def __init__(self, codes: NDArray[np.uint8]) -> None:
        self._codes = codes
        self._bits = check_bits(codes.shape[1] * 8)

    @property
    def bits(self) -> int:
        """Code length, a multiple of 8."""
        return self._bits

    def __len__(self) -> int:
        return len(self._codes)

    def knn(self, queries: NDArray[np.uint8], k: int, *, rows: NDArray[np.bool_] | None = None) -> Hits:
        """The k nearest entries of each query in the total order (distance, row)."""
        check_at_least("k", k, 1)
        return self._scan(queries, self._bits, k, rows)

    def within(
        self, queries: NDArray[np.uint8], radius: int, *, limit: int, rows: NDArray[np.bool_] | None = None
    ) -> Hits:
        """The first ``limit`` entries at distance <= radius in the total order; ``totals`` counts all of them."""
        check_radius(radius, self._bits)
        check_at_least("limit", limit, 1)
        return self._scan(queries, radius, limit, rows)

    def _scan(self, queries: NDArray[np.uint8], radius: int, limit: int, rows: NDArray[np.bool_] | None) -> Hits:
        check_queries(queries, self._bits)
        check_mask(rows, len(self))
        eligible = np.arange(len(self)) if rows is None else np.flatnonzero(rows)
        codes = self._codes if rows is None else self._codes[eligible]
        parts = [self._rank(query, codes, radius, limit) for query in queries]
        lengths = [len(positions) for positions, *_ in parts]
        return Hits(
            offsets=np.concatenate(([0], np.cumsum(lengths, dtype=np.int64))).astype(np.int64),
            rows=eligible[np.concatenate([np.empty(0, np.int64), *(part[0] for part in parts)])],
            distances=np.concatenate([np.empty(0, np.int32), *(part[1] for part in parts)]),
            totals=np.array([part[2] for part in parts], dtype=np.int64),
            histogram=np.array([part[3] for part in parts], dtype=np.int64).reshape(len(queries), self._bits + 1),
            plan=Plan.scan("numpy", len(eligible), len(eligible), len(queries)),
        )

    def _rank(
        self, query: NDArray[np.uint8], codes: NDArray[np.uint8], radius: int, limit: int
    ) -> tuple[NDArray[np.int64], NDArray[np.int32], int, NDArray[np.int64]]:
        """Positions, distances, total and histogram of the first ``limit`` codes within the radius."""
        far = distances(query, codes)
        histogram = np.bincount(far, minlength=self._bits + 1)
        reached = np.cumsum(histogram)
        last = min(int(np.searchsorted(reached, limit)), radius)  # the distance at which ``limit`` entries are reached
        near = np.flatnonzero(far <= last)
        positions = near[np.argsort(far[near], kind="stable")][:limit]
        histogram[last + 1 :] = 0
        return positions, far[positions], int(reached[radius]), histogram

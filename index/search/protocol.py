"""What every Hamming search engine offers, and the shape of its answers."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray


class Strategy(IntEnum):
    """How one query was answered."""

    SCAN = 0  # every entry compared
    LOOKUP = 1  # buckets of substrings looked up
    FALLBACK = 2  # a lookup that ran out of its budget, then a scan


@dataclass(frozen=True, slots=True)
class QueryPlan:
    """What an engine did for one query."""

    engine: str
    strategy: str  # "lookup", "scan", or "grouped_scan" over distinct codes
    codes: int  # eligible rows
    entries: int  # what a scan compares: distinct codes, or rows where codes hardly repeat
    candidates: int  # codes that a lookup compared
    fallback: bool  # the lookup ran out of its budget, so a scan answered


@dataclass(frozen=True, slots=True)
class Plan:
    """What an engine did for a batch of Q queries."""

    engine: str
    codes: int  # eligible rows
    entries: int  # what a scan compares: distinct codes, or rows where codes hardly repeat
    strategies: NDArray[np.uint8]  # (Q,) of Strategy
    candidates: NDArray[np.int64]  # (Q,) codes that lookups compared

    @classmethod
    def scan(cls, engine: str, codes: int, entries: int, queries: int) -> Self:
        """Every query scanned."""
        return cls(engine, codes, entries, np.zeros(queries, np.uint8), np.zeros(queries, np.int64))

    def of(self, query: int) -> QueryPlan:
        """What was done for one query."""
        strategy = Strategy(int(self.strategies[query]))
        scan = "grouped_scan" if self.entries < self.codes else "scan"
        return QueryPlan(
            engine=self.engine,
            strategy="lookup" if strategy is Strategy.LOOKUP else scan,
            codes=self.codes,
            entries=self.entries,
            candidates=int(self.candidates[query]),
            fallback=strategy is Strategy.FALLBACK,
        )

    @classmethod
    def join(cls, plans: Sequence["Plan"]) -> "Plan | None":
        """The plans of consecutive parts of a batch as one, none for no part."""
        if not plans:
            return None
        strategies = np.concatenate([plan.strategies for plan in plans])
        candidates = np.concatenate([plan.candidates for plan in plans])
        return cls(plans[0].engine, plans[0].codes, plans[0].entries, strategies, candidates)


@dataclass(frozen=True, slots=True)
class Hits:
    """Answers to a batch of Q queries; query q owns ``rows[offsets[q]:offsets[q + 1]]``, by (distance, row)."""

    offsets: NDArray[np.int64]  # (Q + 1,)
    rows: NDArray[np.int64]  # (H,)
    distances: NDArray[np.int32]  # (H,), 0..bits
    totals: NDArray[np.int64]  # (Q,): eligible entries (knn), or eligible entries within the radius (within)
    histogram: NDArray[np.int64]  # (Q, bits + 1): eligible entries at each distance; 0 beyond the last hit's
    plan: Plan | None = None  # none for no queries

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @classmethod
    def join(cls, parts: Sequence["Hits"]) -> "Hits":
        """The answers to consecutive parts of a batch, at least one, as one."""
        lengths = np.concatenate([np.diff(part.offsets) for part in parts])
        return cls(
            offsets=np.concatenate((np.zeros(1, np.int64), np.cumsum(lengths))),
            rows=np.concatenate([part.rows for part in parts]),
            distances=np.concatenate([part.distances for part in parts]),
            totals=np.concatenate([part.totals for part in parts]),
            histogram=np.concatenate([part.histogram for part in parts]),
            plan=Plan.join([part.plan for part in parts if part.plan is not None]),
        )

    @classmethod
    def cut(
        cls,
        owner: NDArray[np.int64],
        rows: NDArray[np.int64],
        distances: NDArray[np.int32],
        *,
        totals: NDArray[np.int64],
        histogram: NDArray[np.int64],
        limit: int,
        plan: Plan | None,
    ) -> "Hits":
        """The first ``limit`` of each query's hits, which come by (``owner``, distance, row).

        ``owner`` (H,) is the query of each hit. Of the histogram what lies beyond the last hit kept is dropped.
        """
        starts = np.searchsorted(owner, np.arange(len(totals) + 1))
        kept = np.arange(len(owner)) - starts[owner] < limit
        offsets = np.concatenate((np.zeros(1, np.int64), np.cumsum(np.minimum(np.diff(starts), limit))))
        distances = distances[kept]
        last = np.full(len(totals), -1, dtype=np.int64)
        has_hits = np.diff(offsets) > 0
        last[has_hits] = distances[offsets[1:][has_hits] - 1]
        shown = np.arange(histogram.shape[1]) <= last[:, np.newaxis]
        return cls(offsets, rows[kept], distances, totals, np.where(shown, histogram, 0), plan)


class SearchEngine(Protocol):
    """Exact Hamming search over N packed codes; rows are positions 0..N-1.

    ``rows`` restricts a search to the rows that are True in a (N,) bool mask, shared by all queries of the call.
    Engines are immutable once built and safe to call from many threads.
    """

    @property
    def bits(self) -> int:
        """Code length, a multiple of 8."""

    def __len__(self) -> int: ...

    def knn(self, queries: NDArray[np.uint8], k: int, *, rows: NDArray[np.bool_] | None = None) -> Hits:
        """The k nearest entries of each (Q, bits / 8) query in the total order (distance, row)."""

    def within(
        self, queries: NDArray[np.uint8], radius: int, *, limit: int, rows: NDArray[np.bool_] | None = None
    ) -> Hits:
        """The first ``limit`` entries at distance <= radius in the total order; ``totals`` counts all of them."""

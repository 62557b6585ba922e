"""The codes of one modality, searched by item: an item with several codes counts once, at its smallest distance."""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from index.manifest import ColumnManifest
from index.presence import Presence, count_presence
from index.search import Hits, SearchEngine
from index.search.by_item import search_by_item


@dataclass(frozen=True, slots=True)
class Diagnostics:
    """How well the codes of a column use their bits."""

    codes: int
    distinct: int
    distinct_ratio: float  # distinct / codes
    largest_bucket: int
    balance_min: float  # share of ones of the emptiest bit, 0.5 is ideal
    balance_max: float
    dead_bits: int  # bits that are equal in all codes


class Column:
    """Codes with the item row of each; its engine is built at the first search, or by ``warm``."""

    def __init__(
        self,
        codes: NDArray[np.uint8],
        rows: NDArray[np.int64],
        *,
        max_per_item: int,
        build: Callable[[], SearchEngine],
        presence: NDArray[np.uint8] | None = None,
    ) -> None:
        self.codes = codes  # (N, bits / 8)
        self.rows = rows  # (N,) ascending
        self.max_per_item = max_per_item  # codes of one item
        # (N,) what pair codes were made from
        self.presence = np.broadcast_to(np.uint8(Presence.NONE), len(rows)) if presence is None else presence
        self._build = build
        self._engine: SearchEngine | None = None
        self._building = threading.Lock()

    def warm(self) -> SearchEngine:
        """Build the engine if no search has done so yet."""
        with self._building:
            if self._engine is None:
                self._engine = self._build()
            return self._engine

    def codes_of(self, row: int) -> NDArray[np.uint8]:
        """The (n, bits / 8) codes of one item; n is 0 where it has none in this column."""
        first, last = np.searchsorted(self.rows, [row, row + 1])
        return self.codes[first:last]

    def presence_of(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        """(T,) what the codes of these items were made from; each of them has one here."""
        return self.presence[np.searchsorted(self.rows, rows)]

    @cached_property
    def presence_counts(self) -> NDArray[np.int64]:
        """(4,) items by what their codes were made from."""
        return count_presence(self.presence[np.diff(self.rows, prepend=-1) > 0])

    def search(
        self, queries: NDArray[np.uint8], *, radius: int | None, limit: int, items: NDArray[np.bool_] | None
    ) -> Hits:
        """The first ``limit`` items of each query, within the radius if one is given, as hits of item rows.

        ``items`` is a bool mask over all item rows of the generation.
        """
        engine = self.warm()
        eligible = None if items is None else items[self.rows]
        if self.max_per_item > 1:
            return search_by_item(
                engine,
                self.rows,
                queries,
                radius=radius,
                limit=limit,
                max_per_item=self.max_per_item,
                eligible=eligible,
            )
        if radius is None:
            hits = engine.knn(queries, limit, rows=eligible)
        else:
            hits = engine.within(queries, radius, limit=limit, rows=eligible)
        return Hits(hits.offsets, self.rows[hits.rows], hits.distances, hits.totals, hits.histogram, hits.plan)


def diagnostics(column: ColumnManifest) -> Diagnostics:
    """Figures that were counted when the column was written."""
    codes = max(1, column.count)
    return Diagnostics(
        codes=column.count,
        distinct=column.distinct,
        distinct_ratio=column.distinct / codes,
        largest_bucket=column.largest_bucket,
        balance_min=min(column.ones) / codes,
        balance_max=max(column.ones) / codes,
        dead_bits=sum(ones in (0, column.count) for ones in column.ones),
    )

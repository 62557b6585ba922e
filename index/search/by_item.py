"""Search by item where an item owns several codes: it counts once, at the smallest of their distances."""

import numpy as np
from numpy.typing import NDArray

from index.search.protocol import Hits, Plan, SearchEngine


def search_by_item(
    engine: SearchEngine,
    owners: NDArray[np.int64],
    queries: NDArray[np.uint8],
    *,
    radius: int | None,
    limit: int,
    max_per_item: int,
    eligible: NDArray[np.bool_] | None,
) -> Hits:
    """The first ``limit`` items of each query as hits of item rows; totals and histogram count items.

    ``owners`` (N,) ascending is the item row of each code, ``eligible`` (N,) a mask over codes, and no item has more
    than ``max_per_item`` codes.
    """
    bins = engine.bits + 1
    everyone = len(np.unique(owners if eligible is None else owners[eligible]))
    rows, distances, totals, histograms, plans = [], [], [], [], []
    for query in queries[:, np.newaxis]:
        reach = _reach(engine, owners, query, limit * max_per_item, limit, eligible) if radius is None else radius
        hits = engine.within(query, reach, limit=max(1, len(owners)), rows=eligible)
        items, far = _first_of_each(owners[hits.rows], hits.distances)
        histogram = np.bincount(far[:limit], minlength=bins)
        if len(far) > limit:  # the last tie group counts whole
            last = far[limit - 1]
            histogram[last] = np.count_nonzero(far == last)
        rows.append(items[:limit])
        distances.append(far[:limit])
        totals.append(everyone if radius is None else len(items))
        histograms.append(histogram)
        if hits.plan is not None:
            plans.append(hits.plan)
    return Hits(
        offsets=np.cumsum([0, *map(len, rows)], dtype=np.int64),
        rows=np.concatenate([np.empty(0, np.int64), *rows]),
        distances=np.concatenate([np.empty(0, np.int32), *distances]),
        totals=np.array(totals, dtype=np.int64),
        histogram=np.array(histograms, dtype=np.int64).reshape(len(queries), bins),
        plan=Plan.join(plans),
    )


def _reach(
    engine: SearchEngine,
    owners: NDArray[np.int64],
    query: NDArray[np.uint8],
    codes: int,
    limit: int,
    eligible: NDArray[np.bool_] | None,
) -> int:
    """The distance of the item at rank ``limit``: that many items always lie among ``codes`` = limit x most codes."""
    hits = engine.knn(query, codes, rows=eligible)
    _, far = _first_of_each(owners[hits.rows], hits.distances)
    return int(far[:limit][-1]) if len(far) else 0


def _first_of_each(
    items: NDArray[np.int64], distances: NDArray[np.int32]
) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """Each item once, where it comes first in the total order of its codes."""
    _, first = np.unique(items, return_index=True)
    kept = np.sort(first)
    return items[kept], distances[kept]

"""Searching a generation and its delta as one: the total order (distance, item id) over the items that are there."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from index.columns import Column
from index.delta import Delta, Gone
from index.search import Hits

SPARE = 64  # hits asked for beyond the limit, in case some are gone; more only where that was not enough


@dataclass(frozen=True, slots=True)
class Masks:
    """Items that a filter lets through."""

    generation: NDArray[np.bool_]  # (N,), False for those that are gone
    delta: NDArray[np.bool_]  # (D,)


def search_live(
    column: Column,
    delta: Delta,
    name: str,
    queries: NDArray[np.uint8],
    *,
    radius: int | None,
    limit: int,
    masks: Masks | None,
) -> Hits:
    """As ``Column.search`` over the items that are there; the rows of the delta's items follow the generation's."""
    gone = delta.gone_from.get(name)
    if masks is not None:
        hits = column.search(queries, radius=radius, limit=limit, items=masks.generation)
    elif gone is None or not len(gone.rows):
        hits = column.search(queries, radius=radius, limit=limit, items=None)
    else:
        hits = _search_without(column, gone, queries, radius=radius, limit=limit)
    if name not in delta.columns:
        return hits
    mask = None if masks is None else masks.delta
    added = delta.columns[name].search(queries, radius=radius, limit=limit, items=mask)
    return _merge(hits, added, delta, limit)


def _search_without(column: Column, gone: Gone, queries: NDArray[np.uint8], *, radius: int | None, limit: int) -> Hits:
    """Search past items that are gone: a mask over all codes would cost more than a few hits too many."""
    spare = min(SPARE, len(gone.rows))
    while True:
        hits = column.search(queries, radius=radius, limit=limit + spare, items=None)
        owner = _owners(hits)
        kept = ~np.isin(hits.rows, gone.rows)
        found = np.bincount(owner[kept], minlength=len(hits))
        is_whole = np.diff(hits.offsets) < limit + spare
        if spare == len(gone.rows) or bool((is_whole | (found >= limit)).all()):
            break
        spare = min(8 * spare, len(gone.rows))
    missing = np.stack([np.bincount(gone.distances(query), minlength=hits.histogram.shape[1]) for query in queries])
    return Hits.cut(
        owner[kept],
        hits.rows[kept],
        hits.distances[kept],
        totals=hits.totals - (missing.sum(axis=1) if radius is None else missing[:, : radius + 1].sum(axis=1)),
        histogram=hits.histogram - missing,
        limit=limit,
        plan=hits.plan,
    )


def _merge(hits: Hits, added: Hits, delta: Delta, limit: int) -> Hits:
    """Both answers as one, by (distance, item id)."""
    count = len(delta.items)  # so many fit between two rows of the generation
    keys = np.concatenate((hits.rows * (count + 1) + count, delta.before[added.rows] * (count + 1) + added.rows))
    owner = np.concatenate((_owners(hits), _owners(added)))
    distances = np.concatenate((hits.distances, added.distances))
    rows = np.concatenate((hits.rows, delta.first_row + added.rows))
    order = np.lexsort((keys, distances, owner))
    return Hits.cut(
        owner[order],
        rows[order],
        distances[order],
        totals=hits.totals + added.totals,
        histogram=hits.histogram + added.histogram,
        limit=limit,
        plan=hits.plan,  # the few items on top take no time worth telling
    )


def _owners(hits: Hits) -> NDArray[np.int64]:
    """(H,) the query of each hit."""
    return np.repeat(np.arange(len(hits)), np.diff(hits.offsets))

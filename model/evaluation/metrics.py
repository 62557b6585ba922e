"""Retrieval figures from distance histograms, exact under ties.

Hamming distances are small integers, so many items tie. A figure that depends on how ties happen to be ordered says
little; here every order within a tie counts equally (McSherry and Najork, "Computing Information Retrieval Performance
Measures Efficiently in the Presence of Tied Scores", 2008), with the best and the worst order beside it.

Every function takes (Q, bits + 1) histograms of all and of relevant items by distance and returns a row a query.
"""

import numpy as np
from numpy.typing import NDArray

from index.codes import distances

Histogram = NDArray[np.int64]  # (Q, bits + 1): items at each distance from each query
RECALL_LEVELS: NDArray[np.float64] = np.arange(1, 21) / 20


def distance_histograms(
    queries: NDArray[np.uint8], database: NDArray[np.uint8], relevant: NDArray[np.bool_]
) -> tuple[Histogram, Histogram]:
    """Histograms of all items and of the relevant ones.

    Packed (Q, bits / 8) and (N, bits / 8) codes with (Q, N) relevance -> two (Q, bits + 1) histograms.
    """
    width = 8 * queries.shape[1] + 1
    found = np.zeros((len(queries), width), dtype=np.int64)
    found_relevant = np.zeros_like(found)
    for row, query in enumerate(queries):
        distance = distances(query, database)
        found[row] = np.bincount(distance, minlength=width)
        found_relevant[row] = np.bincount(distance[relevant[row]], minlength=width)
    return found, found_relevant


def expected_average_precision(items: Histogram, relevant: Histogram, cutoff: int | None = None) -> NDArray[np.float64]:
    """(Q,) average precision of the first ``cutoff`` items, or of all; NaN without a relevant item.

    For a tie group of n items, r of them relevant, behind N items with R relevant, the expected sum of precisions at
    the relevant ones among its first m positions is r/n sum_{i=1..m} (R + 1 + (i - 1)(r - 1)/(n - 1)) / (N + i), in
    closed form through harmonic numbers. The divisor is min(cutoff, relevant items).
    """
    harmonic, divided = _harmonic(items), relevant
    if cutoff is not None:  # nothing beyond the distance at which every query has that many items
        reached = int((_before(items) < cutoff).any(0).sum())
        items, relevant = items[:, :reached], relevant[:, :reached]
    n, r = items.astype(np.float64), relevant.astype(np.float64)
    before, before_relevant = _before(items), _before(relevant)
    taken = items if cutoff is None else np.clip(cutoff - before, 0, items)
    reciprocals = harmonic[before + taken] - harmonic[before]  # sum of 1 / (N + i)
    slope = np.divide(r - 1, n - 1, out=np.zeros_like(n), where=n > 1)
    group = (before_relevant + 1) * reciprocals + slope * (taken - (before + 1) * reciprocals)
    return _over_relevant(np.where(r > 0, r / np.maximum(n, 1) * group, 0.0).sum(1), divided, cutoff)


def best_average_precision(items: Histogram, relevant: Histogram) -> NDArray[np.float64]:
    """(Q,) average precision with the relevant items of each tie first; NaN without a relevant item."""
    return _ordered_average_precision(items, relevant, _before(items))


def worst_average_precision(items: Histogram, relevant: Histogram) -> NDArray[np.float64]:
    """(Q,) average precision with the relevant items of each tie last; NaN without a relevant item."""
    return _ordered_average_precision(items, relevant, items.cumsum(1) - relevant)


def expected_found(items: Histogram, relevant: Histogram, cutoff: int) -> NDArray[np.float64]:
    """(Q,) relevant items among the first ``cutoff``."""
    taken = np.clip(cutoff - _before(items), 0, items)
    found: NDArray[np.float64] = (relevant * taken / np.maximum(items, 1)).sum(1)
    return found


def expected_ndcg(items: Histogram, gains: NDArray[np.float64], shared: Histogram, cutoff: int) -> NDArray[np.float64]:
    """(Q,) normalised discounted cumulative gain of the first ``cutoff`` items, gain 2^(shared labels) - 1.

    ``gains`` (Q, bits + 1) is the sum of gains at each distance and ``shared`` (Q, G) counts items by shared labels,
    which gives the ideal ranking. NaN without a relevant item.
    """
    discount = np.concatenate([[0.0], np.cumsum(1 / np.log2(np.arange(2, cutoff + 2)))])
    before = np.minimum(_before(items), cutoff)
    behind = np.minimum(items.cumsum(1), cutoff)
    found = (gains / np.maximum(items, 1) * (discount[behind] - discount[before])).sum(1)
    ideal_items = shared[:, ::-1]  # most shared labels first
    ideal_gain = np.exp2(np.arange(shared.shape[1], dtype=np.float64))[::-1] - 1
    before, behind = np.minimum(_before(ideal_items), cutoff), np.minimum(ideal_items.cumsum(1), cutoff)
    ideal = (ideal_gain * (discount[behind] - discount[before])).sum(1)
    ndcg: NDArray[np.float64] = np.divide(found, ideal, out=np.full(len(found), np.nan), where=ideal > 0)
    return ndcg


def by_radius(
    items: Histogram, relevant: Histogram
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]:
    """Precision, recall and "found nothing" inside each radius 0..bits, (Q, bits + 1) each; no tie is ever cut."""
    found, found_relevant = items.cumsum(1), relevant.cumsum(1)
    count = relevant.sum(1, keepdims=True)
    return found_relevant / np.maximum(found, 1), found_relevant / np.maximum(count, 1), found == 0


def precision_at_recall(items: Histogram, relevant: Histogram, levels: NDArray[np.float64]) -> NDArray[np.float64]:
    """(Q, L) precision where the expected recall reaches each level in (0, 1].

    Inside a tie group items and relevant items grow in proportion, so precision is read at a fraction of an item. 0
    without a relevant item.
    """
    behind_relevant = relevant.cumsum(1)
    precision = np.zeros((len(items), len(levels)))
    rows = np.flatnonzero(behind_relevant[:, -1])
    for column, level in enumerate(levels):
        wanted = level * behind_relevant[rows, -1]
        group = (behind_relevant[rows] >= wanted[:, None] - 1e-9).argmax(1)
        n, r = items[rows, group], relevant[rows, group]
        missing = wanted - (behind_relevant[rows, group] - r)
        read = items.cumsum(1)[rows, group] - n + missing * n / r
        precision[rows, column] = wanted / read
    return precision


def _ordered_average_precision(items: Histogram, relevant: Histogram, before: Histogram) -> NDArray[np.float64]:
    """Of a group's r relevant items at ranks N' + 1 .. N' + r, R relevant items before them.

    Their precisions sum to sum_j (R + j) / (N' + j) = r - (N' - R) (H(N' + r) - H(N')).
    """
    harmonic = _harmonic(items)
    total = relevant - (before - _before(relevant)) * (harmonic[before + relevant] - harmonic[before])
    return _over_relevant(total.sum(1), relevant, None)


def _before(histogram: Histogram) -> Histogram:
    """Counted at smaller distances."""
    before: Histogram = histogram.cumsum(1) - histogram
    return before


def _harmonic(items: Histogram) -> NDArray[np.float64]:
    """Harmonic numbers H(0) .. H(database)."""
    largest = int(items.sum(1).max(initial=0))
    return np.concatenate([[0.0], np.cumsum(1 / np.arange(1, largest + 1))])


def _over_relevant(total: NDArray[np.float64], relevant: Histogram, cutoff: int | None) -> NDArray[np.float64]:
    count = relevant.sum(1)
    if cutoff is not None:
        count = np.minimum(count, cutoff)
    precision: NDArray[np.float64] = np.divide(total, count, out=np.full(len(count), np.nan), where=count > 0)
    return precision

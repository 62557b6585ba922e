"""Retrieval figures from distance histograms, exact under ties.

Hamming distances are small integers, so many items tie. A figure that depends on how ties happen to be ordered says
little; here every order within a tie counts equally (McSherry and Najork, "Computing Information Retrieval Performance
Measures Efficiently in the Presence of Tied Scores", 2008).
"""

import numpy as np
from numpy.typing import NDArray

from index.codes import distances

Histogram = NDArray[np.int64]  # (Q, bits + 1): items at each distance from each query


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


def expected_average_precision(items: Histogram, relevant: Histogram) -> NDArray[np.float64]:
    """(Q,) average precision over the whole ranking, expected over all orders within ties; NaN without a relevant item.

    For a tie group of n items, r of them relevant, behind N items with R relevant, the expected sum of precisions at
    its relevant positions is r/n sum_{i=1..n} (R + 1 + (i - 1)(r - 1)/(n - 1)) / (N + i), in closed form through
    harmonic numbers.
    """
    n, r = items.astype(np.float64), relevant.astype(np.float64)
    before, before_relevant = items.cumsum(1) - items, relevant.cumsum(1) - relevant
    largest = int(items.sum(1).max(initial=0))
    harmonic = np.concatenate([[0.0], np.cumsum(1 / np.arange(1, largest + 1))])
    reciprocals = harmonic[before + items] - harmonic[before]  # sum of 1 / (N + i)
    slope = np.divide(r - 1, n - 1, out=np.zeros_like(n), where=n > 1)
    group = (before_relevant + 1) * reciprocals + slope * (n - (before + 1) * reciprocals)
    total = np.where(r > 0, r / np.maximum(n, 1) * group, 0.0).sum(1)
    count = r.sum(1)
    precision: NDArray[np.float64] = np.divide(total, count, out=np.full(len(count), np.nan), where=count > 0)
    return precision

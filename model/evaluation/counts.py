"""Counting, the part of an evaluation that reads every pair of query and item: everything else follows from counts."""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from index.codes import words_of
from model.evaluation.metrics import Histogram

BLOCK = 2**22  # pairs of query and item looked at together: bounds the memory


@dataclass(frozen=True, slots=True)
class Counts:
    """What each query sees, a row a query."""

    items: Histogram  # (Q, bits + 1) by distance
    relevant: Histogram  # (Q, bits + 1), those that share a label
    gains: NDArray[np.float64]  # (Q, bits + 1), sum of 2^(shared labels) - 1
    shared: Histogram  # (Q, G), items by number of shared labels
    stable: NDArray[np.float64]  # (Q,), average precision with ties in row order; NaN without a relevant item

    def select(self, rows: NDArray[np.bool_]) -> Self:
        """The counts of some of the queries."""
        return type(self)(self.items[rows], self.relevant[rows], self.gains[rows], self.shared[rows], self.stable[rows])


def count(
    queries: NDArray[np.uint8],
    database: NDArray[np.uint8],
    query_labels: NDArray[np.bool_],
    database_labels: NDArray[np.bool_],
    order: NDArray[np.int64],
) -> Counts:
    """Count (N, bits / 8) database codes for (Q, bits / 8) queries with their (·, C) labels.

    ``order`` (N,) breaks ties of the stable ranking, smallest first. Memory grows with Q + N, not with Q x N.
    """
    rows = np.argsort(order, kind="stable")
    words = words_of(database[rows])
    labels = np.ascontiguousarray(database_labels[rows].T, dtype=np.float32)
    most = int(min(query_labels.sum(1).max(initial=0), database_labels.sum(1).max(initial=0)))
    bits = 8 * queries.shape[1]
    joint = np.zeros((len(queries), bits + 1, most + 1), dtype=np.int64)
    stable = np.full(len(queries), np.nan)
    step = max(1, BLOCK // max(1, len(database)))
    for start in range(0, len(queries), step):
        shared = (query_labels[start : start + step].astype(np.float32) @ labels).astype(np.uint16)
        for row, (query, own) in enumerate(zip(words_of(queries[start : start + step]), shared, strict=True), start):
            distance = _distances(query, words)
            joint[row] = np.bincount(distance.astype(np.int64) * (most + 1) + own, minlength=joint[row].size).reshape(
                joint[row].shape
            )
            stable[row] = _average_precision(own[np.argsort(distance, kind="stable")] > 0)
    gain = np.exp2(np.arange(most + 1, dtype=np.float64)) - 1
    items = joint.sum(2)
    return Counts(items, items - joint[:, :, 0], joint @ gain, joint.sum(1), stable)


def _distances(query: NDArray[np.unsignedinteger], words: NDArray[np.unsignedinteger]) -> NDArray[np.unsignedinteger]:
    """Distances in the narrowest type, which sorts fastest."""
    total: NDArray[np.unsignedinteger] = np.zeros(len(words), dtype=np.uint8 if 8 * query.nbytes < 256 else np.uint16)
    for column, word in enumerate(query):
        np.add(total, np.bitwise_count(words[:, column] ^ word), out=total)
    return total


def _average_precision(relevant: NDArray[np.bool_]) -> float:
    """Average precision of one ranking; NaN without a relevant item."""
    positions = np.flatnonzero(relevant)
    if not len(positions):
        return float("nan")
    return float((np.arange(1, len(positions) + 1) / (positions + 1)).mean())

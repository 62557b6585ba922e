"""Counting, the part of an evaluation that reads every pair of query and item: everything else follows from counts."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from typing import Self

import numpy as np
from numpy.typing import NDArray

from index.codes import words_of
from model.evaluation.metrics import Histogram

BLOCK = 2**22  # pairs of query and item looked at together by one thread: bounds the memory
WORKERS = min(4, os.cpu_count() or 1)


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
    advance: Callable[[int], None] = lambda queries: None,
) -> Counts:
    """Count (N, bits / 8) database codes for (Q, bits / 8) queries with their (·, C) labels.

    ``order`` (N,) breaks ties of the stable ranking, smallest first. Memory grows with Q + N, not with Q x N.
    """
    rows = np.argsort(order, kind="stable")
    words = np.ascontiguousarray(words_of(database[rows]).T)
    labels = np.ascontiguousarray(database_labels[rows].T, dtype=np.float32)
    most = int(min(query_labels.sum(1).max(initial=0), database_labels.sum(1).max(initial=0)))
    bins = (8 * queries.shape[1] + 1) * (most + 1)
    step = max(1, BLOCK // max(1, len(database), bins))

    def count_block(start: int) -> Counts:
        block = slice(start, start + step)
        counts = _count_block(words_of(queries[block]), words, query_labels[block].astype(np.float32) @ labels, most)
        advance(len(counts.items))
        return counts

    starts = range(0, len(queries), step)
    with ThreadPoolExecutor(max_workers=WORKERS) as pool:
        blocks = list(pool.map(count_block, starts))
    return Counts(*(np.concatenate([getattr(block, field.name) for block in blocks]) for field in fields(Counts)))


def _count_block(
    queries: NDArray[np.unsignedinteger], words: NDArray[np.unsignedinteger], shared: NDArray[np.float32], most: int
) -> Counts:
    """(Q, W) query words, (W, N) database words and (Q, N) numbers of shared labels, up to ``most``."""
    width = 8 * queries.dtype.itemsize * queries.shape[1] + 1
    kind = np.uint16 if width * (most + 1) < 2**16 else np.uint32
    joint = np.empty((len(queries), width, most + 1), dtype=np.int64)  # by distance and shared labels
    stable = np.empty(len(queries))
    for row, (query, own) in enumerate(zip(queries, shared.astype(kind), strict=True)):
        distance = _distances(query, words)
        key = own + distance * kind(most + 1)
        joint[row] = np.bincount(key, minlength=width * (most + 1)).reshape(width, most + 1)
        stable[row] = _average_precision(own[np.argsort(distance, kind="stable")] > 0)
    items = joint.sum(2)
    gain = np.exp2(np.arange(most + 1, dtype=np.float64)) - 1
    return Counts(items, items - joint[:, :, 0], joint @ gain, joint.sum(1), stable)


def _distances(query: NDArray[np.unsignedinteger], words: NDArray[np.unsignedinteger]) -> NDArray[np.unsignedinteger]:
    """Distances in the narrowest type, which sorts fastest."""
    total: NDArray[np.unsignedinteger] = np.bitwise_count(words[0] ^ query[0])
    if query.nbytes > 31:
        total = total.astype(np.uint16)
    for word, column in zip(query[1:], words[1:], strict=True):
        np.add(total, np.bitwise_count(column ^ word), out=total)
    return total


def _average_precision(relevant: NDArray[np.bool_]) -> float:
    """Average precision of one ranking; NaN without a relevant item."""
    positions = np.flatnonzero(relevant)
    if not len(positions):
        return float("nan")
    return float((np.arange(1, len(positions) + 1) / (positions + 1)).mean())

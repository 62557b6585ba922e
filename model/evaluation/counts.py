"""Counting, the part of an evaluation that reads every pair of query and item: everything else follows from counts."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from typing import Self

import numpy as np
from numpy.typing import NDArray

from index.kernel.tally import load_tally
from index.search.structures import planes_of
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
    codes = np.ascontiguousarray(planes_of(database[rows]))
    labels = np.ascontiguousarray(planes_of(np.packbits(database_labels[rows], axis=1)))
    words, own = planes_of(queries).T, planes_of(np.packbits(query_labels, axis=1)).T
    most = int(min(query_labels.sum(1).max(initial=0), database_labels.sum(1).max(initial=0)))
    shape = 8 * queries.shape[1] + 1, most + 1
    step = max(1, BLOCK // max(1, len(database), shape[0] * shape[1]))
    library = load_tally()
    tally = _tally if library is None else library.tally

    def count_block(start: int) -> Counts:
        block = slice(start, start + step)
        counts = _counts(*tally(codes, labels, words[block], own[block], shape))
        advance(len(counts.items))
        return counts

    with ThreadPoolExecutor(max_workers=WORKERS) as pool:
        blocks = list(pool.map(count_block, range(0, len(queries), step)))
    return Counts(*(np.concatenate([getattr(block, field.name) for block in blocks]) for field in fields(Counts)))


def _counts(joint: NDArray[np.int64], sums: NDArray[np.float64]) -> Counts:
    items = joint.sum(2)
    relevant = items - joint[:, :, 0]
    gain = np.exp2(np.arange(joint.shape[2], dtype=np.float64)) - 1
    answers = relevant.sum(1)
    stable = np.divide(sums, answers, out=np.full(len(sums), np.nan), where=answers > 0)
    return Counts(items, relevant, joint @ gain, joint.sum(1), stable)


def _tally(
    codes: NDArray[np.uint64],
    labels: NDArray[np.uint64],
    queries: NDArray[np.uint64],
    query_labels: NDArray[np.uint64],
    shape: tuple[int, int],
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """``TallyLibrary.tally`` where nothing was compiled, about three times slower."""
    counts, sums = np.zeros((len(queries), *shape), np.int64), np.zeros(len(queries))
    for row, (query, own) in enumerate(zip(queries, query_labels, strict=True)):
        distance, shared = _ones(codes ^ query[:, None]), _ones(labels & own[:, None])
        key = distance * np.uint32(shape[1]) + shared
        counts[row] = np.bincount(key, minlength=counts[row].size).reshape(shape)
        positions = np.flatnonzero(shared[np.argsort(distance, kind="stable")])
        sums[row] = (np.arange(1, len(positions) + 1) / (positions + 1)).sum()
    return counts, sums


def _ones(planes: NDArray[np.uint64]) -> NDArray[np.unsignedinteger]:
    """Bits that are set in each column of (words, N), in the narrowest type, which sorts fastest."""
    kind = np.uint8 if len(planes) < 4 else np.uint16
    total: NDArray[np.unsignedinteger] = np.bitwise_count(planes).sum(0, dtype=kind)
    return total

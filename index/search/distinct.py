"""Distinct codes and the rows that share each: learned codes repeat, so engines search the distinct ones only."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from index.codes import words_of


@dataclass(frozen=True, slots=True)
class PostingLists:
    """The rows of distinct code c are ``rows[offsets[c]:offsets[c + 1]]``, ascending."""

    rows: NDArray[np.signedinteger]  # (N,)
    offsets: NDArray[np.int64]  # (U + 1,)

    def counts(self) -> NDArray[np.int64]:
        """Rows of each code: the sizes of the buckets."""
        return np.diff(self.offsets)

    def restrict(self, mask: NDArray[np.bool_]) -> tuple["PostingLists", NDArray[np.int64]]:
        """The lists with only the rows that are True in the (N,) mask, and the codes that keep any, renumbered."""
        kept = mask[self.rows]
        before = np.concatenate((np.zeros(1, np.int64), np.cumsum(kept, dtype=np.int64)))[self.offsets]
        codes = np.flatnonzero(np.diff(before))
        return PostingLists(self.rows[kept], np.append(before[codes], before[-1])), codes

    def expand(self, codes: NDArray[np.int64], limit: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The first ``limit`` rows of each of the codes given, and which of the codes given each row came from."""
        starts = self.offsets[codes]
        lengths = np.minimum(self.offsets[codes + 1] - starts, limit)
        first = np.cumsum(lengths) - lengths
        positions = np.arange(lengths.sum()) + np.repeat(starts - first, lengths)
        return self.rows[positions].astype(np.int64), np.repeat(np.arange(len(codes)), lengths)


def group(codes: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], PostingLists]:
    """The (U, bits / 8) distinct codes in a fixed order, and their rows; one stable sort."""
    words = words_of(codes)
    order = np.argsort(words[:, 0], kind="stable") if words.shape[1] == 1 else np.lexsort(words.T)
    ordered = words[order]
    is_first = np.ones(len(codes), dtype=np.bool_)
    is_first[1:] = (ordered[1:] != ordered[:-1]).any(axis=1)
    starts = np.flatnonzero(is_first)
    narrow = len(codes) < 2**31
    rows: NDArray[np.signedinteger] = order.astype(np.int32) if narrow else order
    return codes[order[starts]], PostingLists(rows, np.append(starts, len(codes)))

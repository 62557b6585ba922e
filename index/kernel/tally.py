"""The kernel's counting, which evaluation stands on; the structure is that of ``tally.c``."""

import ctypes
import functools
from ctypes import POINTER, Structure, c_bool, c_int32, c_int64, c_void_p
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from index.kernel.library import MAX_ROWS, address


class _Tally(Structure):
    _fields_ = (
        ("count", c_int64),
        ("words", c_int32),
        ("label_words", c_int32),
        ("width", c_int32),
        ("most", c_int32),
        ("codes", c_void_p),
        ("labels", c_void_p),
    )


class TallyLibrary:
    """The one function of ``tally.c``; calls free the GIL."""

    def __init__(self, path: Path) -> None:
        self._tally = ctypes.CDLL(str(path)).crossbit_tally
        self._tally.argtypes = (POINTER(_Tally), c_int64, c_void_p, c_void_p, c_void_p, c_void_p)
        self._tally.restype = c_bool

    def tally(
        self,
        codes: NDArray[np.uint64],
        labels: NDArray[np.uint64],
        queries: NDArray[np.uint64],
        query_labels: NDArray[np.uint64],
        shape: tuple[int, int],
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """(words, N) planes of codes and of labels, (Q, words) queries -> counts and sums of precisions.

        Counts (Q, *shape) are of rows by distance and shared labels, which ``shape`` has room for; sums (Q,) are of
        the precisions at the rows that share a label, ranked by (distance, row).

        Raises:
            MemoryError: there is no room for a few numbers a row.
        """
        planes = [np.ascontiguousarray(array) for array in (codes, labels, queries, query_labels)]
        rows, (width, columns) = planes[0].shape[1], shape
        if rows >= MAX_ROWS:
            raise MemoryError(f"expected fewer than {MAX_ROWS:,} rows, found {rows:,}")
        counts, sums = np.zeros((len(queries), width, columns), np.int64), np.zeros(len(queries))
        database = _Tally(rows, len(codes), len(labels), width, columns - 1, address(planes[0]), address(planes[1]))
        wanted = address(planes[2]), address(planes[3]), address(counts), address(sums)
        if not self._tally(database, len(queries), *wanted):
            raise MemoryError(f"no memory to count {rows:,} rows")
        return counts, sums


@functools.cache
def load_tally() -> TallyLibrary | None:
    """The compiled counting, none where the installation could not compile it."""
    for path in sorted(Path(__file__).parent.glob("_kernel*.so")):
        try:
            return TallyLibrary(path)
        except (OSError, AttributeError):  # built for another machine, or by an older version
            continue
    return None

"""Reading one variable of a MAT file of version 7.3, which is HDF5 with arrays stored column by column.

A cell array is a dataset of references to its cells, a text one of UTF-16 codes; ``MATLAB_class`` says which. Plain
HDF5 files without those marks are read as well, with their arrays as they stand.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from rich.progress import Progress

from model.data.mat5 import MAX_BYTES, MAX_DEPTH, Value
from model.errors import ArchiveError

_PACKED_MOST = 1100  # no filter of HDF5 makes more bytes out of one
_CELL_BYTES = 64  # what a cell costs at least, in this process


def read_mat73(path: Path, keys: Sequence[str], progress: Progress) -> tuple[str, Value]:
    """The first of the keys that the file has, and its value: cells as objects, texts as arrays of strings.

    Raises:
        ArchiveError: none of the keys, or the file is cut off, damaged, claims more than it holds, or leads elsewhere.
    """
    try:
        with h5py.File(path, "r", locking=False) as file:
            key = next((key for key in keys if key in file), None)
            if key is None:
                found = ", ".join(sorted(name for name in file if not name.startswith("#"))) or "none"
                raise ArchiveError(f"{path.name}: expected a variable {' or '.join(keys)}, found {found}")
            if not isinstance(file.get(key, getlink=True), h5py.HardLink):
                raise ArchiveError(f"{path.name}: {key}: expected the data itself, found a link to elsewhere")
            return key, _Reader(path, file, progress).value(file[key], key)
    except (OSError, RuntimeError, ValueError, TypeError, LookupError, MemoryError) as error:
        raise ArchiveError(f"{path.name}: {error}; the file is cut off or damaged, copy it again") from error


class _Reader:
    """Reads datasets of one file, within one budget of bytes: references may name one dataset many times."""

    def __init__(self, path: Path, file: h5py.File, progress: Progress) -> None:
        self._name = path.name
        self._file_bytes = path.stat().st_size
        self._file = file
        self._progress = progress
        self._left = MAX_BYTES

    def value(self, node: object, where: str, depth: int = 0) -> Value:
        """A dataset's value, its axes in MATLAB's order."""
        if not isinstance(node, h5py.Dataset):
            raise ArchiveError(f"{self._name}: {where}: expected numbers, texts or cells, found {type(node).__name__}")
        mark = node.attrs.get("MATLAB_class")
        kind = mark.decode() if isinstance(mark, bytes) else str(mark or "")
        if node.ndim == 1 and node.attrs.get("MATLAB_empty", 0):  # its sizes stand in its place
            return np.empty(0, dtype="U1" if kind == "char" else object)
        self._spend(node, where)
        if h5py.check_ref_dtype(node.dtype) is h5py.Reference:
            return self._cells(node, where, depth, turned=bool(kind))
        if h5py.check_string_dtype(node.dtype) is not None:
            return np.asarray(node.asstr()[()], dtype=object)
        values = np.asarray(node[()])
        if kind == "char":
            return _texts(values)
        return values.T if kind else values

    def _cells(self, node: h5py.Dataset, where: str, depth: int, *, turned: bool) -> Value:
        if depth == MAX_DEPTH:
            raise ArchiveError(f"{self._name}: {where}: expected cells at most {MAX_DEPTH} deep, found deeper ones")
        references = np.asarray(node[()])
        references = references.T if turned else references
        cells = np.empty(references.shape, dtype=object)
        for number, (place, reference) in enumerate(self._tracked(references, where, depth), start=1):
            cells[place] = self.value(self._file[reference], f"{where}, cell {number}", depth + 1)
        return cells

    def _tracked(self, references: Value, where: str, depth: int) -> Iterator[tuple[tuple[int, ...], Any]]:
        pairs = np.ndenumerate(references)
        if depth:
            yield from pairs
        else:
            what = f"{self._name}: {where}"
            yield from self._progress.track(pairs, total=references.size, description=what)

    def _spend(self, node: h5py.Dataset, where: str) -> None:
        """Refuse a dataset whose values are not in this file, before any memory is set aside for them."""
        if node.external or node.is_virtual:
            raise ArchiveError(f"{self._name}: {where}: expected the data itself, found a link to another file")
        stored, claimed = node.id.get_storage_size(), node.nbytes
        if stored > self._file_bytes or claimed > stored * (_PACKED_MOST if node.chunks else 1):
            raise ArchiveError(
                f"{self._name}: {where}: it claims {claimed:,} bytes {node.shape}, found {stored:,} stored in a "
                f"file of {self._file_bytes:,}; the file is cut off or damaged, copy it again"
            )
        self._left -= claimed + _CELL_BYTES
        if self._left < 0:
            raise ArchiveError(f"{self._name}: {where}: expected variables of at most {MAX_BYTES:,} bytes, found more")


def _texts(codes: Value) -> Value:
    """(length, rows) UTF-16 codes -> (rows) strings."""
    if codes.dtype.kind not in "ui" or codes.ndim > 2:
        raise ValueError(f"expected character codes, found {codes.dtype} {codes.shape}")
    rows = np.atleast_2d(codes.T) if codes.ndim == 2 else codes[None]
    return np.array([row.astype("<u2").tobytes().decode("utf-16-le") for row in rows], dtype=str)

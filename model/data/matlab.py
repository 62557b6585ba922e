"""The one door to files that hold a list of image paths, of captions, or a label matrix.

MAT files of version 5 and 7.3 and ``.npy`` are told apart by what they contain, never by their names; ``caption.txt``
is a line an item. Whatever the writer's habits (cell arrays, padded character matrices, bytes, leading axes of one,
nested cells), out come plain strings and integers: a flat string is one text and never a list of its characters.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.progress import Progress

from model.data.mat5 import HEADER_BYTES, MAX_BYTES, is_mat5, read_mat5
from model.errors import ArchiveError

INDEX_KEYS = ("index", "imgs", "FAll")
CAPTION_KEYS = ("caption", "tags", "YAll")
LABEL_KEYS = ("category", "LAll", "labels", "label")
MAX_CLASSES = 10_000
MAX_TEXT_CHARS = 100_000
_NPY = b"\x93NUMPY"
_HDF5 = b"\x89HDF\r\n\x1a\n"
_USER_BLOCK_BYTES = 512  # MATLAB writes its own header there, before HDF5's

SILENT = Progress(disable=True)


@dataclass(frozen=True, slots=True)
class _Variable:
    """A value and what messages call it."""

    where: str
    values: NDArray[Any]  # Any: objects, characters or numbers


def read_paths(path: Path, *, progress: Progress = SILENT) -> list[str]:
    """The image path of each row, as written.

    Raises:
        ArchiveError: it cannot be read, or a row is not one path.
    """
    variable = _read(path, INDEX_KEYS, progress)
    values = variable.values
    if values.ndim == 2 and 1 not in values.shape:
        raise _wrong(variable, "one path a row", f"an array {values.shape}")
    rows = [_texts(value, f"{variable.where}, row {row}") for row, value in enumerate(values.reshape(-1), start=1)]
    for number, row in enumerate(rows, start=1):
        if len(row) != 1 or not row[0]:
            raise ArchiveError(f"{variable.where}, row {number}: expected one path, found {list(row)!r:.80}")
    return [row[0] for row in rows]


def read_captions(path: Path, rows: int, *, progress: Progress = SILENT) -> list[tuple[str, ...]]:
    """The texts of each row, without outer blanks and empty ones; a row may have none.

    Raises:
        ArchiveError: it cannot be read, or has another number of rows.
    """
    if path.suffix.lower() == ".txt":
        lines = [_texts(line, path.name) for line in read_lines(path)]
        return _counted(lines, path.name, "lines", rows)
    variable = _read(path, CAPTION_KEYS, progress)
    values = _by_row(variable, rows)
    captions = [_texts(value, f"{variable.where}, row {row}") for row, value in enumerate(values, start=1)]
    return _counted(captions, variable.where, "rows", rows)


def read_labels(path: Path, rows: int, *, progress: Progress = SILENT) -> NDArray[np.uint8]:
    """(N, C) labels in {0, 1}; a matrix that lies on its side is known by its number of rows.

    Raises:
        ArchiveError: it cannot be read, has another number of rows, or holds another value.
    """
    variable = _read(path, LABEL_KEYS, progress)
    values = variable.values
    if values.ndim != 2 or values.dtype.kind not in "buif" or rows not in values.shape:
        raise _wrong(variable, f"{rows:,} rows of labels, as many as image paths", f"{values.dtype} {values.shape}")
    values = values if len(values) == rows else values.T
    if values.shape[1] > MAX_CLASSES:
        raise _wrong(variable, f"at most {MAX_CLASSES:,} classes", f"{values.shape[1]:,}")
    wrong = np.argwhere((values != 0) & (values != 1))  # also where it is not a number
    if len(wrong):
        row, column = wrong[0]
        raise ArchiveError(
            f"{variable.where}, row {row + 1}, column {column + 1}: expected 0 or 1, found {values[row, column]} "
            f"({len(wrong):,} such values)"
        )
    return np.ascontiguousarray(values, dtype=np.uint8)


def read_lines(path: Path) -> list[str]:
    """The lines of a UTF-8 text; Unicode's own line separators are part of a line.

    Raises:
        ArchiveError: it is missing, too large, or not UTF-8; the message names the line.
    """
    _check_size(path)
    content = path.read_bytes()
    try:
        lines = content.decode("utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        number = content.count(b"\n", 0, error.start) + 1
        raise ArchiveError(f"{path.name}, line {number}: expected UTF-8, found {content[error.start]:#x}") from error
    if not lines[-1]:
        lines.pop()
    return [line.removesuffix("\r") for line in lines]


def _check_size(path: Path) -> None:
    try:
        size = path.stat().st_size
    except OSError as error:
        raise ArchiveError(f"expected a file {path.name}: {error.strerror}") from error
    if size > MAX_BYTES:
        raise ArchiveError(f"{path.name}: expected a file of at most {MAX_BYTES:,} bytes, found {size:,}")


def _read(path: Path, keys: Sequence[str], progress: Progress) -> _Variable:
    _check_size(path)
    with path.open("rb") as file:
        head = file.read(_USER_BLOCK_BYTES + len(_HDF5))
    if head.startswith(_NPY):
        return _Variable(path.name, _read_npy(path))
    if _HDF5 in (head[: len(_HDF5)], head[_USER_BLOCK_BYTES:]):
        from model.data.mat73 import read_mat73

        key, values = read_mat73(path, keys, progress)
    elif is_mat5(head):
        key, values = read_mat5(path, keys, progress)
    else:
        raise ArchiveError(
            f"{path.name}: expected a MAT file of version 5 or 7.3, or .npy, found {head[:16]!r} in {len(head)} bytes; "
            f"a MAT file begins with {HEADER_BYTES} bytes of header: copy it again, or save it with -v7"
        )
    return _Variable(f"{path.name}: {key}", values)


def _read_npy(path: Path) -> NDArray[Any]:
    try:
        return np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))  # mapped: a false size is found at once
    except (ValueError, OSError, EOFError, SyntaxError, OverflowError, MemoryError) as error:
        raise ArchiveError(
            f"{path.name}: {error}; copy it again, or save strings as an array of strings and not of objects"
        ) from error


def _by_row(variable: _Variable, rows: int) -> NDArray[Any]:
    """The values with the rows on the first axis: axes of one in front of it go, and a matrix on its side is turned."""
    values = variable.values
    while values.ndim > 1 and len(values) == 1 and rows != 1:
        values = values[0]
    if values.ndim == 2 and len(values) != rows and values.shape[1] == rows:
        values = values.T
    return values.reshape(1) if values.ndim == 0 else values


def _texts(value: object, where: str) -> tuple[str, ...]:
    """The texts of one row, however deep they lie."""
    match value:
        case bytes():
            try:
                texts: tuple[str, ...] = (value.decode(),)
            except UnicodeDecodeError as error:
                raise ArchiveError(f"{where}: expected UTF-8, found {value!r:.80}") from error
        case str():
            texts = (str(value),)
        case np.ndarray() if value.dtype.kind in "USO":
            texts = tuple(text for part in value.reshape(-1) for text in _texts(part, where))
        case np.ndarray() if not value.size:  # MATLAB's [] where a text would be empty
            texts = ()
        case _:
            raise ArchiveError(f"{where}: expected texts, found {type(value).__name__} {value!r:.60}")
    stripped = tuple(text.strip(" \t\r\n\0") for text in texts)
    if any(len(text) > MAX_TEXT_CHARS for text in stripped):
        raise ArchiveError(f"{where}: expected a text of at most {MAX_TEXT_CHARS:,} characters, found a longer one")
    return tuple(filter(None, stripped))


def _counted(rows: list[tuple[str, ...]], where: str, unit: str, expected: int) -> list[tuple[str, ...]]:
    if len(rows) != expected:
        raise ArchiveError(f"{where}: expected {expected:,} {unit}, as many as image paths, found {len(rows):,}")
    return rows


def _wrong(variable: _Variable, expected: str, found: str) -> ArchiveError:
    return ArchiveError(f"{variable.where}: expected {expected}, found {found}")

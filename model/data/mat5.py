"""Reading one variable of a MAT file of version 5 ("MAT-File Format", MathWorks, chapter 1): numbers, texts and cells.

SciPy's reader trusts the sizes that a file claims: damaged files end its process (segmentation fault in SciPy 1.17).
This one takes every step inside the bytes that are there. Structures, objects and sparse matrices are refused.
"""

import math
import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from rich.progress import Progress

from model.errors import ArchiveError

MAX_BYTES = 2**30  # of one variable, unpacked
MAX_DEPTH = 3  # a list of items, of texts, of characters
HEADER_BYTES = 128
_CHUNK_BYTES = 2**20
_MATRIX, _COMPRESSED, _UTF8 = 14, 15, 16  # element types
_NUMBERS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
_CODES = {1: "u1", 2: "u1", 4: "u2", 17: "u2", 18: "u4"}  # of characters
_CODECS = {1: "latin-1", 2: "utf-16-le", 4: "utf-32-le"}  # by bytes of a code
_CELL, _CHAR = 1, 4  # array classes
_NUMERIC = range(6, 16)  # array classes double to uint64; logical ones are uint8 with a flag


@dataclass(frozen=True, slots=True)
class _Element:
    """A tag and the bytes behind it."""

    kind: int
    data: memoryview
    end: int  # where the next tag begins


def is_mat5(head: bytes) -> bool:
    """Whether these first bytes of a file are a header of version 5."""
    return head[124:128] in (b"\x00\x01IM", b"\x01\x00MI")


Value: TypeAlias = NDArray[Any]  # Any: cells as objects, strings, or numbers


def read_mat5(path: Path, keys: Sequence[str], progress: Progress) -> tuple[str, Value]:
    """The first of the keys that the file has, and its value: cells as objects, texts as arrays of strings.

    Raises:
        ArchiveError: none of the keys, or the file is cut off, damaged, or claims more than it holds.
    """
    return Mat5File(path, progress).first(keys)


class Mat5File:
    """A file's variables, unpacked once.

    Raises:
        ArchiveError: the file is cut off, damaged, or claims more than it holds.
    """

    def __init__(self, path: Path, progress: Progress) -> None:
        content = path.read_bytes()
        self._name = path.name
        self._reader = _Reader(path.name, "<" if content[126:128] == b"IM" else ">", progress)
        self._found: dict[str, memoryview] = {}
        for matrix in self._reader.variables(memoryview(content)[HEADER_BYTES:]):
            key = self._reader.name_of(matrix)
            if key in self._found:
                raise ArchiveError(f"{path.name}: expected one variable {key!r:.80}, found two")
            self._found[key] = matrix

    def first(self, keys: Sequence[str]) -> tuple[str, Value]:
        """The first of the keys that the file has, and its value.

        Raises:
            ArchiveError: none of the keys, or its value is damaged.
        """
        for key in keys:
            if key in self._found:
                return key, self._reader.value(self._found[key], key)
        names = ", ".join(sorted(self._found)) or "none"
        raise ArchiveError(f"{self._name}: expected a variable {' or '.join(keys)}, found {names:.200}")


class _Reader:
    """Steps from tag to tag of one file."""

    def __init__(self, name: str, order: str, progress: Progress) -> None:
        self._name = name
        self._order = order
        self._progress = progress

    def variables(self, view: memoryview) -> Iterator[memoryview]:
        """The content of each variable, unpacked."""
        position = 0
        while position < len(view):
            element = self._element(view, position, "a variable", padded=False)
            position = element.end
            if element.kind == _COMPRESSED:
                element = self._element(self._unpack(element.data), 0, "a packed variable")
            yield self._matrix(element, "a variable")

    def name_of(self, matrix: memoryview) -> str:
        """The variable's name."""
        return bytes(self._parts(matrix, "a variable")[2].data).decode("latin-1")

    def value(self, matrix: memoryview, where: str, depth: int = 0) -> Value:
        """An array with its axes in MATLAB's order; the last axis of characters becomes strings."""
        if not len(matrix):  # MATLAB's [] in a cell may have no content at all
            return np.empty(0)
        flags, sizes, name = self._parts(matrix, where)
        kind = struct.unpack_from(f"{self._order}I", flags.data)[0] & 0xFF
        shape = struct.unpack(f"{self._order}{len(sizes.data) // 4}i", sizes.data[: len(sizes.data) // 4 * 4])
        if min(shape, default=-1) < 0:
            raise self._broken(where, f"expected sizes of at least 0, found {shape}")
        if kind == _CELL:
            return self._cells(matrix[name.end :], shape, where, depth)
        if kind != _CHAR and kind not in _NUMERIC:
            raise ArchiveError(f"{self._name}: {where}: expected numbers, texts or cells, found array class {kind}")
        if not math.prod(shape):
            return np.empty(0, dtype="U1" if kind == _CHAR else "f8")
        data = self._element(matrix, name.end, where)
        return self._texts(data, shape, where) if kind == _CHAR else self._numbers(data, shape, where)

    def _cells(self, view: memoryview, shape: tuple[int, ...], where: str, depth: int) -> Value:
        count = math.prod(shape)
        if depth == MAX_DEPTH:
            raise ArchiveError(f"{self._name}: {where}: expected cells at most {MAX_DEPTH} deep, found deeper ones")
        if count > len(view) // 8:
            raise self._broken(where, f"it claims {count:,} cells in {len(view):,} bytes")
        cells = np.empty(count, dtype=object)
        position = 0
        numbers = range(count)
        for number in numbers if depth else self._progress.track(numbers, description=f"{self._name}: {where}"):
            place = f"{where}, cell {number + 1}"
            element = self._element(view, position, place)
            cells[number] = self.value(self._matrix(element, place), place, depth + 1)
            position = element.end
        return cells.reshape(shape, order="F")

    def _numbers(self, data: _Element, shape: tuple[int, ...], where: str) -> Value:
        values = self._array(data, _NUMBERS, where)
        if len(values) != math.prod(shape):
            raise self._broken(where, f"it claims {math.prod(shape):,} values in {len(data.data):,} bytes")
        return values.reshape(shape, order="F")

    def _texts(self, data: _Element, shape: tuple[int, ...], where: str) -> Value:
        try:
            if data.kind == _UTF8:  # of which the sizes count characters
                text = bytes(data.data).decode()
                if shape[:-1] == (1,):  # or UTF-16 codes, which makes no difference to a single text
                    return np.array([text])
                codes = np.frombuffer(text.encode("utf-32-le"), dtype="<u4")
            else:
                values = self._array(data, _CODES, where)
                codes = values.astype(f"<u{values.itemsize}")
            if len(codes) != math.prod(shape):
                raise self._broken(where, f"it claims {math.prod(shape):,} characters in {len(data.data):,} bytes")
            rows = codes.reshape(shape, order="F").reshape(-1, shape[-1])
            texts = [row.tobytes().decode(_CODECS[codes.itemsize]) for row in rows]
        except UnicodeDecodeError as error:
            raise self._broken(where, f"its characters cannot be decoded ({error.reason})") from error
        return np.array(texts).reshape(shape[:-1])

    def _array(self, data: _Element, types: dict[int, str], where: str) -> Value:
        if data.kind not in types or len(data.data) % int(types[data.kind][1]):
            raise self._broken(where, f"{len(data.data):,} bytes of element type {data.kind} are no such values")
        return np.frombuffer(data.data, dtype=self._order + types[data.kind])

    def _parts(self, matrix: memoryview, where: str) -> tuple[_Element, _Element, _Element]:
        """Flags, sizes and name, which every array begins with."""
        flags = self._element(matrix, 0, where)
        sizes = self._element(matrix, flags.end, where)
        if len(flags.data) < 4:
            raise self._broken(where, "its flags are missing")
        return flags, sizes, self._element(matrix, sizes.end, where)

    def _element(self, view: memoryview, position: int, where: str, *, padded: bool = True) -> _Element:
        if len(view) - position < 8:
            raise self._broken(where, f"expected a tag of 8 bytes, found {max(0, len(view) - position)}")
        kind, size = struct.unpack_from(f"{self._order}2I", view, position)
        start = position + 8
        if kind >> 16:  # the short form: size, type and up to four bytes in one tag
            kind, size, start = kind & 0xFFFF, kind >> 16, position + 4
            if size > 4:
                raise self._broken(where, f"expected at most 4 bytes in a short tag, found {size}")
            return _Element(kind, view[start : start + size], position + 8)
        if size > len(view) - start:
            raise self._broken(where, f"it claims {size:,} bytes where {len(view) - start:,} are left")
        end = start + size
        return _Element(kind, view[start:end], min(end + (-end % 8 if padded else 0), len(view)))

    def _matrix(self, element: _Element, where: str) -> memoryview:
        if element.kind != _MATRIX:
            raise self._broken(where, f"expected an array, found element type {element.kind}")
        return element.data

    def _unpack(self, data: memoryview) -> memoryview:
        stream, unpacked, pending = zlib.decompressobj(), bytearray(), bytes(data)
        try:
            while pending and not stream.eof:
                unpacked += stream.decompress(pending, _CHUNK_BYTES)
                pending = stream.unconsumed_tail
                if len(unpacked) > MAX_BYTES:
                    raise ArchiveError(f"{self._name}: expected variables of at most {MAX_BYTES:,} bytes, found more")
        except zlib.error as error:
            raise self._broken("a packed variable", str(error)) from error
        return memoryview(unpacked)

    def _broken(self, where: str, reason: str) -> ArchiveError:
        return ArchiveError(f"{self._name}: {where}: {reason}; the file is cut off or damaged, copy it again")

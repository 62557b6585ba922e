"""Codes made elsewhere: archives of query and database codes with their label matrices, as this field publishes them.

MAT files of version 5 and 7.3 hold one value a bit, in {-1, +1} or {0, 1}. In ``.npz`` files ``uint8`` is packed, and
any other type is one value a bit. A file is known by its content, and nothing in it is trusted: sizes are checked
against the bytes that are there before memory is set aside, and nothing is unpickled.
"""

import io
import math
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from tokenize import TokenError
from typing import Any, Literal, Self, get_args

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from index.codes import MAX_BITS, pack
from model.data.mat5 import Mat5File, is_mat5
from model.data.mat73 import read_mat73
from model.data.matlab import SILENT
from model.errors import ArchiveError, CodeFileError
from model.evaluation.codes import CodeSet, Protocol
from model.hasher import Modality

MAX_BYTES = 2**30  # of the file, and of what is unpacked from it
MAX_CLASSES = 1000
_HDF5, _NPZ = b"\x89HDF\r\n\x1a\n", b"PK\x03\x04"
_ROWS = 2**16  # looked at together
_HEAD_BYTES = 520  # MATLAB writes 512 bytes of its own before HDF5's signature

# what zipfile raises; on top of that numpy parses an array's header as Python
_DAMAGED = (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, NotImplementedError, RuntimeError)

BitOrder = Literal["big", "little"]
Matrix = NDArray[Any]  # Any: the numeric type that the file has


class Role(StrEnum):
    """What a matrix of the file is."""

    QUERY_IMAGE = "query_image"
    QUERY_TEXT = "query_text"
    QUERY_PAIR = "query_pair"
    DATABASE_IMAGE = "database_image"
    DATABASE_TEXT = "database_text"
    DATABASE_PAIR = "database_pair"
    QUERY_LABELS = "query_labels"
    DATABASE_LABELS = "database_labels"


QUERIES = {
    Role.QUERY_IMAGE: Modality.IMAGE,
    Role.QUERY_TEXT: Modality.TEXT,
    Role.QUERY_PAIR: Modality.PAIR,
}
DATABASE = {
    Role.DATABASE_IMAGE: Modality.IMAGE,
    Role.DATABASE_TEXT: Modality.TEXT,
    Role.DATABASE_PAIR: Modality.PAIR,
}
LABELS = {Role.QUERY_LABELS, Role.DATABASE_LABELS}
SIDES = dict.fromkeys(QUERIES, Role.QUERY_LABELS) | dict.fromkeys(DATABASE, Role.DATABASE_LABELS)  # codes -> labels
KNOWN_KEYS: tuple[Mapping[Role, str], ...] = (
    {
        Role.QUERY_IMAGE: "q_img",
        Role.QUERY_TEXT: "q_txt",
        Role.DATABASE_IMAGE: "r_img",
        Role.DATABASE_TEXT: "r_txt",
        Role.QUERY_LABELS: "q_l",
        Role.DATABASE_LABELS: "r_l",
    },
    {Role.QUERY_PAIR: "qB", Role.DATABASE_PAIR: "rB", Role.QUERY_LABELS: "qL", Role.DATABASE_LABELS: "rL"},
    {
        Role.QUERY_PAIR: "query_codes",
        Role.DATABASE_PAIR: "retrieval_codes",
        Role.QUERY_LABELS: "query_labels",
        Role.DATABASE_LABELS: "retrieval_labels",
    },
)


First = Callable[[Sequence[str]], tuple[str, Matrix]]  # the first of some keys that a file has, and its value


def parse_keys(entries: Sequence[str]) -> dict[Role, str]:
    """``ROLE=NAME`` entries as names by role.

    Raises:
        CodeFileError: not of that form, or no role; the message lists the roles.
    """
    keys = {}
    for entry in entries:
        role, _, name = entry.partition("=")
        if role not in list(Role) or not name:
            raise CodeFileError(f"expected ROLE=NAME with a role of {', '.join(Role)}, found {entry!r}")
        keys[Role(role)] = name
    return keys


def read_codes(path: Path, keys: Mapping[Role, str] | None = None, bit_order: BitOrder | None = None) -> CodeSet:
    """Codes and labels of a file; ``keys`` names its matrices where they are not among ``KNOWN_KEYS``.

    ``bit_order`` (little if left out) is how packed bytes were made, labels included; an archive may say so itself in
    a scalar ``bitorder``. The file's row order is that of the ``stable`` tie treatment.

    Raises:
        CodeFileError: missing, too large, damaged, of another format, or its matrices do not fit together.
    """
    try:
        head = _head(path)
        if head.startswith(_NPZ):
            with NpzFile(path) as file:
                order = file.bit_order(bit_order)
                return _code_set(path.name, _read(file.first, keys), order)
        if bit_order is not None:
            raise CodeFileError(f"{path.name}: MAT files hold one value a bit; leave out the bit order")
        if is_mat5(head):
            return _code_set(path.name, _read(Mat5File(path, SILENT).first, keys), None)
        if _HDF5 in (head[: len(_HDF5)], head[-len(_HDF5) :]):
            return _code_set(path.name, _read(lambda names: read_mat73(path, names, SILENT), keys), None)
    except ArchiveError as error:
        raise CodeFileError(str(error)) from error
    raise CodeFileError(
        f"{path.name}: expected a MAT file of version 5 or 7.3, or .npz, found {head[:16]!r}; save the codes as one"
    )


def _head(path: Path) -> bytes:
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise CodeFileError(f"{path.name}: expected a file of at most {MAX_BYTES:,} bytes, found {size:,}")
        with path.open("rb") as file:
            return file.read(_HEAD_BYTES)
    except OSError as error:
        raise CodeFileError(f"expected a file of codes at {path}: {error.strerror}") from error


def _read(first: First, keys: Mapping[Role, str] | None) -> dict[Role, Matrix]:
    """The matrices under the names that were given, or under the first set of known names that the file has."""
    if keys is None:
        label_key, _ = first([known[Role.QUERY_LABELS] for known in KNOWN_KEYS])
        keys = next(known for known in KNOWN_KEYS if known[Role.QUERY_LABELS] == label_key)
    sides = [[role for role in keys if role in codes] for codes in (QUERIES, DATABASE)]
    if not all(sides) or not keys.keys() >= LABELS:
        raise CodeFileError(
            f"expected names for codes and labels of both sides, such as query_pair, database_pair, query_labels and "
            f"database_labels, found {', '.join(sorted(keys)) or 'none'}"
        )
    return {role: first([key])[1] for role, key in keys.items()}


def _code_set(name: str, found: Mapping[Role, Matrix], packed: BitOrder | None) -> CodeSet:
    """``packed`` is the order of bits in ``uint8`` matrices; None where they are one value a bit as well."""
    matrices = _upright({role: _matrix(f"{name}: {role}", value) for role, value in found.items()})
    codes = {role: _codes(f"{name}: {role}", matrices[role], packed) for role in matrices.keys() - LABELS}
    labels = {role: _labels(f"{name}: {role}", matrices[role], packed) for role in LABELS}
    widths = {8 * side.shape[1] for side in codes.values()}
    if len(widths) > 1 or max(widths) > MAX_BITS:
        raise CodeFileError(f"{name}: expected codes of one length up to {MAX_BITS} bits, found {sorted(widths)}")
    for role, own in SIDES.items():
        if role in codes and len(codes[role]) != len(labels[own]):
            raise CodeFileError(
                f"{name}: expected a row of labels for each code, found {len(codes[role]):,} rows of {role} and "
                f"{len(labels[own]):,} of {own}"
            )
    query_labels, database_labels = labels[Role.QUERY_LABELS], labels[Role.DATABASE_LABELS]
    classes = query_labels.shape[1], database_labels.shape[1]
    if classes[0] != classes[1] or classes[0] > MAX_CLASSES:
        raise CodeFileError(
            f"{name}: expected at most {MAX_CLASSES:,} classes, the same for queries and database, found "
            f"{classes[0]:,} and {classes[1]:,}"
        )
    rows = len(database_labels)
    return CodeSet(
        bits=widths.pop(),
        protocol=Protocol.ELSEWHERE,
        captions="",
        queries={QUERIES[role]: codes[role] for role in QUERIES if role in codes},
        database={DATABASE[role]: codes[role] for role in DATABASE if role in codes},
        query_labels=query_labels,
        database_labels=database_labels,
        unseen=np.zeros(rows, dtype=np.bool_),
        order=np.arange(rows),
        query_ids=tuple(map(str, range(len(query_labels)))),
        database_ids=tuple(map(str, range(rows))),
        query_margins={},
        database_margins={},
    )


def _matrix(where: str, value: Matrix) -> Matrix:
    if value.ndim != 2 or value.dtype.kind not in "buif" or not value.size:
        raise CodeFileError(f"{where}: expected a matrix of numbers, a row an item, found {value.dtype} {value.shape}")
    return value


def _upright(matrices: dict[Role, Matrix]) -> dict[Role, Matrix]:
    """Plain HDF5 files may hold every matrix on its side: known by codes and labels that agree in columns alone."""
    shapes = [(matrices[role].shape, matrices[own].shape) for role, own in SIDES.items() if role in matrices]
    if all(codes[0] != labels[0] and codes[1] == labels[1] for codes, labels in shapes):
        return {role: value.T for role, value in matrices.items()}
    return matrices


def _codes(where: str, value: Matrix, packed: BitOrder | None) -> NDArray[np.uint8]:
    """Packed little, a part of the rows at a time: one value a bit may take 64 times as much."""
    is_packed = packed is not None and value.dtype == np.uint8
    if not is_packed and value.shape[1] % 8:
        raise CodeFileError(f"{where}: expected a multiple of 8 bits, found {value.shape[1]}")
    if is_packed and packed == "little":
        return np.ascontiguousarray(value)
    negative = 0 if (value == 0).any() else -1
    parts = []
    for start in range(0, len(value), _ROWS):
        part = value[start : start + _ROWS]
        if is_packed:
            parts.append(np.packbits(np.unpackbits(part, axis=1), axis=1, bitorder="little"))
        else:
            parts.append(pack(_checked(where, part, negative, start)))
    return np.concatenate(parts)


def _labels(where: str, value: Matrix, packed: BitOrder | None) -> NDArray[np.bool_]:
    """One column a class. Where every byte is 0 or 1, packed or not makes no difference to what is shared."""
    if packed and value.dtype == np.uint8 and value.max() > 1 and value.shape[1] <= MAX_CLASSES:
        return np.unpackbits(value, axis=1, bitorder=packed).view(np.bool_)
    return _checked(where, value, 0, 0)


def _checked(where: str, value: Matrix, negative: int, first_row: int) -> NDArray[np.bool_]:
    """Where the values are 1; the others must all be ``negative``."""
    on: NDArray[np.bool_] = value == 1
    wrong = ~(on | (value == negative))
    if wrong.any():
        row, column = np.argwhere(wrong)[0]
        raise CodeFileError(
            f"{where}, row {first_row + row + 1}, column {column + 1}: expected only {negative} and 1 there, found "
            f"{value[row, column]}"
        )
    return on


class NpzFile:
    """An ``.npz`` archive whose members are read no further than they truly reach; ``numpy.load`` trusts headers.

    Raises:
        CodeFileError: damaged.
    """

    def __init__(self, path: Path) -> None:
        self._name = path.name
        try:
            self._zip = zipfile.ZipFile(path)
        except _DAMAGED as error:
            raise CodeFileError(f"{path.name}: {error}; the file is cut off or damaged, copy it again") from error
        self._members = {info.filename.removesuffix(".npy"): info for info in self._zip.infolist()}
        self._left = MAX_BYTES

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._zip.close()

    def first(self, keys: Sequence[str]) -> tuple[str, Matrix]:
        """The first of the keys that the file has, and its value.

        Raises:
            CodeFileError: none of the keys, or its value is damaged, of objects, or too large.
        """
        for key in keys:
            if key in self._members:
                return key, self._value(key)
        names = ", ".join(sorted(self._members)) or "none"
        raise CodeFileError(f"{self._name}: expected an array {' or '.join(keys)}, found {names:.200}")

    def bit_order(self, asked: BitOrder | None) -> BitOrder:
        """What the archive says, else what was asked, else little.

        Raises:
            CodeFileError: it says neither big nor little, or the opposite of what was asked.
        """
        if "bitorder" not in self._members:
            return asked or "little"
        value = self._value("bitorder")
        said = str(value.reshape(-1)[0]) if value.size == 1 and value.dtype.kind == "U" else repr(value)
        for order in get_args(BitOrder):
            if said == order and asked in (None, order):
                found: BitOrder = order
                return found
        raise CodeFileError(
            f"{self._name}: expected a bitorder of {asked or 'big or little'}, found {said:.40} in the archive"
        )

    def _value(self, key: str) -> Matrix:
        info = self._members[key]
        self._left -= info.file_size
        if self._left < 0:
            raise CodeFileError(f"{self._name}: expected arrays of at most {MAX_BYTES:,} bytes, found more")
        try:
            with self._zip.open(info) as member:
                content = member.read(info.file_size)
                member.read(1)  # to the end, where the checksum is looked at
            return _array(content)
        except (*_DAMAGED, MemoryError, RecursionError, SyntaxError, TokenError, TypeError) as error:
            raise CodeFileError(f"{self._name}: {key}: {error}; copy the file again, or save it again") from error


def _array(content: bytes) -> Matrix:
    """The array of an ``.npy`` member.

    Raises:
        ValueError: no numbers or text, or not as many as its header says.
    """
    stream = io.BytesIO(content)
    version = npy.read_magic(stream)
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f"expected an array of format 1.0 or 2.0, found {version[0]}.{version[1]}")
    read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, columns_first, kind = read(stream)
    if kind.hasobject or kind.kind not in "buifU":
        raise ValueError(f"expected numbers, found {kind}")
    data = content[stream.tell() :]
    if min(shape, default=0) < 0 or math.prod(shape) * kind.itemsize != len(data):
        raise ValueError(f"its header claims {shape} of {kind}, found {len(data):,} bytes")
    return np.frombuffer(data, dtype=kind).reshape(shape, order="F" if columns_first else "C")

"""The files of a generation: their sizes and checksums, and codes and rows mapped into memory."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from index.errors import IndexCorrupt
from index.manifest import FileEntry


def describe(path: Path) -> FileEntry:
    """Size and checksum of a file, read once from start to end."""
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    return FileEntry(path.stat().st_size, digest)


def check_files(directory: Path, files: Mapping[str, FileEntry], *, checksums: bool) -> None:
    """Compare files with what the manifest says: sizes always, contents where ``checksums`` asks to read them all.

    Raises:
        IndexCorrupt: a file is missing or differs; the message names it.
    """
    for name, expected in sorted(files.items()):
        path = directory / name
        if not path.is_file():
            raise IndexCorrupt(f"{path} is missing; restore it, roll back or rebuild the index")
        size = path.stat().st_size
        if size != expected.size_bytes:
            raise IndexCorrupt(
                f"{path}: expected {expected.size_bytes:,} bytes, found {size:,}; restore it, roll back or rebuild"
            )
        if checksums and describe(path) != expected:
            raise IndexCorrupt(f"{path} does not match its checksum; restore it, roll back or rebuild the index")


def map_codes(path: Path, count: int, bits: int) -> NDArray[np.uint8]:
    """Read-only (count, bits / 8) codes, mapped: pages are read when a search touches them.

    Raises:
        IndexCorrupt: the file has another size.
    """
    return _map(path, count * bits // 8).reshape(count, bits // 8)


def map_rows(path: Path, count: int) -> NDArray[np.int64]:
    """Read-only (count,) item rows of the codes, ascending, mapped.

    Raises:
        IndexCorrupt: the file has another size.
    """
    return _map(path, count * 8).view("<i8")


def map_presence(path: Path, count: int) -> NDArray[np.uint8]:
    """Read-only (count,) presence of the pair codes, mapped.

    Raises:
        IndexCorrupt: the file has another size.
    """
    return _map(path, count)


def _map(path: Path, size_bytes: int) -> NDArray[np.uint8]:
    found = path.stat().st_size if path.is_file() else 0
    if found != size_bytes:
        raise IndexCorrupt(f"{path}: expected {size_bytes:,} bytes, found {found:,}; restore it, roll back or rebuild")
    if not size_bytes:  # the operating system maps nothing of no length
        return np.empty(0, dtype=np.uint8)
    return np.asarray(np.memmap(path, dtype=np.uint8, mode="r"))

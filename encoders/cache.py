"""What the towers made of each input, on disk, keyed by backbone and content, so that each input passes them once.

``folder/<name>-<time>-<random>.npy``: immutable shards of two arrays in NumPy's format, one after the other: the keys,
and the values, which stay on disk until they are asked for. A shard is written to a temporary sibling, fsynced and
renamed; a killed run leaves whole shards and at most one temporary file, which the next run ignores.
"""

import os
import secrets
import threading
import time
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

Precision = Literal["float32", "float16"]
Shape = tuple[int, ...]


class FeatureCache:
    """A map from content hash to an array of numbers, for one backbone, device kind and use; safe for many threads."""

    def __init__(self, folder: Path, name: str, shape: int | Shape | None, precision: Precision = "float32") -> None:
        """``shape`` is that of every value; None where values differ. float16 halves the disk and rounds."""
        self._folder = folder
        self._name = name
        self._shape = (shape,) if isinstance(shape, int) else shape
        self._dtype = np.dtype(precision).newbyteorder("<")
        self._found: dict[bytes, tuple[NDArray[np.floating], int]] = {}
        self._lock = threading.Lock()
        for path in sorted(folder.glob(f"{name}-*.npy")):
            self._index(path)

    def __len__(self) -> int:
        return len(self._found)

    def __contains__(self, key: str) -> bool:
        return key.encode() in self._found

    def get(self, key: str) -> NDArray[np.float32] | None:
        """The value of this content hash (hex), or None. Reads that value alone."""
        found = self._found.get(key.encode())
        if found is None:
            return None
        shard, row = found
        return np.array(shard[row], dtype=np.float32)

    def put(self, values: Mapping[str, NDArray[np.floating]]) -> None:
        """Store values by content hash (hex), one shard for each shape; durable when this returns."""
        by_shape: dict[Shape, list[str]] = defaultdict(list)
        for key, value in values.items():
            by_shape[value.shape].append(key)
        for keys in by_shape.values():
            path = self._write(np.array([key.encode() for key in keys], "S64"), np.stack([values[key] for key in keys]))
            with self._lock:
                self._index(path)

    def _write(self, keys: NDArray[np.bytes_], values: NDArray[np.floating]) -> Path:
        self._folder.mkdir(parents=True, exist_ok=True)
        # the time orders them, the random part keeps runs that fill one cache apart
        path = self._folder / f"{self._name}-{time.time_ns():020d}-{secrets.token_hex(4)}.npy"
        temporary = path.with_suffix(".tmp")
        try:
            with temporary.open("wb") as file:
                np.save(file, keys)
                np.save(file, values.astype(self._dtype))
                file.flush()
                os.fsync(file.fileno())
            temporary.rename(path)
        finally:
            temporary.unlink(missing_ok=True)
        return path

    def _index(self, path: Path) -> None:
        try:
            with path.open("rb") as file:
                keys = np.load(file)
                npy.read_magic(file)
                shape, _, dtype = npy.read_array_header_1_0(file)
                start = file.tell()
            if dtype != self._dtype or keys.dtype != "S64" or self._shape not in (None, shape[1:]):
                return  # of another layout: computed again, never misread
            values = np.memmap(path, dtype, "r", start, shape)
        except (ValueError, EOFError):
            return  # cut short behind our back: computed again
        for row, key in enumerate(keys.tolist()):
            self._found[key] = (values, row)

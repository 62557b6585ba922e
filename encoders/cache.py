"""Features on disk, keyed by backbone and content, so that each input passes the towers once.

``folder/<fingerprint>-<device kind>/<modality>-000001.npy``: immutable shards, each a structured array of
(key, features) written to a temporary sibling, fsynced and renamed. A killed run leaves whole shards and at most one
temporary file, which the next run ignores.
"""

import os
import threading
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


class FeatureCache:
    """A map from content hash to features for one backbone, device kind and modality; safe for many threads."""

    def __init__(self, folder: Path, modality: str, dim: int) -> None:
        self._folder = folder
        self._modality = modality
        self._dtype = np.dtype([("key", "S64"), ("features", "<f4", (dim,))])
        self._found: dict[bytes, tuple[NDArray[np.void], int]] = {}
        self._lock = threading.Lock()
        for path in sorted(folder.glob(f"{modality}-*.npy")):
            self._index(np.load(path, mmap_mode="r"))

    def __len__(self) -> int:
        return len(self._found)

    def get(self, key: str) -> NDArray[np.float32] | None:
        """(dim,) features of this content hash (hex), or None."""
        found = self._found.get(key.encode())
        if found is None:
            return None
        shard, row = found
        features: NDArray[np.float32] = np.array(shard["features"][row])
        return features

    def put(self, features: Mapping[str, NDArray[np.float32]]) -> None:
        """Store features by content hash (hex) as one shard; durable when this returns."""
        if not features:
            return
        shard = np.empty(len(features), dtype=self._dtype)
        shard["key"] = [key.encode() for key in features]
        shard["features"] = list(features.values())
        with self._lock:
            self._index(np.load(self._write(shard), mmap_mode="r"))

    def _write(self, shard: NDArray[np.void]) -> Path:
        self._folder.mkdir(parents=True, exist_ok=True)
        # the process id keeps two runs that fill one cache apart
        number = len(list(self._folder.glob(f"{self._modality}-*.npy"))) + 1
        path = self._folder / f"{self._modality}-{number:06d}-{os.getpid()}.npy"
        temporary = path.with_suffix(".tmp")
        try:
            with temporary.open("wb") as file:
                np.save(file, shard)
                file.flush()
                os.fsync(file.fileno())
            temporary.rename(path)
        finally:
            temporary.unlink(missing_ok=True)
        return path

    def _index(self, shard: NDArray[np.void]) -> None:
        if shard.dtype != self._dtype:
            return  # another layout: recomputed, never misread
        for row, key in enumerate(shard["key"]):
            self._found[bytes(key)] = (shard, row)

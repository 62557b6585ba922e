"""MAT files as MATLAB itself writes them: version 7.3, which SciPy cannot."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

USER_BLOCK = b"MATLAB 7.3 MAT-file, Platform: GLNXA64, Created on: Mon Nov 23 2026 HDF5 schema 1.00 .".ljust(116)


def save73(path: Path, variables: dict[str, Any]) -> None:
    """Write lists as N x 1 cell arrays, strings as char, integer matrices as uint8; columns first, as MATLAB does."""
    with h5py.File(path, "w", userblock_size=512) as file:
        for name, value in variables.items():
            _write(file, name, value)
    with path.open("r+b") as raw:
        raw.write(USER_BLOCK + bytes(8) + b"\x00\x02IM")


def _write(file: h5py.File, name: str, value: object) -> h5py.Dataset:
    if isinstance(value, str):
        return _marked(file, name, _codes(value)[:, None], b"char", empty=not value)
    if isinstance(value, list):
        return _marked(file, name, _references(file, name, value)[None, :], b"cell", empty=not value)
    matrix = np.asarray(value, dtype=np.uint8)
    return _marked(file, name, matrix.T, b"uint8", empty=False)


def _references(file: h5py.File, name: str, values: Sequence[object]) -> NDArray[np.object_]:
    references = np.empty(len(values), dtype=h5py.ref_dtype)
    for position, value in enumerate(values):
        references[position] = _write(file, f"#refs#/{name.removeprefix('#refs#/')}.{position}", value).ref
    return references


def _marked(file: h5py.File, name: str, data: NDArray[np.generic], mark: bytes, *, empty: bool) -> h5py.Dataset:
    if empty:  # MATLAB stores the sizes of an empty array in its place
        dataset = file.create_dataset(name, data=np.array([0, 0], dtype=np.uint64))
        dataset.attrs["MATLAB_empty"] = np.uint8(1)
    else:
        dataset = file.create_dataset(name, data=data)
    dataset.attrs["MATLAB_class"] = np.bytes_(mark)
    if mark == b"char":
        dataset.attrs["MATLAB_int_decode"] = np.int32(2)
    return dataset


def _codes(text: str) -> NDArray[np.uint16]:
    return np.frombuffer(text.encode("utf-16-le"), dtype=np.uint16)

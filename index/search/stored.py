"""Structures in one file, so that opening an index sorts nothing: a JSON header, then flat arrays, mapped."""

import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from index.errors import IndexCorrupt
from index.search.structures import Structures, planes_of

ALIGNMENT = 64  # bytes
MAX_HEADER = 1 << 20


def save_structures(structures: Structures, path: Path) -> None:
    """Write every array; where entries are rows, the planes are the codes themselves and are left out."""
    arrays = {name: array for name, array in structures.arrays().items() if structures.starts is not None}
    sizes = [[name, array.dtype.str, list(array.shape)] for name, array in arrays.items()]
    counts = {"bits": structures.bits, "count": structures.count, "distinct": structures.distinct}
    header = json.dumps(counts | {"largest": structures.largest, "arrays": sizes}, sort_keys=True).encode()
    with path.open("wb") as stream:
        stream.write(len(header).to_bytes(8, "little") + header)
        for array in arrays.values():
            stream.write(bytes(-stream.tell() % ALIGNMENT))
            stream.write(np.ascontiguousarray(array).data)


def load_structures(path: Path, codes: NDArray[np.uint8]) -> Structures:
    """Map the structures of these (N, bits / 8) codes; every number in them is checked to lie where it points.

    Raises:
        IndexCorrupt: not the structures of so many codes of that length.
    """
    bits = codes.shape[1] * 8
    try:
        content = np.asarray(np.memmap(path, dtype=np.uint8, mode="r"))
        size = int.from_bytes(content[:8].tobytes(), "little")
        if size > MAX_HEADER:
            raise ValueError(f"a header of {size} bytes")
        header = json.loads(content[8 : 8 + size].tobytes())
        arrays, position = {}, 8 + size
        for name, kind, shape in header["arrays"]:
            position += -position % ALIGNMENT
            end = position + int(np.prod(shape)) * np.dtype(kind).itemsize
            arrays[name] = content[position:end].view(kind).reshape(shape)
            position = end
        if not arrays:
            arrays["planes"] = planes_of(codes)
        found = Structures.from_arrays(
            bits, len(codes), arrays, distinct=int(header["distinct"]), largest=int(header["largest"])
        )
        if (header["bits"], header["count"]) != (bits, len(codes)) or not found.is_sound():
            raise ValueError("it belongs to other codes")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise IndexCorrupt(
            f"{path} holds no search structures of {len(codes):,} codes of {bits} bits: {error}; restore it or rebuild"
        ) from error
    return found

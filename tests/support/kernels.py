"""The compiled kernel for tests; they need it, so where it is missing they say how to get it."""

import numpy as np
from numpy.typing import NDArray

from index.kernel.library import Level, Library, load
from index.search.kernel_engine import KernelEngine


def compiled() -> Library:
    library = load()
    assert library is not None, "no compiled kernel: run python setup.py build_ext --inplace"
    return library


def kernel(codes: NDArray[np.uint8], level: Level | None = None) -> KernelEngine:
    return KernelEngine(compiled(), codes, level=level)

"""Search engines behind one protocol."""

import numpy as np
from numpy.typing import NDArray

from index.errors import InvalidQuery
from index.search.numpy_engine import NumpyEngine
from index.search.protocol import Hits, SearchEngine

__all__ = ["ENGINES", "Hits", "NumpyEngine", "SearchEngine", "check_engine", "kernel_level", "open_engine"]

ENGINES = ("auto", "kernel", "faiss", "numpy")
SMALL = 4096  # codes: below, a scan in numpy is quicker than what grouping them costs


def check_engine(name: str) -> str:
    """Return the name if there is an engine of that name here.

    Raises:
        InvalidQuery: there is none.
    """
    if name not in ENGINES:
        raise InvalidQuery(f"expected an engine named one of {', '.join(ENGINES)}, found {name!r}")
    if name == "kernel" and kernel_level() is None:
        raise InvalidQuery("the engine 'kernel' was not compiled; reinstall crossbit with a C compiler, or take 'auto'")
    return name


def kernel_level() -> str | None:
    """The instructions that the compiled kernel uses on this machine, none where it was not compiled."""
    from index.kernel.library import load

    library = load()
    return None if library is None else library.best_level.name.lower()


def open_engine(codes: NDArray[np.uint8], name: str = "auto") -> SearchEngine:
    """Build an engine over (N, bits / 8) codes, which must not change while it lives.

    ``auto`` takes the compiled kernel, faiss where there is none, and numpy for few codes.

    Raises:
        InvalidQuery: no engine of that name.
    """
    check_engine(name)
    if name == "numpy" or (name == "auto" and len(codes) < SMALL):
        return NumpyEngine(codes)
    if name != "faiss":
        from index.kernel.library import load
        from index.search.kernel_engine import KernelEngine
        from index.search.structures import fits

        library = load()
        if library is not None and (name == "kernel" or fits(codes.shape[1] * 8, len(codes))):
            return KernelEngine(library, codes)
    from index.search.faiss_engine import FaissEngine  # takes as long to import as all the rest together

    return FaissEngine(codes)

"""Search engines behind one protocol."""

import numpy as np
from numpy.typing import NDArray

from index.errors import InvalidQuery
from index.search.numpy_engine import NumpyEngine
from index.search.protocol import Hits, SearchEngine

__all__ = ["ENGINES", "Hits", "NumpyEngine", "SearchEngine", "check_engine", "open_engine"]

ENGINES = ("auto", "numpy", "faiss")
SMALL = 4096  # codes: below, a scan in numpy is quicker than what importing and building faiss costs


def check_engine(name: str) -> str:
    """Return the name if there is an engine of that name.

    Raises:
        InvalidQuery: there is none.
    """
    if name not in ENGINES:
        raise InvalidQuery(f"expected an engine named one of {', '.join(ENGINES)}, found {name!r}")
    return name


def open_engine(codes: NDArray[np.uint8], name: str = "auto") -> SearchEngine:
    """Build an engine over (N, bits / 8) codes, which must not change while it lives.

    Raises:
        InvalidQuery: no engine of that name.
    """
    check_engine(name)
    if name == "numpy" or (name == "auto" and len(codes) < SMALL):
        return NumpyEngine(codes)
    from index.search.faiss_engine import FaissEngine  # takes as long to import as all the rest together

    return FaissEngine(codes)

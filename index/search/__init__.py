"""Search engines behind one protocol."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from index.errors import InvalidQuery
from index.search.numpy_engine import NumpyEngine
from index.search.protocol import Hits, SearchEngine

if TYPE_CHECKING:
    from index.search.structures import Structures

__all__ = ["ENGINES", "Hits", "NumpyEngine", "SearchEngine", "check_engine", "kernel_level", "open_engine", "prepared"]

ENGINES = ("auto", "kernel", "faiss", "numpy")
SMALL = 4096  # codes: below, grouping them takes no time worth storing, and numpy is quicker than faiss's grouping


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


def prepared(codes: NDArray[np.uint8]) -> "Structures | None":
    """What the compiled kernel searches, made now to be stored beside the codes; none where nothing is gained."""
    if len(codes) < SMALL:
        return None
    from index.kernel.library import load
    from index.search.structures import fits, prepare

    library = load()
    return prepare(library, codes) if library is not None and fits(codes.shape[1] * 8, len(codes)) else None


def open_engine(codes: NDArray[np.uint8], name: str = "auto", *, stored: Path | None = None) -> SearchEngine:
    """Build an engine over (N, bits / 8) codes, which must not change while it lives.

    ``auto`` takes the compiled kernel; where there is none, faiss, and numpy for few codes. The kernel sorts the codes
    unless ``stored`` is the file that ``save_structures`` wrote of them.

    Raises:
        InvalidQuery: no engine of that name.
        IndexCorrupt: the file is damaged.
    """
    check_engine(name)
    if name == "numpy":
        return NumpyEngine(codes)
    if name != "faiss":
        from index.kernel.library import load
        from index.search.kernel_engine import KernelEngine
        from index.search.structures import fits

        library = load()
        if library is not None and (name == "kernel" or fits(codes.shape[1] * 8, len(codes))):
            from index.search.stored import load_structures

            return KernelEngine(library, codes, structures=None if stored is None else load_structures(stored, codes))
    if name == "auto" and len(codes) < SMALL:
        return NumpyEngine(codes)
    from index.search.faiss_engine import FaissEngine  # takes as long to import as all the rest together

    return FaissEngine(codes)

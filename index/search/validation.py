"""What a search may ask; every engine refuses the same things in the same words."""

import numpy as np
from numpy.typing import NDArray

from index.errors import InvalidQuery


def check_queries(queries: NDArray[np.uint8], bits: int) -> None:
    """Require a (Q, bits / 8) uint8 array.

    Raises:
        InvalidQuery: another shape or type.
    """
    if queries.dtype != np.uint8 or queries.ndim != 2 or queries.shape[1] * 8 != bits:
        raise InvalidQuery(
            f"expected queries of {bits} bits as uint8 (Q, {bits // 8}), "
            f"found {queries.dtype} {queries.shape}; encode with the index's code length"
        )


def check_at_least(name: str, value: int, lowest: int) -> None:
    """Require a whole number that is not below ``lowest``.

    Raises:
        InvalidQuery: it is below.
    """
    if value < lowest:
        raise InvalidQuery(f"expected {name} of at least {lowest}, found {value}")


def check_radius(radius: int, bits: int) -> None:
    """Require a radius of 0..bits.

    Raises:
        InvalidQuery: outside.
    """
    if not 0 <= radius <= bits:
        raise InvalidQuery(f"expected a radius between 0 and {bits}, the code length, found {radius}")


def check_mask(rows: NDArray[np.bool_] | None, count: int) -> None:
    """Require a (count,) bool mask or none.

    Raises:
        InvalidQuery: another shape or type.
    """
    if rows is not None and (rows.dtype != np.bool_ or rows.shape != (count,)):
        raise InvalidQuery(f"expected a bool mask of shape ({count},), found {rows.dtype} {rows.shape}")

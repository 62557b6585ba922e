"""What pair codes were made from: the image and the text of an item, or the one of them that it has.

Codes of one item alone differ in kind from fused ones, so every pair code has its ``Presence`` beside it, in one byte.
"""

from collections.abc import Mapping
from enum import STRICT, IntFlag
from typing import Self

import numpy as np
from numpy.typing import NDArray


class Presence(IntFlag, boundary=STRICT):
    """The parts of an item that its pair codes were made from."""

    NONE = 0  # no pair code, or one of format 2, which did not say
    IMAGE = 1
    TEXT = 2
    BOTH = 3

    @classmethod
    def of(cls, *, image: bool, text: bool) -> Self:
        """The presence of an item with these parts."""
        return cls(cls.IMAGE * image + cls.TEXT * text)


def count(presence: NDArray[np.uint8]) -> NDArray[np.int64]:
    """(4,) how often each presence occurs, at its own number."""
    return np.bincount(presence, minlength=Presence.BOTH + 1)


def by_presence(counts: NDArray[np.int64]) -> Mapping[Presence, int]:
    """The counts of pair codes by what they were made from; those that do not say are left out."""
    return {presence: int(counts[presence]) for presence in (Presence.BOTH, Presence.IMAGE, Presence.TEXT)}

"""What pair codes were made from: the image and the text of an item, or the one of them that it has.

Codes of one item alone differ in kind from fused ones, so every pair code has its ``Presence`` beside it, in one byte.
"""

from dataclasses import dataclass
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

    def parts(self) -> dict[str, bool]:
        """Each part by name, and whether the codes were made from it."""
        return {"image": Presence.IMAGE in self, "text": Presence.TEXT in self}


@dataclass(frozen=True, slots=True)
class PresenceCounts:
    """Items by what their pair codes were made from."""

    image_and_text: int
    image_only: int
    text_only: int

    @classmethod
    def of(cls, counts: NDArray[np.int64]) -> Self:
        """From (4,) counts at the numbers of the presences; codes that do not say are left out."""
        return cls(int(counts[Presence.BOTH]), int(counts[Presence.IMAGE]), int(counts[Presence.TEXT]))


def count_presence(presence: NDArray[np.uint8]) -> NDArray[np.int64]:
    """(4,) how often each presence occurs, at its own number."""
    return np.bincount(presence, minlength=Presence.BOTH + 1)

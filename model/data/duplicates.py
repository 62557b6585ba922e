"""Near-duplicate pictures: equal 64-bit gradient hashes up to a few bits (dHash), confirmed by coarse colours.

Scaling, recompression and slight changes of tone keep both; mirroring and cropping do not. Nearly blank pictures, which
all look alike at this size, are near-duplicates of none.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from PIL import Image

RADIUS = 3  # bits of 64 that may differ
MAX_MEAN_CHANGE, MAX_CHANGE = 5, 32  # of 255: colours of the fields on average, and of any field
_GRID = 8  # fields a side
_MIN_CONTRAST = 32  # of 255, between two fields of a picture
_STEP = 4  # of 255; compression changes less in a plain area
_BANDS = RADIUS + 1  # hashes within the radius agree in one of them at least
_WINDOW = 256  # neighbours by brightness that are compared in a crowded band: keeps a million blank pages bounded


@dataclass(frozen=True, slots=True)
class Signature:
    """What near-duplicates share."""

    gradients: int  # 64 bits: is a field of a 9 x 8 grid clearly brighter than its left neighbour
    colours: bytes  # (8, 8, 3) uint8, mean colours


def signature(image: Image.Image) -> Signature:
    """The signature of a picture in mode RGB."""
    grey = np.asarray(image.convert("L").resize((9, 8), Image.Resampling.BOX), dtype=np.int16)
    bits = np.packbits(grey[:, 1:] > grey[:, :-1] + _STEP)
    colours = np.asarray(image.resize((_GRID, _GRID), Image.Resampling.BOX))
    return Signature(int.from_bytes(bits.tobytes(), "big"), colours.tobytes())


class Signatures:
    """Signatures of many pictures by number, 200 bytes each."""

    def __init__(self) -> None:
        self._numbers: list[int] = []
        self._gradients: list[int] = []
        self._colours = bytearray()

    def add(self, number: int, one: Signature) -> None:
        """Note the signature of a picture."""
        if max(one.colours) - min(one.colours) < _MIN_CONTRAST:
            return
        self._numbers.append(number)
        self._gradients.append(one.gradients)
        self._colours += one.colours

    def near(self) -> Iterator[tuple[int, int]]:
        """Pairs of numbers of near-duplicates, some of them more than once; of equal pictures, neighbours suffice."""
        numbers = np.array(self._numbers, dtype=np.int64)
        gradients = np.array(self._gradients, dtype=np.uint64)
        colours = np.frombuffer(self._colours, dtype=np.uint8).reshape(len(numbers), _GRID * _GRID * 3)
        brightness = colours.mean(axis=1)
        for band in range(_BANDS):
            keys = (gradients >> np.uint64(band * 64 // _BANDS)) & np.uint64(2 ** (64 // _BANDS) - 1)
            order = np.lexsort((brightness, keys))
            for offset in range(1, _WINDOW + 1):
                left, right = order[:-offset], order[offset:]
                close = keys[left] == keys[right]
                close &= brightness[right] - brightness[left] <= MAX_MEAN_CHANGE
                if not close.any():
                    break
                left, right = left[close], right[close]
                near = np.bitwise_count(gradients[left] ^ gradients[right]) <= RADIUS
                left, right = left[near], right[near]
                change = np.abs(colours[left].astype(np.int16) - colours[right])
                near = (change.mean(axis=1) <= MAX_MEAN_CHANGE) & (change.max(axis=1, initial=0) <= MAX_CHANGE)
                yield from zip(numbers[left[near]].tolist(), numbers[right[near]].tolist(), strict=True)

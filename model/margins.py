"""The margin rule: where two ways of encoding may differ, and where a difference is a fault.

On one machine and device kind codes are equal bit by bit. On another device or instruction set sums are rounded
otherwise, so a bit may flip whose logit is all but zero: below ``MARGIN_RULE`` of the head's mean margin flips are
counted, above it they are faults.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model.hasher import EncodedBatch

MARGIN_RULE = 1e-3  # of the mean margin


def near_zero_bits(batch: EncodedBatch) -> NDArray[np.int64]:
    """Bits of each code, (B,), that another machine might set otherwise: below the rule by their code's own mean."""
    means = batch.margins.mean(axis=1, keepdims=True)
    count: NDArray[np.int64] = (batch.margins < MARGIN_RULE * means).sum(axis=1)
    return count


@dataclass(frozen=True, slots=True)
class Flips:
    """How the codes of some inputs differ from the reference codes of the same inputs."""

    bits: int  # compared
    below: int  # flipped bits whose margin is below the rule's: rounding
    above: int  # flipped bits whose margin is not: another function

    @property
    def per_million(self) -> float:
        """Flipped bits of any margin."""
        return 1e6 * (self.below + self.above) / max(1, self.bits)


def count_flips(reference: EncodedBatch, codes: NDArray[np.uint8]) -> Flips:
    """Compare (B, bits / 8) codes with the reference codes of the same inputs, one head's; B is at least 1."""
    flipped = np.unpackbits(reference.codes ^ codes, axis=1, bitorder="little") == 1  # (B, bits)
    rounding = reference.margins < MARGIN_RULE * reference.margins.mean()
    return Flips(flipped.size, int((flipped & rounding).sum()), int((flipped & ~rounding).sum()))

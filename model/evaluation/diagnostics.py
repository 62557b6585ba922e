"""How well codes use their bits. Labels play no part here; ``leak.py`` looks at those."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from index.codes import unpack

BLOCK = 16_384  # codes unpacked at a time
MARGIN_BINS = 40
MARGIN_RANGE = 4.0  # times the mean margin; the last bin holds everything beyond


@dataclass(frozen=True, slots=True)
class Diagnostics:
    """Of the codes of one modality."""

    bits: int
    codes: int
    balance: NDArray[np.float64]  # (bits,) share of ones; 0.5 is best
    correlation: NDArray[np.float64]  # (bits, bits) Pearson; zero beside the diagonal is best, dead bits have zeros
    effective_bits: float  # independent balanced bits with the same spread: tr(C)^2 / |C|^2 of the covariance C
    distinct: int
    buckets: dict[int, int]  # bucket size -> buckets of that size, ascending
    margins: NDArray[np.int64] | None  # (MARGIN_BINS,) over 0..MARGIN_RANGE mean margins; None without margins

    @property
    def dead(self) -> list[int]:
        """Bits that are the same in every code."""
        return [int(bit) for bit in np.flatnonzero((self.balance == 0) | (self.balance == 1))]

    @property
    def distinct_ratio(self) -> float:
        """Distinct codes per code; 1 is best, and impossible beyond 2^bits items."""
        return self.distinct / max(self.codes, 1)

    @property
    def collision_rate(self) -> float:
        """Probability that two different items have the same code."""
        same = sum(count * size * (size - 1) for size, count in self.buckets.items())
        return same / max(self.codes * (self.codes - 1), 1)

    @property
    def off_diagonal(self) -> NDArray[np.float64]:
        """(bits (bits - 1) / 2,) absolute correlations of different bits."""
        above: NDArray[np.float64] = np.abs(self.correlation[np.triu_indices(self.bits, 1)])
        return above

    def as_json(self) -> dict[str, Any]:
        """Plain values; the correlation matrix as its mean and largest absolute entry."""
        return {
            "codes": self.codes,
            "balance": [round(float(share), 6) for share in self.balance],
            "dead_bits": self.dead,
            "correlation_mean": float(self.off_diagonal.mean()),
            "correlation_max": float(self.off_diagonal.max()),
            "effective_bits": self.effective_bits,
            "distinct": self.distinct,
            "distinct_ratio": self.distinct_ratio,
            "collision_rate": self.collision_rate,
            "buckets": {str(size): count for size, count in self.buckets.items()},
            "margins": None if self.margins is None else self.margins.tolist(),
        }


@dataclass(frozen=True, slots=True)
class PairAgreement:
    """Image code against text code of the same item."""

    agreement: float  # mean share of equal bits
    shuffled: float  # the same over all pairings of any image with any text: what chance gives
    identical: float  # share of items whose two codes are equal


def diagnose(codes: NDArray[np.uint8], margins: NDArray[np.float32] | None = None) -> Diagnostics:
    """Diagnostics of (N, bits / 8) packed codes with (N, bits) margins; N at least 1."""
    bits = 8 * codes.shape[1]
    ones, together = _counts(codes, bits)
    share = ones / len(codes)
    covariance = together / len(codes) - np.outer(share, share)  # of {0, 1}; a quarter of that of {-1, +1}
    spread = np.sqrt(np.diag(covariance))
    scale = np.outer(spread, spread)
    _, sizes = np.unique(codes, axis=0, return_counts=True)
    bucket_sizes, buckets = np.unique(sizes, return_counts=True)
    energy = float(np.square(covariance).sum())
    return Diagnostics(
        bits=bits,
        codes=len(codes),
        balance=share,
        correlation=np.divide(covariance, scale, out=np.zeros_like(covariance), where=scale > 0),
        effective_bits=float(np.trace(covariance)) ** 2 / energy if energy > 0 else 0.0,
        distinct=len(sizes),
        buckets={int(size): int(count) for size, count in zip(bucket_sizes, buckets, strict=True)},
        margins=None if margins is None else _margin_histogram(margins),
    )


def pair_agreement(images: NDArray[np.uint8], texts: NDArray[np.uint8]) -> PairAgreement:
    """Agreement of (N, bits / 8) packed image codes with the text codes of the same items; N at least 1."""
    bits = 8 * images.shape[1]
    distance = np.bitwise_count(images ^ texts).sum(1, dtype=np.int64)
    image, text = (_counts(codes, bits)[0] / len(codes) for codes in (images, texts))
    return PairAgreement(
        agreement=1 - float(distance.mean()) / bits,
        shuffled=float((image * text + (1 - image) * (1 - text)).mean()),
        identical=float((distance == 0).mean()),
    )


def _counts(codes: NDArray[np.uint8], bits: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(bits,) codes with the bit set, and (bits, bits) codes with both bits set."""
    ones, together = np.zeros(bits), np.zeros((bits, bits))
    for start in range(0, len(codes), BLOCK):
        block = unpack(codes[start : start + BLOCK], bits).astype(np.float32)
        ones += block.sum(0)
        together += block.T @ block  # exact: counts stay below 2^24
    return ones, together


def _margin_histogram(margins: NDArray[np.float32]) -> NDArray[np.int64]:
    relative = margins / np.float32(float(margins.mean()) or 1.0)
    edges = np.linspace(0, MARGIN_RANGE, MARGIN_BINS + 1)
    counts: NDArray[np.int64] = np.histogram(np.minimum(relative, np.float32(MARGIN_RANGE)), edges)[0]
    return counts

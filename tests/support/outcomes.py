"""Outcomes of methods that nobody trained: average precisions at a level, or as they are given."""

from collections.abc import Sequence

import numpy as np

from model.evaluation.compare import Outcome, Score
from model.evaluation.difference import Difference, Estimate, differences_of, paired_bootstrap
from model.evaluation.leaderboard import Row, rows_of

QUERIES = 60
CROSSING = ("image_to_text", "text_to_image")
Precision = Sequence[float | None]


def outcome(level: float, seed: int = 0, bits: int = 64, *, noise: float = 0.05) -> Outcome:
    """Queries whose average precision scatters around a level."""
    precision = np.clip(np.random.default_rng(seed).normal(level, noise, QUERIES), 0, 1)
    scores = [
        Score("lone", direction, level, level / 2, precision.tolist(), (precision / 2).tolist())
        for direction in CROSSING
    ]
    return Outcome(bits, seed, train_s=10.0 + seed, encode_per_s=20.0, scores=scores)


def measured(values: Precision, seed: int = 0, bits: int = 64, *, back: Precision | None = None) -> Outcome:
    """Queries of known average precision over either database; ``back`` from text to image, the same if left out."""
    sides = zip(CROSSING, (values, values if back is None else back), strict=True)
    scores = [Score("lone", direction, 0.5, 0.5, list(side), list(side)) for direction, side in sides]
    return Outcome(bits, seed, train_s=1.0, encode_per_s=1.0, scores=scores)


def estimate(one: Sequence[Outcome], other: Sequence[Outcome], database: str = "all") -> Estimate:
    found = paired_bootstrap(one, other, database)
    assert found is not None
    return found


def level_at(level: float) -> list[Outcome]:
    return [outcome(level, seed, bits) for seed in range(3) for bits in (16, 64)]


def differences(*levels: tuple[str, float]) -> list[Difference]:
    """Of methods at these levels, against ``baseline`` at 0.5."""
    outcomes = {"baseline": level_at(0.5), **{method: level_at(level) for method, level in levels}}
    return differences_of("openclipart", "title", "baseline", outcomes)


def board(method: str = "baseline", level: float = 0.6, data: str = "openclipart") -> list[Row]:
    return rows_of(data, "title", method, [outcome(level, seed) for seed in range(3)])

"""How far a method is from a reference: their difference in mAP, and its interval over resampled queries.

``differences.json`` is a list of ``Difference``, beside the rows of ``leaderboard.json``.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import product

import numpy as np
from numpy.typing import NDArray

from model.evaluation.compare import Outcome, Score
from model.evaluation.leaderboard import Outcomes
from model.evaluation.results import CROSS_MODAL

DIFFERENCES = "differences.json"
REFERENCE = "baseline"
RESAMPLINGS = 10_000
ENDS = (0.025, 0.975)  # of the 95 % interval
HELD = 1_000_000  # resampled values in memory at a time
Precisions = Mapping[tuple[int, int], NDArray[np.float64]]  # (seed, bits) -> (directions, queries)


@dataclass(frozen=True, slots=True)
class Side:
    """Which of a method's figures are looked at."""

    protocol: str
    directions: tuple[str, ...]


LONE = Side("lone", CROSS_MODAL)
MASKS = tuple(Side("paired", (direction,)) for direction in ("pair_to_pair", "image_to_pair", "text_to_pair"))
PARTIAL = (  # queries of one side: against fused codes, and against what a method without such codes has there
    (MASKS[1], Side("lone", ("image_to_text",))),
    (MASKS[2], Side("lone", ("text_to_image",))),
)
CONTESTS = ((LONE, LONE), *((side, side) for side in MASKS), *PARTIAL)  # each mask alone, never a mean of two


@dataclass(frozen=True, slots=True)
class Estimate:
    """Of one method's mAP minus the other's, as a share of 1, for these trainings and this split."""

    mean: float
    lower: float
    upper: float
    by_seed: list[float]  # the same mean for each seed that both were trained with, ascending
    seeds: int
    queries: int
    bits: list[int]
    by_length: dict[str, list[float]] = field(default_factory=dict)  # bits -> mean, lower and upper of it alone


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference(Estimate):
    """What a method has more than the reference over one database; each has a protocol and directions."""

    data: str
    captions: str
    protocol: str
    directions: list[str]
    method: str
    reference: str
    reference_protocol: str
    reference_directions: list[str]
    database: str  # all, or unseen

    @property
    def key(self) -> tuple[str, ...]:
        """What a later difference with the same values replaces."""
        sides = self.contest, self.method, self.reference, self.database
        return (self.data, self.captions, self.protocol, *sides)

    @property
    def contest(self) -> str:
        """What was compared: the directions, and those of the reference where they are others."""
        own, other = (" and ".join(sides) for sides in (self.directions, self.reference_directions))
        return own if own == other else f"{own} against {self.reference_protocol} {other}"

    @property
    def verdict(self) -> str:
        """On which side of 0 the whole interval lies, if on one."""
        if self.lower > 0:
            return "better"
        return "worse" if self.upper < 0 else "no difference shown"


def differences_of(data: str, captions: str, reference: str, outcomes: Outcomes) -> list[Difference]:
    """Of every method that can be compared with the reference, in each contest, over the whole and the unseen database.

    A contest is held where both were measured in it: those of pairs among methods that fuse.
    """
    found = []
    methods = [name for name in outcomes if name != reference]
    for (one, other), method, database in product(CONTESTS, methods, ("all", "unseen")):
        estimate = paired_bootstrap(outcomes[method], outcomes[reference], database, one, other)
        if estimate is not None:
            found.append(
                Difference(
                    data=data,
                    captions=captions,
                    protocol=one.protocol,
                    directions=list(one.directions),
                    method=method,
                    reference=reference,
                    reference_protocol=other.protocol,
                    reference_directions=list(other.directions),
                    database=database,
                    **asdict(estimate),
                )
            )
    return found


def paired_bootstrap(
    one: Sequence[Outcome], other: Sequence[Outcome], database: str, side: Side = LONE, other_side: Side = LONE
) -> Estimate | None:
    """``one`` minus ``other``: percentile bootstrap over queries, each of which keeps its values of both.

    A query's value is the difference of expected average precision, mean of seeds, directions and lengths; a query
    without a relevant item in a direction has no value there. Used are the lengths that both were measured at, and the
    seeds that both have at all of them. None where nothing is left, or where the queries were not the same.
    """
    first, second = _precisions(one, database, side), _precisions(other, database, other_side)
    bits = sorted({length for _, length in first} & {length for _, length in second})
    seeds = [
        seed for seed in sorted({seed for seed, _ in first}) if _has(first, seed, bits) and _has(second, seed, bits)
    ]
    pairs = [(first[pair], second[pair]) for pair in product(seeds, bits)]
    if not pairs or len({side.shape for pair in pairs for side in pair}) > 1:
        return None
    apart = np.array([left - right for left, right in pairs]).reshape(len(seeds), len(bits) * len(side.directions), -1)
    values = _by_query(apart)
    if not len(values):
        return None
    by_seed = [_rounded(_by_query(apart[[place]]).mean()) for place in range(len(seeds))]
    of_lengths = np.split(apart, len(bits), axis=1)
    by_length = {str(length): _interval(_by_query(part)) for length, part in zip(bits, of_lengths, strict=True)}
    mean, lower, upper = _interval(values)
    return Estimate(mean, lower, upper, by_seed, len(seeds), len(values), bits, by_length)


def _interval(values: NDArray[np.float64]) -> list[float]:
    """Mean of the queries, and the ends of its interval."""
    lower, upper = np.quantile(np.concatenate(list(_resampled(values))), ENDS)
    return [_rounded(values.mean()), _rounded(lower), _rounded(upper)]


def _precisions(outcomes: Sequence[Outcome], database: str, side: Side) -> Precisions:
    """Of the outcomes that have every one of the directions."""
    found = {}
    for one in outcomes:
        scores = {score.direction: _listed(score, database) for score in one.scores if score.protocol == side.protocol}
        listed = [scores.get(direction) for direction in side.directions]
        if None not in listed:
            found[one.seed, one.bits] = np.array(listed, dtype=np.float64)
    return found


def _listed(score: Score, database: str) -> list[float | None] | None:
    return score.average_precision if database == "all" else score.unseen_average_precision


def _has(found: Precisions, seed: int, bits: Sequence[int]) -> bool:
    return all((seed, length) in found for length in bits)


def _by_query(apart: NDArray[np.float64]) -> NDArray[np.float64]:
    """(seeds, lengths and directions, queries) -> the mean of each query that has a value anywhere."""
    answered = ~np.isnan(apart).all(axis=(0, 1))
    mean: NDArray[np.float64] = np.nanmean(apart[:, :, answered], axis=(0, 1))
    return mean


def _resampled(values: NDArray[np.float64]) -> Iterator[NDArray[np.float64]]:
    """Means of as many queries drawn with replacement, some draws at a time; the same draws for every method."""
    generator = np.random.default_rng(0)
    step = max(1, HELD // len(values))
    for start in range(0, RESAMPLINGS, step):
        size = (min(step, RESAMPLINGS - start), len(values))
        yield values[generator.integers(len(values), size=size)].mean(1)


def _rounded(value: np.floating) -> float:
    """To the digits that outcomes are stored with, without a negative zero."""
    return round(float(value), 6) + 0.0

"""The leaderboard: rows over seeds, merged with those of earlier comparisons, and whether neighbours differ.

``leaderboard.json`` is a list of rows; ``leaderboard.html``, ``leaderboard.svg`` and ``time.svg`` show the same rows.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from model.durable import replacing
from model.errors import ArchiveError
from model.evaluation.compare import Outcome
from model.evaluation.results import CROSS_MODAL

FILE = "leaderboard.json"
CONTROL = "label-only"  # sees the labels: shown, never ranked
HEADLINE_BITS = 64
DRAWS = 10_000  # sign flips of the randomisation test
Outcomes = Mapping[str, Sequence[Outcome]]  # method -> its outcomes at every length and seed


class Keyed(Protocol):
    """A dataclass that a file beside the leaderboard lists, one for each key."""

    @property
    def seeds(self) -> int:
        """How many trainings it is a mean of."""

    __dataclass_fields__: ClassVar[dict[str, Any]]  # Any: as typeshed has it

    @property
    def key(self) -> tuple[str | int, ...]:
        """What a later one with the same values replaces."""


Listed = TypeVar("Listed", bound=Keyed)


@dataclass(frozen=True, slots=True)
class Row:
    """One figure of one method."""

    data: str
    captions: str
    method: str
    competes: bool
    protocol: str
    database: str  # all, or unseen
    direction: str
    bits: int
    seeds: int
    map_expected_mean: float
    map_expected_std: float | None  # of a sample; None for one seed
    train_s: float  # mean over seeds, from cached features
    encode_per_s: float  # mean over seeds
    trials: int | None = None  # settings tried on validation queries for the recipe; None where nobody counted them

    @property
    def key(self) -> tuple[str, str, str, str, str, str, int]:
        """What a later row with the same values replaces."""
        return (self.data, self.captions, self.protocol, self.method, self.direction, self.database, self.bits)


def rows_of(data: str, captions: str, method: str, outcomes: Sequence[Outcome]) -> list[Row]:
    """Rows of one method from its outcomes at every length and seed."""
    groups: dict[tuple[int, str, str], list[tuple[Outcome, float, float | None]]] = {}
    for one in outcomes:
        for score in one.scores:
            key = (one.bits, score.protocol, score.direction)
            groups.setdefault(key, []).append((one, score.whole, score.unseen))
    rows = []
    for (bits, protocol, direction), members in groups.items():
        sides: dict[str, list[float | None]] = {
            "all": [whole for _, whole, _ in members],
            "unseen": [unseen for _, _, unseen in members],
        }
        for database, found in sides.items():
            values = [value for value in found if value is not None]
            if values:
                rows.append(
                    Row(
                        data=data,
                        captions=captions,
                        method=method,
                        competes=method != CONTROL,
                        protocol=protocol,
                        database=database,
                        direction=direction,
                        bits=bits,
                        seeds=len(values),
                        map_expected_mean=round(float(np.mean(values)), 6),
                        map_expected_std=round(float(np.std(values, ddof=1)), 6) if len(values) > 1 else None,
                        train_s=round(float(np.mean([one.train_s for one, _, _ in members])), 3),
                        encode_per_s=round(float(np.mean([one.encode_per_s for one, _, _ in members])), 1),
                    )
                )
    return rows


def merge(old: Sequence[Listed], new: Sequence[Listed]) -> list[Listed]:
    """All rows in the order of their keys; where both have one, the new row, unless the old one is of more seeds."""
    rows = {row.key: row for row in old}
    for row in new:
        if row.key not in rows or row.seeds >= rows[row.key].seeds:
            rows[row.key] = row
    return [rows[key] for key in sorted(rows)]


def counted(row: Row, trials: Callable[[str], int | None]) -> Row:
    """The row with the trials of its method, where an earlier file had not counted them; the control has none."""
    if row.trials is not None:
        return row
    return replace(row, trials=trials(row.method) if row.competes else 0)


def read_rows(path: Path, kind: type[Listed]) -> list[Listed]:
    """The rows of ``leaderboard.json``, or of a file beside it; none where there is no such file.

    Raises:
        ArchiveError: the file does not hold such rows.
    """
    try:
        return [kind(**row) for row in json.loads(path.read_text(encoding="utf-8"))]
    except FileNotFoundError:
        return []
    except (ValueError, TypeError) as error:
        raise ArchiveError(
            f"{path} is not a leaderboard's file: {error}; its rows would be lost, so move it away or give "
            "another --out"
        ) from error


def write_rows(path: Path, rows: Sequence[Keyed]) -> None:
    """Replace ``leaderboard.json``, or a file beside it, in one step."""
    with replacing(path) as temporary:
        text = json.dumps([asdict(row) for row in rows], indent=1, sort_keys=True)
        temporary.write_text(text + "\n", encoding="utf-8")


def ranked(rows: Sequence[Row], bits: int) -> list[str]:
    """Competing methods by falling lone mAP over the whole database: mean of both cross-modal directions at a length.

    A method without figures of this length comes last.
    """

    def level(method: str) -> float:
        found = [row.map_expected_mean for row in rows if row.method == method and _ranks(row, bits)]
        return float(np.mean(found)) if found else -1.0

    return sorted({row.method for row in rows if row.competes}, key=lambda method: (-level(method), method))


def neighbours(rows: Sequence[Row], outcomes: Outcomes) -> dict[tuple[str, str], float]:
    """(method, the one ranked below it) -> p of their difference, for methods that were measured on the same queries.

    ``rows`` are of one data set and caption variant.
    """
    bits = headline_bits([row.bits for row in rows])
    order = ranked(rows, bits)
    found = {}
    for one, other in pairwise(order):
        value = p_value(outcomes.get(one, ()), outcomes.get(other, ()), bits)
        if value is not None:
            found[one, other] = value
    return found


def headline_bits(lengths: Sequence[int]) -> int:
    """The length that ranks: 64 where there is one, the longest otherwise."""
    return HEADLINE_BITS if HEADLINE_BITS in lengths else max(lengths)


def p_value(one: Sequence[Outcome], other: Sequence[Outcome], bits: int) -> float | None:
    """Two-sided paired randomisation test: could the sign of each query's difference as well be a coin's?

    A query's value is its expected average precision over the whole database, mean of seeds and cross-modal
    directions. None where the two were not measured on the same queries.
    """
    first, second = (_per_query(outcomes, bits) for outcomes in (one, other))
    if first is None or second is None or first.shape != second.shape:
        return None
    difference = (first - second)[~np.isnan(first - second)]
    if not len(difference):
        return None
    signs = np.random.default_rng(0).integers(2, size=(DRAWS, len(difference)), dtype=np.int8) * 2 - 1
    extreme = np.abs(signs @ difference) >= abs(difference.sum()) - 1e-12
    return float(extreme.sum() + 1) / (DRAWS + 1)


def _ranks(row: Row, bits: int) -> bool:
    return row.protocol == "lone" and row.database == "all" and row.bits == bits and row.direction in CROSS_MODAL


def _per_query(outcomes: Sequence[Outcome], bits: int) -> NDArray[np.float64] | None:
    values = [
        np.array(score.average_precision, dtype=np.float64)
        for one in outcomes
        if one.bits == bits
        for score in one.scores
        if score.protocol == "lone" and score.direction in CROSS_MODAL
    ]
    if not values or len({len(value) for value in values}) > 1:
        return None
    mean: NDArray[np.float64] = np.mean(values, axis=0)
    return mean

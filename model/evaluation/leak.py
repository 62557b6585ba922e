"""The leak alarm: are the codes of unseen items so close to a code of their label set that labels must have made them?

An encoder that is told the true labels gives all items of one label set nearly one code; released codes of this field
agree with the majority code of their label set on 98 % of their bits, unseen items included. An encoder that sees
content alone stays far below that, because content seldom gives away the exact set. Agreement is measured on a scale
from what shuffled pairings of items with label sets reach (0) to every bit (1); the alarm sounds above ``ALARM_SHARE``.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from index.codes import unpack

MIN_SET = 5  # reference items that a label set needs before its majority code means something
MIN_ITEMS = 20  # unseen items of such sets, below which nothing is said
PAIRINGS = 1000
QUANTILE = 0.999  # of the shuffled pairings, where the scale starts
ALARM_SHARE = 0.9  # of the way from there to perfect agreement; docs/results.md has the measurements behind it


@dataclass(frozen=True, slots=True)
class LeakCheck:
    """Agreement of unseen codes with the majority codes of their exact label sets."""

    items: int  # unseen items that were compared
    sets: int  # label sets that have a majority code
    agreement: float  # mean share of equal bits
    shuffled: float  # mean over shuffled pairings
    threshold: float  # the alarm sounds from here

    @property
    def enough(self) -> bool:
        """Whether there were enough items to say anything."""
        return self.items >= MIN_ITEMS and self.sets > 1

    @property
    def alarm(self) -> bool:
        """Whether the codes look like a function of the labels."""
        return self.enough and self.agreement >= self.threshold

    def in_words(self, codes: str) -> str:
        """One sentence; ``codes`` says whose, such as "image codes of 64 bits"."""
        if not self.enough:
            return (
                f"Leak check of {codes}: nothing can be said; it needs {MIN_ITEMS} unseen items of two or more label "
                f"sets with {MIN_SET} known items each, found {self.items} items of {self.sets} sets."
            )
        verdict = "LEAK ALARM" if self.alarm else "No leak alarm"
        meaning = "labels seem to have reached the encoder" if self.alarm else "labels alone do not explain these codes"
        return (
            f"{verdict} for {codes}: {self.items} unseen items agree with the majority code of their label set on "
            f"{self.agreement:.1%} of the bits; shuffled pairings reach {self.shuffled:.1%}, the alarm sounds from "
            f"{self.threshold:.1%}: {meaning}."
        )

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "items": self.items,
            "sets": self.sets,
            "agreement": self.agreement,
            "shuffled": self.shuffled,
            "threshold": self.threshold,
            "enough": self.enough,
            "alarm": self.alarm,
        }


def check_leak(
    known: NDArray[np.uint8],
    known_labels: NDArray[np.integer | np.bool_],
    unseen: NDArray[np.uint8],
    unseen_labels: NDArray[np.integer | np.bool_],
    seed: int = 0,
) -> LeakCheck:
    """Compare (M, bits / 8) unseen codes with majorities of (N, bits / 8) known ones; labels are (N or M, C) multi-hot.

    Items without a label, and sets with fewer than ``MIN_SET`` known items, are left out. ``seed`` draws the pairings.
    """
    bits = 8 * known.shape[1]
    keys, majorities = _majority_codes(known, known_labels > 0, bits)
    rows = [(row, keys[key]) for row, key in enumerate(_keys(unseen_labels > 0)) if key in keys]
    if not rows:
        return LeakCheck(0, len(keys), 0.0, 0.0, 1.0)
    items, sets = np.array(rows).T
    distance = np.bitwise_count(unseen[items][:, np.newaxis] ^ majorities).sum(2, dtype=np.int64)  # (items, sets)
    own = np.arange(len(items))
    generator = np.random.default_rng(seed)
    pairings = np.array([distance[own, generator.permutation(sets)].mean() for _ in range(PAIRINGS)])
    shuffled = 1 - pairings / bits
    start = float(np.quantile(shuffled, QUANTILE))
    return LeakCheck(
        items=len(items),
        sets=len(keys),
        agreement=1 - float(distance[own, sets].mean()) / bits,
        shuffled=float(shuffled.mean()),
        threshold=start + ALARM_SHARE * (1 - start),
    )


def _majority_codes(
    codes: NDArray[np.uint8], labels: NDArray[np.bool_], bits: int
) -> tuple[dict[bytes, int], NDArray[np.uint8]]:
    """Position of each large enough label set, and its packed majority code; an even vote gives 0."""
    rows_of: dict[bytes, list[int]] = {}
    for row, key in enumerate(_keys(labels)):
        rows_of.setdefault(key, []).append(row)
    empty = np.packbits(np.zeros(labels.shape[1], dtype=np.bool_)).tobytes()
    large = {key: rows for key, rows in rows_of.items() if len(rows) >= MIN_SET and key != empty}
    majorities = [
        np.packbits(unpack(codes[rows], bits).mean(0) > 0.5, bitorder="little") for rows in large.values()
    ] or [np.empty(0, dtype=np.uint8)]
    return {key: position for position, key in enumerate(large)}, np.stack(majorities)


def _keys(labels: NDArray[np.bool_]) -> list[bytes]:
    """What names each row's exact label set."""
    return [row.tobytes() for row in np.packbits(labels, axis=1)]

"""Codes to measure searches on: synthetic ones of three kinds, or those of a file."""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import numpy as np
import typer
from numpy.typing import NDArray

QUERIES = 1000
CHUNK = 200_000  # codes drawn at a time; part of the law, as it orders the draws
LABELS, ZIPF, RANK = 80, 0.8, 8
LABELS_OF_ITEM = ((1, 2, 3, 4), (0.4, 0.35, 0.17, 0.08))  # how many labels an item has, and how often


class Kind(StrEnum):
    """How codes are drawn."""

    RANDOM = "random"  # every bit a fair coin
    LEARNED = "learned"  # as a trained hash gives: many repeat
    COLLAPSED = "collapsed"  # as a badly trained one gives: most repeat
    FILE = "file"  # read, not drawn


NOISE = {Kind.LEARNED: (0.2, 0.03), Kind.COLLAPSED: (0.05, 0.0)}  # shared by the bits of an item, and of each bit


@dataclass(frozen=True, slots=True)
class Codes:
    """A database and queries of the same law."""

    kind: Kind
    database: NDArray[np.uint8]  # (N, bits / 8)
    queries: NDArray[np.uint8]  # (Q, bits / 8)

    @property
    def bits(self) -> int:
        """Code length."""
        return int(self.database.shape[1]) * 8


def draw_codes(kind: Kind, n: int, bits: int, seed: int) -> Codes:
    """``n`` codes and 1,000 queries.

    The latent of a learned item is the mean of the vectors of its 1 to 4 labels (of 80, by Zipf's law), plus noise of
    rank 8 that all bits share, plus noise of each bit; a bit is its sign.
    """
    if kind is Kind.RANDOM:
        parts = ((n, seed + 1), (QUERIES, seed + 2))
        database, queries = (
            np.random.default_rng(s).integers(0, 256, (count, bits // 8), dtype=np.uint8) for count, s in parts
        )
        return Codes(kind, database, queries)
    shared, own = NOISE[kind]
    generator = np.random.default_rng(seed)
    labels = generator.standard_normal((LABELS, bits)).astype(np.float32)
    nuisance = generator.standard_normal((RANK, bits)).astype(np.float32) / np.sqrt(RANK)
    weights = 1 / np.arange(1, LABELS + 1) ** ZIPF
    reached = np.cumsum(weights / weights.sum())
    codes = np.empty((n + QUERIES, bits // 8), dtype=np.uint8)
    for start in range(0, len(codes), CHUNK):
        count = min(CHUNK, len(codes) - start)
        number = generator.choice(LABELS_OF_ITEM[0], size=count, p=LABELS_OF_ITEM[1])
        latent = np.zeros((count, bits), dtype=np.float32)
        for place in range(max(LABELS_OF_ITEM[0])):
            label = np.minimum(np.searchsorted(reached, generator.random(count)), LABELS - 1)
            latent += np.where((place < number)[:, np.newaxis], labels[label], 0)
        latent /= np.sqrt(number)[:, np.newaxis]
        latent += (shared * generator.standard_normal((count, RANK), dtype=np.float32)) @ nuisance
        latent += own * generator.standard_normal((count, bits), dtype=np.float32)
        codes[start : start + count] = np.packbits(latent > 0, axis=1, bitorder="little")
    return Codes(kind, codes[QUERIES:], codes[:QUERIES])


def read_codes(path: Path) -> Codes:
    """The ``codes`` and, where given, the ``queries`` of an .npz file; without queries, stored codes ask.

    Raises:
        typer.BadParameter: not such a file.
    """
    try:
        with np.load(path, allow_pickle=False) as stored:
            database = stored["codes"]
            queries = stored["queries"] if "queries" in stored else database[:: max(1, len(database) // QUERIES)]
    except (OSError, ValueError, KeyError, EOFError) as error:
        raise typer.BadParameter(f"expected an .npz file with the array codes, found {path}: {error}") from error
    for name, array in (("codes", database), ("queries", queries)):
        if array.dtype != np.uint8 or array.ndim != 2 or not len(array) or array.shape[1:] != database.shape[1:]:
            raise typer.BadParameter(
                f"expected {name} as uint8 (N, bits / 8) of one code length, found {array.dtype} {array.shape}: {path}"
            )
    return Codes(Kind.FILE, np.ascontiguousarray(database), np.ascontiguousarray(queries[:QUERIES]))

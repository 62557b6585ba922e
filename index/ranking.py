"""Ranks, tie groups and cursors: how one page of the total order (distance, row) is told."""

import base64
import binascii
import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from index.errors import CursorExpired, InvalidCursor
from index.filters import Filter
from index.search.protocol import Hits

MAX_CURSOR = 1024


@dataclass(frozen=True, slots=True)
class TieGroup:
    """All entries at one distance from the query, whether or not they are on the page; ranks count from 1."""

    first_rank: int
    last_rank: int
    size: int


@dataclass(frozen=True, slots=True)
class RankedHit:
    """One entry of an answer; ``rank`` is its position in the total order, from 1."""

    row: int
    distance: int
    rank: int
    tie: TieGroup


def page(hits: Hits, query: int, *, offset: int = 0) -> list[RankedHit]:
    """The hits of one query from position ``offset`` on."""
    first, last = int(hits.offsets[query]) + offset, int(hits.offsets[query + 1])
    reached = np.cumsum(hits.histogram[query]).tolist()
    sizes = hits.histogram[query].tolist()
    ties: dict[int, TieGroup] = {}
    ranked = []
    pairs = zip(hits.rows[first:last].tolist(), hits.distances[first:last].tolist(), strict=True)
    for rank, (row, distance) in enumerate(pairs, start=offset + 1):
        if distance not in ties:
            size = sizes[distance]
            ties[distance] = TieGroup(reached[distance] - size + 1, reached[distance], size)
        ranked.append(RankedHit(row, distance, rank, ties[distance]))
    return ranked


@dataclass(frozen=True, slots=True)
class Cursor:
    """Where the next page starts, bound to one query and one state of the index: a generation and its edits."""

    index: str
    generation: int
    position: int  # of the last edit in the log
    offset: int
    digest: str

    def encode(self) -> str:
        """URL-safe text; opaque to callers."""
        return base64.urlsafe_b64encode(json.dumps(asdict(self), sort_keys=True).encode()).decode().rstrip("=")

    @classmethod
    def decode(cls, text: str) -> Self:
        """Read what ``encode`` wrote.

        Raises:
            InvalidCursor: it did not write this.
        """
        try:
            if len(text) > MAX_CURSOR:
                raise ValueError(f"{len(text)} characters")
            raw = json.loads(base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True))
            cursor = cls(**raw)
            numbers = (cursor.generation, cursor.position, cursor.offset)
            types = [type(value) for value in (cursor.index, cursor.digest, *numbers)]
            if types != [str, str, int, int, int] or cursor.offset < 0:
                raise ValueError("its fields have other types")
        except (ValueError, TypeError, binascii.Error, RecursionError) as error:
            raise InvalidCursor(f"expected a cursor as an earlier answer gave it, found {text[:40]!r}") from error
        return cursor

    def check(self, index: str, generation: int, position: int, digest: str) -> None:
        """Require that the cursor continues this very query on this state of the index.

        Raises:
            InvalidCursor: it belongs to another index or query.
            CursorExpired: the index has moved on to another generation, or was edited.
        """
        if (self.index, self.digest) != (index, digest):
            raise InvalidCursor("expected the cursor of this query, found one of another; start at the first page")
        if (self.generation, self.position) != (generation, position):
            raise CursorExpired(
                f"expected a cursor of generation {generation} of index {index!r} after edit {position}, found "
                f"generation {self.generation} after edit {self.position}; start at the first page"
            )


def query_digest(column: str, code: NDArray[np.uint8], *, radius: int | None, filter: Filter | None) -> str:
    """What binds a cursor to its query: equal for equal column, code, radius and filter, whatever the page size."""
    parts = [column, code.tobytes().hex(), radius, None if filter is None else filter.canonical()]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]

"""What a split must know of all rows of an import at once, kept on disk so that memory does not grow with the rows.

Groups are the connected rows: those that share a key, such as a group's name or an equal image, however indirectly.
"""

import sqlite3
from array import array
from collections.abc import Iterator, Sequence
from typing import Self

import numpy as np
from numpy.typing import NDArray

from model.data.splits import seeded_digest
from model.errors import ArchiveError

_SCHEMA = """
PRAGMA journal_mode = OFF;
PRAGMA synchronous = OFF;
PRAGMA cache_size = -65536;  -- KiB: ids come in any order
CREATE TABLE members (seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, place TEXT NOT NULL, split TEXT);
CREATE TABLE keys (key TEXT NOT NULL, seq INTEGER NOT NULL);
CREATE TABLE names (root INTEGER PRIMARY KEY, name TEXT NOT NULL);
"""
GROUP = "group "  # begins the key of a group that the data names


class Ledger:
    """Rows by id and by key, in a temporary file of SQLite's own that ends with the context."""

    def __enter__(self) -> Self:
        self._database = sqlite3.connect("")
        self._database.executescript(_SCHEMA)
        return self

    def __exit__(self, *_: object) -> None:
        self._database.close()

    def add(self, item_id: str, where: str, split: str = "", keys: Sequence[str] = ()) -> int:
        """Note a row; its number, from 0 in the order of adding.

        Raises:
            ArchiveError: an earlier row has this id; both are named.
        """
        try:
            added = self._database.execute("INSERT INTO members VALUES (NULL, ?, ?, ?)", (item_id, where, split))
        except sqlite3.IntegrityError as error:
            [(first,)] = self._database.execute("SELECT place FROM members WHERE id = ?", [item_id])
            raise ArchiveError(
                f"{where} and {first} both have the id {item_id!r}; give every item an id of its own, and an item with "
                "several texts one row with a list of texts"
            ) from error
        seq = int(added.lastrowid or 0)
        self._database.executemany("INSERT INTO keys VALUES (?, ?)", [(key, seq) for key in keys])
        return seq - 1

    def id_order(self) -> NDArray[np.int64]:
        """(N,) numbers of the rows, in id order."""
        return np.fromiter(
            (seq - 1 for (seq,) in self._database.execute("SELECT seq FROM members ORDER BY id")), np.int64
        )

    def ids(self) -> Iterator[str]:
        """Ids in id order."""
        return (item_id for (item_id,) in self._database.execute("SELECT id FROM members ORDER BY id"))

    def given(self) -> Iterator[tuple[str, str]]:
        """Ids with the splits that came with the rows, in id order."""
        yield from self._database.execute("SELECT id, split FROM members ORDER BY id")

    def roots(self, rank: NDArray[np.int64], pairs: Sequence[tuple[int, int]] = ()) -> NDArray[np.int64]:
        """(N,) by place in id order, the first place of the row's group; ``pairs`` of row numbers are joined too."""
        parent = array("q", range(len(rank)))

        def top(place: int) -> int:
            while parent[place] != place:
                parent[place] = place = parent[parent[place]]
            return place

        def join(one: int, other: int) -> None:
            first, second = sorted((top(int(rank[one])), top(int(rank[other]))))
            parent[second] = first

        last: tuple[str, int] = ("", 0)
        for key, seq in self._database.execute("SELECT key, seq FROM keys ORDER BY key"):
            if key == last[0]:
                join(last[1], seq - 1)
            last = (key, seq - 1)
        for one, other in pairs:
            join(one, other)
        return np.fromiter((top(place) for place in range(len(rank))), np.int64, len(rank))

    def group_names(self, roots: NDArray[np.int64], rank: NDArray[np.int64]) -> Iterator[str]:
        """The group of each row, in id order: the first group's name among its rows, else the first id."""
        named = self._database.execute("SELECT key, seq FROM keys WHERE key LIKE ? ORDER BY key", [f"{GROUP}%"])
        rows = ((int(roots[rank[seq - 1]]), key) for key, seq in named)
        self._database.executemany("INSERT OR IGNORE INTO names VALUES (?, ?)", rows)
        order = self.id_order()
        query = "SELECT coalesce((SELECT name FROM names WHERE root = ?), 'id ' || id) FROM members WHERE seq = ?"
        for root in roots.tolist():
            yield self._database.execute(query, (root, int(order[root]) + 1)).fetchone()[0]

    def cut_group(self) -> tuple[str, str, str] | None:
        """A group that the given splits cut, with two of its splits."""
        query = """
            SELECT key, min(split), max(split) FROM keys JOIN members USING (seq) WHERE key LIKE ?
            GROUP BY key HAVING count(DISTINCT split) > 1 LIMIT 1
        """
        found = self._database.execute(query, [f"{GROUP}%"]).fetchone()
        return None if found is None else (found[0].removeprefix(GROUP), found[1], found[2])


def seeded_ranks(names: Iterator[str], seed: int) -> NDArray[np.int64]:
    """(N,) the place of each name in the seeded order; equal names get neighbouring places."""
    digests = np.frombuffer(b"".join(seeded_digest(name, seed) for name in names), dtype=">u8").reshape(-1, 4)
    ranks = np.empty(len(digests), dtype=np.int64)
    ranks[np.lexsort(digests.T[::-1])] = np.arange(len(digests))
    return ranks

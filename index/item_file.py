"""``items.sqlite``: ids, texts, metadata and thumbnails of one generation, read-only once written."""

import json
import queue
import sqlite3
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from index.errors import IndexCorrupt, ItemNotFound, SearchError
from index.filters import Filter, is_unicode

JSON: TypeAlias = "bool | int | float | str | Sequence[JSON] | Mapping[str, JSON] | None"
CONNECTIONS = 8

SCHEMA = """
CREATE TABLE items (
    row INTEGER PRIMARY KEY,      -- 0.. in code-point order of the ids
    id TEXT NOT NULL UNIQUE,
    content_hash TEXT NOT NULL,
    text TEXT,
    metadata TEXT NOT NULL,       -- JSON object
    thumbnail INTEGER             -- into thumbnails
);
CREATE TABLE thumbnails (thumbnail INTEGER PRIMARY KEY, webp BLOB NOT NULL);
CREATE TABLE fields (field INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
CREATE TABLE facets (             -- every plain value in the metadata, and every one in a list
    field INTEGER NOT NULL,
    kind INTEGER NOT NULL,        -- 0 boolean, 1 number, 2 string
    value NOT NULL,
    row INTEGER NOT NULL,
    PRIMARY KEY (field, kind, value, row)
) WITHOUT ROWID;
"""


@dataclass(frozen=True, slots=True)
class Record:
    """One line of the items table."""

    row: int
    id: str
    content_hash: str
    text: str | None
    metadata_json: str
    has_thumbnail: int  # 0 or 1

    def metadata(self) -> Mapping[str, JSON]:
        """The metadata, parsed."""
        parsed: Mapping[str, JSON] = json.loads(self.metadata_json)
        return parsed


class ItemFile:
    """Reads from any thread; a fixed set of connections keeps working after the file's name is gone."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._idle: queue.SimpleQueue[sqlite3.Connection | None] = queue.SimpleQueue()
        self._open = True
        self._closing = threading.Lock()
        uri = f"{path.absolute().as_uri()}?mode=ro&immutable=1"
        try:
            for _ in range(CONNECTIONS):
                self._idle.put(sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False))
        except sqlite3.Error as error:
            raise IndexCorrupt(f"cannot open {path}: {error}; restore it, roll back or rebuild the index") from error

    def close(self) -> None:
        """Wait for running reads, then close; closing twice is no error."""
        with self._closing:
            if not self._open:
                return
            self._open = False
        for _ in range(CONNECTIONS):
            connection = self._idle.get()
            if connection is not None:
                connection.close()
        self._idle.put(None)  # tells late readers

    def row_of(self, item_id: str) -> int:
        """The row of an item.

        Raises:
            ItemNotFound: there is no such item.
        """
        return int(self._one_of_item("SELECT row FROM items WHERE id = ?", item_id)[0])

    def place_of(self, item_id: str) -> tuple[int | None, int]:
        """The row of an item, None where there is none of that id, and the number of items whose ids come before."""
        found = self._one("SELECT row, id FROM items WHERE id >= ? ORDER BY id LIMIT 1", (item_id,))
        if found is None:
            last = self._one("SELECT max(row) FROM items", ())
            return None, 0 if last is None or last[0] is None else int(last[0]) + 1
        row = int(found[0])
        return (row if found[1] == item_id else None), row

    def thumbnail(self, item_id: str) -> bytes | None:
        """The item's WebP thumbnail, none where it has no image.

        Raises:
            ItemNotFound: there is no such item.
        """
        select = "SELECT webp FROM items LEFT JOIN thumbnails USING (thumbnail) WHERE id = ?"
        webp: bytes | None = self._one_of_item(select, item_id)[0]
        return webp

    def records(self, rows: Sequence[int]) -> list[Record]:
        """The items of these rows, in the order asked for."""
        select = (
            "SELECT row, id, content_hash, text, metadata, thumbnail IS NOT NULL FROM items "
            "WHERE row IN (SELECT value FROM json_each(?))"
        )
        with self._connection() as connection, closing(connection.execute(select, (json.dumps(list(rows)),))) as found:
            records = [Record(*line) for line in found]
        by_row = {record.row: record for record in records}
        return [by_row[row] for row in rows]

    def ids(self) -> Iterator[tuple[int, str]]:
        """Every (row, id), by row."""
        with (
            self._connection() as connection,
            closing(connection.execute("SELECT row, id FROM items ORDER BY row")) as found,
        ):
            yield from found

    def everything(self) -> Iterator[tuple[Record, bytes | None]]:
        """Every item with its thumbnail, by row."""
        select = (
            "SELECT row, id, content_hash, text, metadata, thumbnail IS NOT NULL, webp "
            "FROM items LEFT JOIN thumbnails USING (thumbnail) ORDER BY row"
        )
        with self._connection() as connection, closing(connection.execute(select)) as found:
            for *line, webp in found:
                yield Record(*line), webp

    def thumbnail_bytes(self) -> int:
        """Bytes of all thumbnails together."""
        found = self._one("SELECT sum(length(webp)) FROM thumbnails", ())
        return 0 if found is None or found[0] is None else int(found[0])

    def row_with_content(self, content_hash: str) -> int | None:
        """The first item that has this content, if any."""
        found = self._one("SELECT row FROM items WHERE content_hash = ? ORDER BY row LIMIT 1", (content_hash,))
        return None if found is None else int(found[0])

    def rows_matching(self, filter: Filter) -> NDArray[np.int64]:
        """Rows that satisfy a filter, ascending."""
        select, parameters = filter.sql()
        with self._connection() as connection, closing(connection.execute(select, parameters)) as found:
            return np.fromiter((row for (row,) in found), dtype=np.int64)

    def _one_of_item(self, select: str, item_id: str) -> tuple[Any, ...]:  # Any: SQLite columns
        found = self._one(select, (item_id,)) if is_unicode(item_id) else None
        if found is None:
            raise ItemNotFound(f"expected the id of an item of the index, found {item_id!r:.200}")
        return found

    def _one(self, select: str, parameters: Sequence[str]) -> tuple[Any, ...] | None:  # Any: SQLite columns
        with self._connection() as connection:
            found: tuple[Any, ...] | None = connection.execute(select, parameters).fetchone()
        return found

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        """One connection for this thread alone, waiting for one where all are in use."""
        connection = self._idle.get()
        if connection is None:
            self._idle.put(None)
            raise SearchError(f"{self._path} is closed; open the index again")
        try:
            yield connection
        except sqlite3.DatabaseError as error:
            raise IndexCorrupt(f"{self._path}: {error}; restore it, roll back or rebuild the index") from error
        finally:
            self._idle.put(connection)

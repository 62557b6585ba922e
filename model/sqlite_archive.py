"""Archives in one SQLite file, format 2: imported and built data sets of any size, read a few items at a time.

``docs/file-formats.md`` describes the tables; ``model/data/archive.py`` writes them.
"""

import hashlib
import json
import sqlite3
import weakref
from array import array
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import Any, Self, TypeVar, overload

from model.archive_format import Item, check_format, info_from_json
from model.errors import ArchiveError
from model.image_files import image_folder

FORMAT = 2
MAGIC = b"SQLite format 3\x00"
APPLICATION_ID = 0x43524F53  # "CROS": what SQLite calls the kind of a file
ITEM_COLUMNS = "id, image, items.split, grp, position, body"
_CHUNK = 500  # items fetched at once
T = TypeVar("T")


class SqliteArchive:
    """An opened SQLite file. One connection, one lock: a replaced file goes on being read as it was when opened."""

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self.path = path
        self._connection = connection
        self._lock = Lock()
        weakref.finalize(self, connection.close)  # also where what follows fails
        facts = self._read_facts()
        self.info = info_from_json(facts["info"])
        self._images = None if facts["image_root"] is None else image_folder(facts["image_root"])
        self._items_digest = facts["items_digest"]
        self.items = ItemTable(self, range(facts["items"]))

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open the file; milliseconds, whatever its size.

        Raises:
            ArchiveError: not an archive, cut short, or of another format.
        """
        connection = sqlite3.connect(
            f"{path.absolute().as_uri()}?mode=ro&immutable=1", uri=True, check_same_thread=False
        )
        return cls(path, connection)

    def select(self, splits: Collection[str]) -> "ItemTable":
        """The items of these splits, in item-id order."""
        wanted = sorted(splits)
        query = f"SELECT row FROM places WHERE split IN ({_marks(wanted)}) ORDER BY row"  # noqa: S608 - marks alone
        return ItemTable(self, array("q", (row for (row,) in self.rows(query, wanted))))

    def read_image(self, item: Item, name: str) -> bytes:
        """The item's stored image, or the file of this name where the archive refers to.

        Raises:
            ArchiveError: it is not there, or does not match its checksum.
        """
        if self._images is not None:
            try:
                return self._images.read(name)
            except ArchiveError as error:
                where = f"expected it at {self._images}/{name}"
                raise ArchiveError(f"cannot read the image of item {item.id}: {error}; {where}") from error
        query = "SELECT digest, data FROM images WHERE seq = (SELECT seq FROM items WHERE id = ?)"
        for digest, data in self.rows(query, [item.id]):
            if hashlib.sha256(data).digest() != digest:
                raise ArchiveError(
                    f"{self.path}: the image of item {item.id} does not match its checksum; import it again"
                )
            return bytes(data)
        raise ArchiveError(f"{self.path} has no image of item {item.id}; import the data set again")

    def first_damaged(self) -> str | None:
        """Read every item and stored image against its checksum: the name of the first that does not match.

        Images that the archive only refers to are no part of it.
        """
        try:
            ordered = self.rows(f"SELECT {ITEM_COLUMNS} FROM places JOIN items USING (seq) ORDER BY row")  # noqa: S608
            if items_digest(ordered) != self._items_digest:
                return "the table of items"
            query = "SELECT id, digest, data FROM images JOIN items USING (seq)"
            for item_id, digest, data in self.rows(query, chunk=1):
                if hashlib.sha256(data).digest() != digest:
                    return f"the image of item {item_id}"
        except ArchiveError as error:
            return f"a part that cannot be read at all ({error})"
        return None

    def rows(
        self, query: str, values: Sequence[object] = (), *, chunk: int = _CHUNK
    ) -> Iterator[tuple[Any, ...]]:  # Any: SQLite values
        """The rows of a query, a chunk at a time; other threads may ask in between.

        Raises:
            ArchiveError: the file is damaged.
        """
        with self._guarded():
            cursor = self._connection.execute(query, values)
        while True:
            with self._guarded():
                found = cursor.fetchmany(chunk)
            if not found:
                return
            yield from found

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        try:
            with self._lock:
                yield
        except sqlite3.Error as error:
            raise ArchiveError(f"{self.path} is damaged ({error}); build or import the data set again") from error

    def _read_facts(self) -> Mapping[str, Any]:  # Any: JSON
        try:
            [(kind,)] = self.rows("PRAGMA application_id")
            [(pages, size)] = self.rows("SELECT page_count, page_size FROM pragma_page_count, pragma_page_size")
            if kind != APPLICATION_ID:
                raise ArchiveError(
                    f"{self.path} is a SQLite file, but no data archive; build or import the data set again"
                )
            if self.path.stat().st_size < pages * size:
                raise ArchiveError(f"{self.path}: expected {pages * size:,} bytes, found fewer; copy it again, whole")
            [(number,)] = self.rows("PRAGMA user_version")
            check_format(self.path, number, FORMAT)
            return {key: json.loads(value) for key, value in self.rows("SELECT key, value FROM facts")}
        except ValueError as error:
            raise ArchiveError(
                f"{self.path} is not a data archive: {error}; build or import the data set again"
            ) from error


class ItemTable(Sequence[Item]):
    """Items of a SQLite file in a fixed order, read when asked for; eight bytes of memory each at most."""

    def __init__(self, archive: SqliteArchive, rows: Sequence[int]) -> None:
        self._archive = archive
        self._rows = rows  # positions in item-id order

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, index: int) -> Item: ...
    @overload
    def __getitem__(self, index: slice) -> "ItemTable": ...
    def __getitem__(self, index: int | slice) -> "Item | ItemTable":
        if isinstance(index, slice):
            return ItemTable(self._archive, self._rows[index])
        return self._fetch([self._rows[index]])[0]

    def __iter__(self) -> Iterator[Item]:
        for start in range(0, len(self._rows), _CHUNK):
            yield from self._fetch(self._rows[start : start + _CHUNK])

    def ids(self) -> Iterator[str]:
        """The ids alone, which is faster."""
        for start in range(0, len(self._rows), _CHUNK):
            yield from self._lookup(self._rows[start : start + _CHUNK], "id", lambda values: str(values[0]))

    def keep(self, wanted: Callable[[Item], bool]) -> "ItemTable":
        """Those of the items that a test accepts, in the same order."""
        return ItemTable(
            self._archive, array("q", (row for row, item in zip(self._rows, self, strict=True) if wanted(item)))
        )

    def without(self, ids: Collection[str]) -> "ItemTable":
        """Those of the items that have none of these ids, in the same order."""
        left = (row for row, item_id in zip(self._rows, self.ids(), strict=True) if item_id not in ids)
        return ItemTable(self._archive, array("q", left))

    def _fetch(self, rows: Sequence[int]) -> list[Item]:
        return self._lookup(rows, ITEM_COLUMNS, _item)

    def _lookup(self, rows: Sequence[int], columns: str, make: Callable[[Sequence[Any]], T]) -> list[T]:
        query = f"SELECT row, {columns} FROM places JOIN items USING (seq) WHERE row IN ({_marks(rows)})"  # noqa: S608
        found = {row: make(values) for row, *values in self._archive.rows(query, list(rows))}
        try:
            return [found[row] for row in rows]
        except KeyError as error:
            raise ArchiveError(f"{self._archive.path} lacks item number {error}; build or import it again") from error


def items_digest(rows: Iterator[tuple[Any, ...]]) -> str:  # Any: SQLite values
    """SHA-256 (hex) over the stored columns of the items, in item-id order."""
    digest = hashlib.sha256()
    for row in rows:
        digest.update(json.dumps(row, ensure_ascii=False).encode())
    return digest.hexdigest()


def _item(values: Sequence[Any]) -> Item:  # Any: SQLite values
    item_id, image, split, group, position, body = values
    texts, labels, metadata = json.loads(body)
    return Item(
        id=item_id,
        image=image,
        texts={variant: tuple(several) for variant, several in texts.items()},
        labels=tuple(labels),
        group=group,
        split=split,
        order=position,
        metadata=metadata,
    )


def _marks(values: Sequence[object]) -> str:
    return ",".join("?" * len(values))

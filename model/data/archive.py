"""Writing a data archive: the same items and images give the same bytes, and a reader never sees half of one.

``ArchiveWriter`` writes the SQLite file of an imported or built data set, in constant memory; ``write_archive`` the zip
file of one that ships with the package.
"""

import hashlib
import json
import os
import sqlite3
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from model.durable import replacing
from model.errors import ArchiveError
from model.image_files import image_folder
from model.items import MAX_IMAGE_BYTES, ArchiveInfo, Item
from model.sqlite_archive import APPLICATION_ID, ITEM_COLUMNS, items_digest
from model.sqlite_archive import FORMAT as SQLITE_FORMAT
from model.zip_archive import FORMAT as ZIP_FORMAT

_TIMESTAMP = (1980, 1, 1, 0, 0, 0)  # the earliest that a zip file can hold
_SCHEMA = f"""
PRAGMA application_id = {APPLICATION_ID};
PRAGMA user_version = {SQLITE_FORMAT};
PRAGMA journal_mode = OFF;
PRAGMA synchronous = OFF;
PRAGMA cache_size = -65536;  -- KiB: ids come in any order
CREATE TABLE facts (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
CREATE TABLE items (
    seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, image TEXT, split TEXT NOT NULL, grp TEXT NOT NULL,
    position INTEGER NOT NULL, body TEXT NOT NULL
) STRICT;
CREATE TABLE images (seq INTEGER PRIMARY KEY, digest BLOB NOT NULL, data BLOB NOT NULL) STRICT;
CREATE TABLE places (row INTEGER PRIMARY KEY, seq INTEGER NOT NULL, split TEXT NOT NULL) STRICT;
"""


class ArchiveWriter:
    """Writes the SQLite archive at ``path`` beside what is there, which ``finish`` replaces once all is on disk.

    With ``image_root`` the archive refers to images: ``Item.image`` is a name below that folder or address. A context
    manager: left without ``finish``, nothing is changed and nothing stays.
    """

    def __init__(self, path: Path, image_root: Path | str | None = None) -> None:
        self.path = path
        self._image_root = None if image_root is None else str(image_folder(image_root))
        self._temporary = path.with_name(f".{path.name}.{os.getpid()}.new")

    def __enter__(self) -> Self:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._temporary.unlink(missing_ok=True)
        self._database = sqlite3.connect(self._temporary)
        self._database.executescript(_SCHEMA)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._database.close()
        self._temporary.unlink(missing_ok=True)
        with suppress(OSError):
            self.path.parent.rmdir()  # only where it is empty

    def add(self, item: Item, image: bytes | None = None) -> None:
        """Add an item, in any order; its image file goes with it unless the archive refers to images.

        Raises:
            ArchiveError: another item has this id, or the image is missing, superfluous or too large.
        """
        expected = item.image is not None and self._image_root is None
        if (image is not None) != expected:
            raise ArchiveError(
                f"item {item.id}: expected {'the bytes of its image' if expected else 'no bytes of an image'} for "
                f"{self.path.name}, found {'some' if image is not None else 'none'}"
            )
        if image is not None and len(image) > MAX_IMAGE_BYTES:
            raise ArchiveError(
                f"item {item.id}: expected an image of at most {MAX_IMAGE_BYTES:,} bytes, found {len(image):,}"
            )
        body = json.dumps([dict(item.texts), item.labels, item.metadata], sort_keys=True)
        values = (item.id, item.image, item.split, item.group, item.order, body)
        try:
            seq = self._database.execute("INSERT INTO items VALUES (NULL, ?, ?, ?, ?, ?, ?)", values).lastrowid
        except sqlite3.IntegrityError as error:
            raise DuplicateId(
                f"expected a different id for each item of {self.path}, found {item.id!r} twice"
            ) from error
        if image is not None:
            stored = (seq, hashlib.sha256(image).digest(), image)
            self._database.execute("INSERT INTO images VALUES (?, ?, ?)", stored)

    def assign(self, changes: Iterable[tuple[str, str, str, int]]) -> None:
        """Give added items another (id, group, split, order), for splits that depend on all of them."""
        rows = ((group, split, order, item_id) for item_id, group, split, order in changes)
        self._database.executemany("UPDATE items SET grp = ?, split = ?, position = ? WHERE id = ?", rows)

    def finish(self, info: ArchiveInfo, advance: Callable[[int], None] = lambda count: None) -> None:
        """Put the archive in its place; ``advance`` counts its items."""
        database = self._database
        database.execute(
            "INSERT INTO places SELECT row_number() OVER (ORDER BY id) - 1, seq, split FROM items ORDER BY id"
        )
        ordered = database.execute(f"SELECT {ITEM_COLUMNS} FROM places JOIN items USING (seq) ORDER BY row")  # noqa: S608
        facts = {
            "info": asdict(info),
            "image_root": self._image_root,
            "items_digest": items_digest(_counted(ordered, advance)),
            "items": database.execute("SELECT count(*) FROM items").fetchone()[0],
        }
        lines = ((key, json.dumps(value, sort_keys=True)) for key, value in facts.items())
        database.executemany("INSERT INTO facts VALUES (?, ?)", lines)
        database.commit()
        database.close()
        with replacing(self.path) as temporary:
            self._temporary.replace(temporary)


def _counted(rows: Iterable[tuple[Any, ...]], advance: Callable[[int], None]) -> Iterator[tuple[Any, ...]]:
    for row in rows:
        advance(1)
        yield row


class DuplicateId(ArchiveError):
    """Two items of a data set have one id."""


def write_archive(path: Path, info: ArchiveInfo, items: Sequence[Item], read_image: Callable[[Item], bytes]) -> None:
    """Write items and their images to a zip file, replacing what was there only once everything is on disk.

    Images are asked for one at a time, in item-id order, and stored as they are; JSON is deflated.

    Raises:
        ArchiveError: two items share an id.
    """
    ordered = sorted(items, key=lambda item: item.id)
    if len({item.id for item in ordered}) != len(ordered):
        raise ArchiveError(f"expected different ids for the {len(ordered):,} items of {path}, found repeats")
    with replacing(path) as temporary, temporary.open("wb") as file:
        _write_zip(file, info, ordered, read_image)


def _write_zip(file: IO[bytes], info: ArchiveInfo, items: Sequence[Item], read_image: Callable[[Item], bytes]) -> None:
    with zipfile.ZipFile(file, "w") as archive:
        _add(archive, "dataset.json", _line({"format": ZIP_FORMAT, **asdict(info)}), zipfile.ZIP_DEFLATED)
        lines = b"".join(_line(asdict(item)) for item in items)
        _add(archive, "items.jsonl", lines, zipfile.ZIP_DEFLATED)
        for item in items:
            if item.image is not None:
                _add(archive, item.image, read_image(item), zipfile.ZIP_STORED)


def _add(archive: zipfile.ZipFile, name: str, data: bytes, compression: int) -> None:
    entry = zipfile.ZipInfo(name, _TIMESTAMP)
    entry.compress_type = compression
    entry.create_system = 3  # Unix, wherever this runs
    entry.external_attr = 0o644 << 16
    archive.writestr(entry, data, compresslevel=9)


def _line(value: dict[str, object]) -> bytes:
    # ASCII only: readers split lines, and Unicode has line separators of its own
    return json.dumps(value, sort_keys=True, ensure_ascii=True).encode() + b"\n"

"""Items and the archive that holds them: what an index is built from and what a data set is read from.

An archive is a SQLite file (``model/sqlite_archive.py``) or a zip file (``model/zip_archive.py``); who reads it need
not know which. ``docs/file-formats.md`` describes both.
"""

import hashlib
from collections.abc import Collection, Iterator, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from encoders.texts import is_visible
from model.archive_format import DATABASE as DATABASE
from model.archive_format import MAX_IMAGE_BYTES as MAX_IMAGE_BYTES
from model.archive_format import SPLITS as SPLITS
from model.archive_format import ArchiveInfo as ArchiveInfo
from model.archive_format import Item as Item
from model.errors import ArchiveError
from model.sqlite_archive import MAGIC, ItemTable, SqliteArchive
from model.zip_archive import ZipArchive

ARCHIVE_FILES = ("archive.sqlite", "archive.zip")  # in the folder of a data set; the first that is there counts


class ItemArchive:
    """An opened data archive; what is not in memory is read on demand. Reading is safe from many threads."""

    def __init__(self, source: ZipArchive | SqliteArchive) -> None:
        self.path = source.path
        self.info = source.info
        self.items: Sequence[Item] = source.items  # in item-id order
        self._source = source

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open an archive: a SQLite file in milliseconds whatever its size, a zip file by reading its items.

        Raises:
            ArchiveError: missing, not an archive, of a newer format, or malformed.
        """
        try:
            with path.open("rb") as file:
                is_sqlite = file.read(len(MAGIC)) == MAGIC
        except FileNotFoundError as error:
            raise ArchiveError(f"no data archive at {path}; build or import the data set first") from error
        return cls(SqliteArchive.open(path) if is_sqlite else ZipArchive.open(path))

    def select(self, splits: Collection[str]) -> Sequence[Item]:
        """The items of these splits, in item-id order."""
        if self.items is self._source.items:
            return self._source.select(splits)
        return tuple(item for item in self.items if item.split in splits)

    def database(self) -> Sequence[Item]:
        """The retrieval set where the data set has splits, every item otherwise."""
        return self.select(self.info.database) if self.info.split_seed is not None else self.items

    def read_image(self, item: Item) -> bytes:
        """The item's encoded image file.

        Raises:
            ArchiveError: the item has no image, or it is missing or damaged; the message says where it was expected.
        """
        if item.image is None:
            raise ArchiveError(f"item {item.id} of {self.path} has no image")
        return self._source.read_image(item, item.image)

    def first_damaged(self) -> str | None:
        """Read everything in the archive against its checksums: the name of the first part that does not match."""
        return self._source.first_damaged()


def caption(item: Item, variant: str) -> str:
    """The item's first text of a caption variant.

    Raises:
        ArchiveError: it has none.
    """
    texts = item.texts.get(variant, ())
    if not texts:
        raise ArchiveError(f"item {item.id}: expected a text of variant {variant!r}, found {sorted(item.texts)}")
    return texts[0]


def pairs(items: Sequence[Item], variant: str) -> Sequence[Item]:
    """Those of the items that have an image and a visible first text of a caption variant, in the same order."""

    def is_pair(item: Item) -> bool:
        return item.image is not None and any(map(is_visible, item.texts.get(variant, ())[:1]))

    return items.keep(is_pair) if isinstance(items, ItemTable) else tuple(filter(is_pair, items))


def without(items: Sequence[Item], ids: Collection[str]) -> Sequence[Item]:
    """The items that have none of these ids, in the same order."""
    if not ids:
        return items
    return items.without(ids) if isinstance(items, ItemTable) else tuple(item for item in items if item.id not in ids)


def item_ids(items: Sequence[Item]) -> Iterator[str]:
    """The ids of the items, without reading the rest of those on disk."""
    return items.ids() if isinstance(items, ItemTable) else (item.id for item in items)


def multi_hot(items: Sequence[Item], class_names: Sequence[str]) -> NDArray[np.int64]:
    """(N, C) labels in {0, 1}, columns in class order; an unlabelled item is a row of zeros."""
    column = {name: position for position, name in enumerate(class_names)}
    labels = np.zeros((len(items), len(class_names)), dtype=np.int64)
    for row, item in enumerate(items):
        for name in item.labels:
            labels[row, column[name]] = 1
    return labels


def content_hash(image: bytes | None, text: str | None) -> str:
    """SHA-256 (hex) of what an item's codes are made from: its image file and its text, each may be absent."""
    digest = hashlib.sha256()
    for part in (image, None if text is None else text.encode()):
        digest.update(b"-" if part is None else b"%d:" % len(part) + part)
    return digest.hexdigest()


def find_archive(name: str, data_dir: Path) -> Path:
    """Where a data set's archive is: below ``data_dir/<name>``, or shipped with the package.

    Raises:
        ArchiveError: neither exists; the message lists the names that do.
    """
    built = (data_dir / name / file for file in ARCHIVE_FILES)
    for path in (*built, Path(str(files("model") / "data" / f"{name}.zip"))):
        if path.is_file():
            return path
    known = ", ".join(list_archives(data_dir)) or "none"
    raise ArchiveError(f"no data set named {name!r}; known: {known}")


def list_archives(data_dir: Path) -> list[str]:
    """Names of the data sets that ``find_archive`` finds, sorted."""
    built = {path.parent.name for file in ARCHIVE_FILES for path in data_dir.glob(f"*/{file}")}
    return sorted(built | shipped_archives())


def shipped_archives() -> set[str]:
    """Names of the data sets inside the package."""
    return {path.stem for path in Path(str(files("model") / "data")).glob("*.zip")}

"""Where the items of an index come from: ``openclipart`` is a data set's database, ``openclipart:all`` every item."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from app.jobs import SourceNotFound
from model.items import Item, ItemArchive, find_archive, list_archives

EVERYTHING = ":all"


@dataclass(frozen=True, slots=True)
class Source:
    """An opened archive and those of its items that an index takes."""

    name: str
    archive: ItemArchive
    items: tuple[Item, ...]  # in item-id order
    digest: str  # SHA-256 (hex) over the item ids


def open_source(name: str, data_dir: Path) -> Source:
    """Open a source by the name that generations record.

    Raises:
        SourceNotFound: there is no such data set; the message lists those that exist.
        ArchiveError: its archive is damaged.
    """
    data = data_set(name)
    known = list_archives(data_dir)
    if data not in known:
        raise SourceNotFound(f"no data set named {data!r}; known: {', '.join(known) or 'none'}")
    archive = ItemArchive.open(find_archive(data, data_dir))
    items = archive.items if name.endswith(EVERYTHING) else archive.database()
    return Source(name, archive, items, hashlib.sha256("\n".join(item.id for item in items).encode()).hexdigest())


def data_set(source: str) -> str:
    """The data set that a source reads."""
    return source.removesuffix(EVERYTHING)

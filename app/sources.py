"""Where the items of an index come from: ``openclipart`` is a data set's database, ``openclipart:all`` every item."""

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from app.jobs import SourceNotFound
from model.items import Item, ItemArchive, find_archive, item_ids, list_archives, without

EVERYTHING = ":all"


@dataclass(frozen=True, slots=True)
class Source:
    """An opened archive and those of its items that an index takes."""

    name: str
    archive: ItemArchive
    items: Sequence[Item]  # in item-id order
    digest: str  # SHA-256 (hex) over the item ids


def open_source(name: str, data_dir: Path) -> Source:
    """Open a source by the name that generations record.

    Raises:
        SourceNotFound: there is no such data set; the message lists those that exist.
        ArchiveError: its archive is damaged.
    """
    archive, items = _open(name, data_dir)
    return Source(name, archive, items, _digest(items))


def count_items(name: str, data_dir: Path, *, but: Collection[str] = ()) -> int:
    """How many items a source has beside those with the ids ``but``, without a look at their content.

    Raises:
        SourceNotFound, ArchiveError: as ``open_source``.
    """
    return len(without(_open(name, data_dir)[1], but))


def data_set(source: str) -> str:
    """The data set that a source reads."""
    return source.removesuffix(EVERYTHING)


def _open(name: str, data_dir: Path) -> tuple[ItemArchive, Sequence[Item]]:
    data = data_set(name)
    known = list_archives(data_dir)
    if data not in known:
        raise SourceNotFound(f"no data set named {data!r}; known: {', '.join(known) or 'none'}")
    archive = ItemArchive.open(find_archive(data, data_dir))
    return archive, archive.items if name.endswith(EVERYTHING) else archive.database()


def _digest(items: Sequence[Item]) -> str:
    digest = hashlib.sha256()
    for number, item_id in enumerate(item_ids(items)):
        digest.update((f"\n{item_id}" if number else item_id).encode())
    return digest.hexdigest()

"""Whether the disk has room for a rebuild, found out before it starts."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from app.jobs import DiskFull
from app.rebuild_steps import Request
from app.sources import count_items
from index.edit_log import EditLog
from index.errors import IndexCorrupt
from index.generations import IndexDirectory
from index.records import Append, Record

NEW_ITEM_BYTES = 12_000  # of an item of an index that is not there yet; a thumbnail, mostly
COPIES = 2.5  # a shard holds codes as hex and thumbnails as base64, and stays until the generation has swapped


class Places(Protocol):
    """What is needed of the settings."""

    @property
    def indexes_dir(self) -> Path:
        """Indexes by name."""

    @property
    def data_dir(self) -> Path:
        """Data sets by name."""

    @property
    def min_free_bytes(self) -> int:
        """What shall stay free."""


def check_room(request: Request, places: Places) -> None:
    """Refuse a rebuild that would leave too little free.

    Raises:
        DiskFull
        SourceNotFound, ArchiveError: the source cannot be opened.
    """
    needed = needed_bytes(request.index, request.source, places)
    folder = places.indexes_dir.absolute()
    free = shutil.disk_usage(next(path for path in (folder, *folder.parents) if path.exists())).free
    if free - needed < places.min_free_bytes:
        raise DiskFull(
            f"expected {places.min_free_bytes:,} bytes to stay free on the disk of the indexes, found {free:,} and a "
            f"rebuild that needs about {needed:,}; free some space, or set CROSSBIT_MIN_FREE_BYTES"
        )


def needed_bytes(index: str, source: str, places: Places) -> int:
    """An estimate from what an item takes in the generation that serves, where there is one.

    The items are those of a rebuild that starts now: of the source, with what was appended, without what was deleted.

    Raises:
        SourceNotFound, ArchiveError: the source cannot be opened.
    """
    directory = IndexDirectory(places.indexes_dir / index)
    pointer = directory.current()
    per_item = float(NEW_ITEM_BYTES)
    if pointer is not None:
        manifest = directory.manifest(pointer.generation)
        per_item = sum(file.size_bytes for file in manifest.files.values()) / max(1, manifest.items)
    edits = _edits(directory.path)
    appended = sum(isinstance(record, Append) for record in edits.values())
    items = count_items(source, places.data_dir, but=edits.keys()) + appended
    return round(items * per_item * COPIES)


def _edits(index_dir: Path) -> Mapping[str, Record]:
    """By id, the last edit of each item that was ever appended or deleted."""
    try:
        return {record.id: record for record in EditLog(index_dir).read().records}
    except IndexCorrupt:  # or condensed in this moment: the plan reads it under the lock, and says what is wrong
        return {}

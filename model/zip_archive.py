"""Archives in one zip file, format 1: what the package ships, and what earlier versions imported."""

import json
import zipfile
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Self

from model.archive_format import MAX_IMAGE_BYTES, ArchiveInfo, Item, check_format, info_from_json
from model.errors import ArchiveError

FORMAT = 1


class ZipArchive:
    """An opened zip file with all its items in memory; images are read on demand."""

    def __init__(self, path: Path, info: ArchiveInfo, items: tuple[Item, ...], source: zipfile.ZipFile) -> None:
        self.path = path
        self.info = info
        self.items = items
        self._zip = source

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open the file and read its items.

        Raises:
            ArchiveError: not an archive, of another format, or an item line is malformed.
        """
        try:
            source = zipfile.ZipFile(path)
            raw = json.loads(source.read("dataset.json"))
            check_format(path, raw.get("format"), FORMAT)
            info = info_from_json(raw)
            lines = source.read("items.jsonl").decode().splitlines()
        except (zipfile.BadZipFile, AttributeError, KeyError, TypeError, ValueError) as error:
            raise ArchiveError(f"{path} is not a data archive: {error}; build or import the data set again") from error
        items = tuple(_read_item(path, number, line) for number, line in enumerate(lines, start=1))
        ids = [item.id for item in items]
        if ids != sorted(set(ids)):
            raise ArchiveError(f"{path}: expected item ids in ascending order without repeats; rebuild the archive")
        return cls(path, info, items, source)

    def select(self, splits: Collection[str]) -> tuple[Item, ...]:
        """The items of these splits, in item-id order."""
        return tuple(item for item in self.items if item.split in splits)

    def read_image(self, item: Item, name: str) -> bytes:
        """The image file of this name.

        Raises:
            ArchiveError: the archive lacks or damaged it.
        """
        try:
            size = self._zip.getinfo(name).file_size
            if size > MAX_IMAGE_BYTES:
                raise ArchiveError(f"{self.path}: expected at most {MAX_IMAGE_BYTES:,} bytes in {name}, found {size:,}")
            return self._zip.read(name)
        except (KeyError, zipfile.BadZipFile) as error:
            raise ArchiveError(f"{self.path}: cannot read {name} of item {item.id}: {error}") from error

    def first_damaged(self) -> str | None:
        """Read every file of the archive against its checksum: the name of the first that does not match."""
        try:
            return self._zip.testzip()
        except (zipfile.BadZipFile, EOFError, OSError) as error:
            return f"a file that cannot be read at all ({error})"


def _read_item(path: Path, number: int, line: str) -> Item:
    try:
        raw: Mapping[str, Any] = json.loads(line)
        return Item(
            id=raw["id"],
            image=raw["image"],
            texts={variant: tuple(texts) for variant, texts in raw["texts"].items()},
            labels=tuple(raw["labels"]),
            group=raw["group"],
            split=raw["split"],
            order=raw["order"],
            metadata=raw["metadata"],
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ArchiveError(f"{path}: items.jsonl line {number} is not an item: {error!r}") from error

"""Items and the archive that holds them: what an index is built from and what a data set is read from.

A data archive is one zip file: ``dataset.json`` (``ArchiveInfo``), ``items.jsonl`` (one ``Item`` a line, in item-id
order) and the image files that the items name. ``docs/file-formats.md`` describes it.
"""

import hashlib
import json
import zipfile
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from model.errors import ArchiveError

FORMAT = 1
MAX_IMAGE_BYTES = 64 * 2**20
SPLITS = ("train", "unseen", "validation", "query")
DATABASE = ("train", "unseen")  # the retrieval set, where a data set names no other


@dataclass(frozen=True, slots=True)
class Item:
    """One thing that can be indexed: an optional image, texts by caption variant, labels and metadata."""

    id: str
    image: str | None  # name of the image file inside the archive
    texts: Mapping[str, tuple[str, ...]]  # caption variant -> its texts
    labels: tuple[str, ...]  # class names; never an encoder's input
    group: str  # items of one group are never cut apart by a split
    split: str  # one of SPLITS, or "" where the data set has none
    order: int  # position in the data set's seeded shuffle
    metadata: Mapping[str, Any]  # JSON values, free keys


@dataclass(frozen=True, slots=True)
class ArchiveInfo:
    """``dataset.json``: what the archive holds and where it came from."""

    name: str
    title: str
    source: str
    revision: str
    licence: str
    captions: tuple[str, ...]  # caption variants; the first is the headline
    class_names: tuple[str, ...]  # in column order
    split_seed: int | None
    split_hash: str  # SHA-256 over "id split" lines in id order
    notes: Mapping[str, Any]  # free facts for the data card, such as the audited label error rate
    database: tuple[str, ...] = DATABASE  # splits of the retrieval set; what it holds beyond train was not trained on


class ItemArchive:
    """An opened data archive; images are read on demand. Reading is safe from many threads."""

    def __init__(self, path: Path, info: ArchiveInfo, items: tuple[Item, ...], source: zipfile.ZipFile) -> None:
        self.path = path
        self.info = info
        self.items = items
        self._zip = source

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open an archive and read its items.

        Raises:
            ArchiveError: missing, not an archive, of a newer format, or an item line is malformed.
        """
        try:
            source = zipfile.ZipFile(path)
            info = _read_info(path, json.loads(source.read("dataset.json")))
            lines = source.read("items.jsonl").decode().splitlines()
        except FileNotFoundError as error:
            raise ArchiveError(f"no data archive at {path}; build or import the data set first") from error
        except (zipfile.BadZipFile, KeyError, ValueError) as error:
            raise ArchiveError(f"{path} is not a data archive: {error}; build or import the data set again") from error
        items = tuple(_read_item(path, number, line) for number, line in enumerate(lines, start=1))
        ids = [item.id for item in items]
        if ids != sorted(set(ids)):
            raise ArchiveError(f"{path}: expected item ids in ascending order without repeats; rebuild the archive")
        return cls(path, info, items, source)

    def select(self, splits: Collection[str]) -> tuple[Item, ...]:
        """The items of these splits, in item-id order."""
        return tuple(item for item in self.items if item.split in splits)

    def database(self) -> tuple[Item, ...]:
        """The retrieval set where the data set has splits, every item otherwise."""
        return self.select(self.info.database) if self.info.split_seed is not None else self.items

    def read_image(self, item: Item) -> bytes:
        """The item's encoded image file.

        Raises:
            ArchiveError: the item has no image, or the archive lacks or damaged it.
        """
        if item.image is None:
            raise ArchiveError(f"item {item.id} of {self.path} has no image")
        try:
            size = self._zip.getinfo(item.image).file_size
            if size > MAX_IMAGE_BYTES:
                raise ArchiveError(
                    f"{self.path}: expected at most {MAX_IMAGE_BYTES:,} bytes in {item.image}, found {size:,}"
                )
            return self._zip.read(item.image)
        except (KeyError, zipfile.BadZipFile) as error:
            raise ArchiveError(f"{self.path}: cannot read {item.image} of item {item.id}: {error}") from error

    def first_damaged(self) -> str | None:
        """Read every file of the archive against its checksum: the name of the first that does not match."""
        try:
            return self._zip.testzip()
        except (zipfile.BadZipFile, EOFError, OSError) as error:
            return f"a file that cannot be read at all ({error})"


def caption(item: Item, variant: str) -> str:
    """The item's first text of a caption variant.

    Raises:
        ArchiveError: it has none.
    """
    texts = item.texts.get(variant, ())
    if not texts:
        raise ArchiveError(f"item {item.id}: expected a text of variant {variant!r}, found {sorted(item.texts)}")
    return texts[0]


def pairs(items: Sequence[Item], variant: str) -> tuple[Item, ...]:
    """Those of the items that have both an image and a text of a caption variant, in the same order."""
    return tuple(item for item in items if item.image is not None and any(item.texts.get(variant, ())))


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
    """Where a data set's archive is: ``data_dir/<name>/archive.zip``, or the one shipped with the package.

    Raises:
        ArchiveError: neither exists; the message lists the names that do.
    """
    for path in (data_dir / name / "archive.zip", Path(str(files("model") / "data" / f"{name}.zip"))):
        if path.is_file():
            return path
    known = ", ".join(list_archives(data_dir)) or "none"
    raise ArchiveError(f"no data set named {name!r}; known: {known}")


def list_archives(data_dir: Path) -> list[str]:
    """Names of the data sets that ``find_archive`` finds, sorted."""
    built = {path.parent.name for path in data_dir.glob("*/archive.zip")}
    return sorted(built | shipped_archives())


def shipped_archives() -> set[str]:
    """Names of the data sets inside the package."""
    return {path.stem for path in Path(str(files("model") / "data")).glob("*.zip")}


def _read_info(path: Path, raw: Mapping[str, Any]) -> ArchiveInfo:
    if raw.get("format") != FORMAT:
        raise ArchiveError(f"{path} has archive format {raw.get('format')!r}, this version reads {FORMAT}; upgrade")
    return ArchiveInfo(
        name=raw["name"],
        title=raw["title"],
        source=raw["source"],
        revision=raw["revision"],
        licence=raw["licence"],
        captions=tuple(raw["captions"]),
        class_names=tuple(raw["class_names"]),
        split_seed=raw["split_seed"],
        split_hash=raw["split_hash"],
        notes=raw["notes"],
        database=tuple(raw.get("database", DATABASE)),
    )


def _read_item(path: Path, number: int, line: str) -> Item:
    try:
        raw = json.loads(line)
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

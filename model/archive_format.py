"""What every data archive holds, whatever file it lies in: its description, its items, and their JSON."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model.errors import ArchiveError

SPLITS = ("train", "unseen", "validation", "query")
DATABASE = ("train", "unseen")  # the retrieval set, where a data set names no other
MAX_IMAGE_BYTES = 64 * 2**20


@dataclass(frozen=True, slots=True)
class Item:
    """One thing that can be indexed: an optional image, texts by caption variant, labels and metadata."""

    id: str
    image: str | None  # name of the image file inside the archive, or below the folder that the archive refers to
    texts: Mapping[str, tuple[str, ...]]  # caption variant -> its texts
    labels: tuple[str, ...]  # class names; never an encoder's input
    group: str  # items of one group are never cut apart by a split
    split: str  # one of SPLITS, or "" where the data set has none
    order: int  # position in the data set's seeded shuffle
    metadata: Mapping[str, Any]  # JSON values, free keys


@dataclass(frozen=True, slots=True)
class ArchiveInfo:
    """What the archive holds and where it came from."""

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


def check_format(path: Path, found: object, expected: int) -> None:
    """Refuse a file of another format number.

    Raises:
        ArchiveError: naming both numbers.
    """
    if found != expected:
        raise ArchiveError(
            f"{path} has archive format {found!r}, this version reads {expected} in such a file; upgrade"
        )


def info_from_json(raw: Mapping[str, Any]) -> ArchiveInfo:
    """The description from its JSON object.

    Raises:
        KeyError, TypeError: it is none.
    """
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

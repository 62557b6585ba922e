"""``Record``: one row of somebody's own data, from a manifest or a folder, before its image has been looked at."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from model.errors import ArchiveError

MAX_ID_CHARS = 200
RESERVED = ("labels", "texts")  # metadata that an index writes itself
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")
_SLUG_CHARS = 80
_DIGEST_CHARS = 8


@dataclass(frozen=True, slots=True)
class Record:
    """What a row says of an item; the image may turn out to be missing or damaged."""

    where: str  # file and line, or the image's file name: what messages call the row
    id: str
    image: str | None  # file name, relative to the root of the images
    texts: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    group: str = ""  # rows of one group are never cut apart by a split; empty: the row stands alone
    metadata: Mapping[str, Any] = field(default_factory=dict)  # JSON values


@dataclass(frozen=True, slots=True)
class Skipped:
    """A row or file that is left out."""

    where: str
    reason: str


@dataclass(frozen=True, slots=True)
class Source:
    """Own data, listed."""

    name: str  # of the folder or manifest
    root: Path  # no image outside it is ever read
    records: Sequence[Record]
    skipped: Sequence[Skipped] = ()


def id_of_file(name: str) -> str:
    """A stable item id for a file by its relative name: the name itself where a URL can hold it as it is.

    Any other name has its odd characters replaced and a digest of the whole name added, so that two never meet.
    """
    if not _UNSAFE.search(name) and not name.startswith(".") and len(name) <= _SLUG_CHARS:
        return name
    digest = hashlib.sha256(name.encode("utf-8", "surrogateescape")).hexdigest()[:_DIGEST_CHARS]
    slug = re.sub(r"[^A-Za-z0-9._]+", "-", name)[:_SLUG_CHARS].strip(".-")
    return f"{slug}-{digest}" if slug else digest


def check_id(item_id: str, where: str) -> str:
    """Return an id that a caller chose if it can be part of a URL.

    Raises:
        ArchiveError: empty, too long, with control characters or outer blanks, or with path segments that URLs drop.
    """
    segments = PurePosixPath(item_id).parts
    broken = (
        not 1 <= len(item_id) <= MAX_ID_CHARS
        or not item_id.isprintable()
        or item_id != item_id.strip()
        or item_id != "/".join(segments)
        or ".." in segments
    )
    if broken:
        raise ArchiveError(
            f"{where}: expected an id of 1 to {MAX_ID_CHARS} printable characters without outer blanks and without the "
            f"path segments '', '.' and '..', found {item_id!r:.80}"
        )
    return item_id


def check_distinct(records: Sequence[Record]) -> None:
    """Refuse two rows with one id.

    Raises:
        ArchiveError: it names both rows.
    """
    seen: dict[str, str] = {}
    for record in records:
        if record.id in seen:
            raise ArchiveError(
                f"{record.where} and {seen[record.id]} both have the id {record.id!r}; give every item an id of its "
                "own, and an item with several texts one row with a list of texts"
            )
        seen[record.id] = record.where


def words_of_file(stem: str) -> str:
    """The words of a file name without its suffix: ``red-apple_02`` -> ``red apple``; the name where it has none."""
    words = re.findall(r"[^\W_]+", stem)
    return " ".join(word for word in words if not word.isdecimal()) or stem

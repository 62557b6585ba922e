"""``Record``: one row of somebody's own data, from any kind of source, before its image has been looked at."""

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from encoders.texts import is_visible
from model.errors import ArchiveError
from model.items import SPLITS

COLUMNS = ("id", "image", "text", "texts", "labels", "group", "split", "metadata")
ALIASES = {"database": "unseen"}  # the retrieval set, but for what is trained on
PREFIX = "metadata."  # of a table's column that is one metadata field
MAX_ID_CHARS = 200
MAX_TEXT_CHARS = 2**20
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
    split: str = ""  # one of SPLITS, where the data comes with a split
    read_image: Callable[[], bytes] | None = None  # where the source is no folder; until the next row is asked for


@dataclass(frozen=True, slots=True)
class Skipped:
    """A row or file that is left out."""

    where: str
    reason: str


@dataclass(frozen=True, slots=True)
class Source:
    """Own data, to be listed as often as wanted, a row at a time."""

    name: str  # of the folder, manifest or shards
    root: Path | str  # a folder or an address; no image outside it is ever read
    rows: Callable[[], Iterator[Record | Skipped]]
    stays: bool = True  # its images are files that an archive can refer to


def check_columns(columns: Sequence[str], name: str) -> None:
    """Refuse a table's heading that repeats a column or has one that is not known.

    Raises:
        ArchiveError: naming the columns.
    """
    known = [column for column in columns if column in COLUMNS or column.removeprefix(PREFIX) not in ("", column)]
    unknown = sorted(set(columns) - set(known))
    if unknown or len(set(columns)) < len(columns):
        raise ArchiveError(
            f"{name}: expected a heading with different columns of {', '.join(COLUMNS)}, separated by commas, found "
            f"{', '.join(map(repr, columns)):.200}; to keep a column of your own, call it {PREFIX}NAME"
        )


def make_record(raw: Mapping[str, Any], where: str) -> Record:
    """The record of a row with the columns ``COLUMNS``.

    Raises:
        ArchiveError: a column is unknown, or its value is not what it should be.
    """
    unknown = sorted(raw.keys() - set(COLUMNS))
    if unknown:
        raise ArchiveError(
            f"{where}: unknown {', '.join(map(repr, unknown)):.200}; known: {', '.join(COLUMNS)}; facts of your own "
            "go into metadata"
        )
    image, item_id = _text(raw, "image", where), _text(raw, "id", where)
    if item_id is None and image is None:
        raise ArchiveError(f"{where}: expected an id, or an image whose name can serve as one, found neither")
    text = _text(raw, "text", where)
    if text is not None and raw.get("texts") is not None:
        raise ArchiveError(f"{where}: expected text or texts, found both")
    texts = _texts(raw, "texts", where) if text is None else (text,)
    return Record(
        where=where,
        id=id_of_file(image or "") if item_id is None else check_id(item_id, where),
        image=image,
        texts=tuple(one for one in texts if is_visible(one)),
        labels=tuple(dict.fromkeys(label.strip() for label in _texts(raw, "labels", where) if label.strip())),
        group=_text(raw, "group", where) or "",
        split=_split(raw, where),
        metadata=_metadata(raw, where),
    )


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


def words_of_file(stem: str) -> str:
    """The words of a file name without its suffix: ``red-apple_02`` -> ``red apple``; the name where it has none."""
    words = re.findall(r"[^\W_]+", stem)
    return " ".join(word for word in words if not word.isdecimal()) or stem


def _split(raw: Mapping[str, Any], where: str) -> str:
    split = _text(raw, "split", where) or ""
    split = ALIASES.get(split, split)
    if split and split not in SPLITS:
        raise ArchiveError(f"{where}, split: expected one of {', '.join((*SPLITS, *ALIASES))}, found {split!r:.80}")
    return split


def _text(raw: Mapping[str, Any], key: str, where: str) -> str | None:
    value = raw.get(key)
    if key in ("id", "group") and type(value) is int:
        return str(value)
    if value is not None and not isinstance(value, str):
        raise ArchiveError(f"{where}, {key}: expected a text, found {value!r:.80}")
    return _checked(value, key, where) if value else None


def _texts(raw: Mapping[str, Any], key: str, where: str) -> tuple[str, ...]:
    value = raw.get(key)
    values = [] if value is None else value
    if not isinstance(values, list) or not all(isinstance(one, str) for one in values):
        raise ArchiveError(f"{where}, {key}: expected a list of texts, found {value!r:.80}")
    return tuple(_checked(one, key, where) for one in values)


def _metadata(raw: Mapping[str, Any], where: str) -> Mapping[str, Any]:
    value = raw.get("metadata")
    metadata = {} if value is None else value
    if not isinstance(metadata, dict):
        raise ArchiveError(f"{where}, metadata: expected an object, found {value!r:.80}")
    if reserved := [key for key in RESERVED if key in metadata]:
        raise ArchiveError(f"{where}, metadata: {', '.join(reserved)} is written by the index itself; rename it")
    try:
        _checked(json.dumps(metadata, ensure_ascii=False, allow_nan=False), "metadata", where)
    except (TypeError, ValueError) as error:
        raise ArchiveError(f"{where}, metadata: expected JSON values, found another kind ({error})") from error
    return metadata


def _checked(text: str, key: str, where: str) -> str:
    if len(text) > MAX_TEXT_CHARS:
        raise ArchiveError(f"{where}, {key}: expected at most {MAX_TEXT_CHARS:,} characters, found {len(text):,}")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ArchiveError(f"{where}, {key}: half a surrogate pair is no character; write it as UTF-8") from error
    return text

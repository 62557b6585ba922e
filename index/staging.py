"""Items on their way into a generation: taken in any order, laid out in item-id order, on disk in between."""

import json
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from index.errors import InvalidItem
from index.filters import FieldType, Kind, Scalar, field_type, is_unicode, kind_of, plain_values
from index.item_file import JSON, SCHEMA
from index.manifest import MODALITIES, PAIR
from index.presence import Presence

STAGING_SCHEMA = """
CREATE TABLE staging.arrivals (
    arrival INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, content_hash TEXT NOT NULL, text TEXT, metadata TEXT NOT NULL
);
CREATE TABLE staging.codes (
    arrival INTEGER, modality TEXT, codes BLOB NOT NULL, presence INTEGER NOT NULL, PRIMARY KEY (arrival, modality)
) WITHOUT ROWID;
CREATE TABLE staging.facets (arrival INTEGER, field INTEGER, kind INTEGER, value);
CREATE TABLE staging.ranks (row INTEGER PRIMARY KEY, arrival INTEGER NOT NULL UNIQUE);
"""
LAY_OUT = """
INSERT INTO staging.ranks SELECT row_number() OVER (ORDER BY id) - 1, arrival FROM staging.arrivals;
INSERT INTO items
    SELECT row, id, content_hash, text, metadata, thumbnail
    FROM staging.ranks CROSS JOIN staging.arrivals USING (arrival) LEFT JOIN thumbnails ON thumbnail = arrival
    ORDER BY row;
CREATE INDEX items_by_content ON items (content_hash);
INSERT OR IGNORE INTO facets
    SELECT field, kind, value, row FROM staging.facets JOIN staging.ranks USING (arrival)
    ORDER BY field, kind, value, row;
"""


@dataclass(frozen=True, slots=True)
class IndexedItem:
    """One item with its codes, ready to be written."""

    id: str
    content_hash: str  # of what the codes were made from
    text: str | None
    metadata: Mapping[str, JSON]
    thumbnail: bytes | None  # WebP
    codes: Mapping[str, NDArray[np.uint8]]  # modality -> (n, bits / 8), n above 1 for several texts
    presence: Presence = Presence.NONE  # what the pair codes were made from


class Staging:
    """Builds ``items.sqlite``; what is only needed while building lives in a second file that ``close`` deletes."""

    def __init__(self, path: Path, bits: int) -> None:
        self.items = 0
        self.thumbnail_bytes = 0
        self.modalities: set[str] = set()
        self._bits = bits
        self._fields: dict[str, int] = {}
        self._kinds: dict[str, set[Kind]] = {}
        self._scratch = path.with_name("staging.sqlite")
        self._connection = sqlite3.connect(path, isolation_level=None)
        # a crash throws the whole directory away, so SQLite's own durability would only cost time
        self._connection.execute("PRAGMA journal_mode = OFF")
        self._connection.execute("PRAGMA synchronous = OFF")
        self._connection.execute("ATTACH ? AS staging", (str(self._scratch),))
        self._connection.executescript(f"PRAGMA staging.journal_mode = OFF; {SCHEMA} {STAGING_SCHEMA} BEGIN;")

    def add(self, item: IndexedItem) -> None:
        """Take one item.

        Raises:
            InvalidItem: repeated id, wrong code width, pair codes that do not say what they were made from, or metadata
                that is not JSON.
        """
        metadata = checked_metadata(item)
        codes = {name: checked_codes(item, name, codes, self._bits) for name, codes in item.codes.items()}
        presence = checked_presence(item)
        arrival = self.items
        try:
            self._connection.execute(
                "INSERT INTO staging.arrivals VALUES (?, ?, ?, ?, ?)",
                (arrival, item.id, item.content_hash, item.text, metadata),
            )
        except sqlite3.IntegrityError as error:
            raise InvalidItem(f"expected every item id once, found {item.id!r:.200} again; ids must differ") from error
        if item.thumbnail is not None:
            self._connection.execute("INSERT INTO thumbnails VALUES (?, ?)", (arrival, item.thumbnail))
            self.thumbnail_bytes += len(item.thumbnail)
        self._connection.executemany(
            "INSERT INTO staging.codes VALUES (?, ?, ?, ?)",
            [(arrival, name, blob, presence if name == PAIR else 0) for name, blob in codes.items() if blob],
        )
        self._connection.executemany("INSERT INTO staging.facets VALUES (?, ?, ?, ?)", self._facets(arrival, item))
        self.modalities.update(name for name, blob in codes.items() if blob)
        self.items += 1

    def lay_out(self) -> dict[str, FieldType]:
        """Give every item its row; returns the type of each metadata field."""
        self._connection.executemany("INSERT INTO fields VALUES (?, ?)", [(f, n) for n, f in self._fields.items()])
        self._connection.executescript(LAY_OUT)
        return {name: field_type(kinds) for name, kinds in sorted(self._kinds.items())}

    def codes(self, modality: str) -> Iterator[tuple[int, bytes, int]]:
        """Each item's row, its packed codes one after the other, and their presence, by row; items that have any."""
        select = (
            "SELECT row, codes, presence FROM staging.ranks CROSS JOIN staging.codes USING (arrival) "
            "WHERE modality = ? ORDER BY row"
        )
        with closing(self._connection.execute(select, (modality,))) as found:
            yield from found

    def close(self) -> None:
        """Close both files and delete the scratch one."""
        self._connection.close()
        self._scratch.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _facets(self, arrival: int, item: IndexedItem) -> Iterator[tuple[int, int, int, Scalar]]:
        for name, value in item.metadata.items():
            field = self._fields.setdefault(name, len(self._fields))
            kinds = self._kinds.setdefault(name, set())
            for element in plain_values(value):
                kind = kind_of(element)
                kinds.add(kind)
                yield arrival, field, kind, element


def checked_metadata(item: IndexedItem) -> str:
    """The metadata as JSON text; everything that SQLite must hold as text is looked at here.

    Raises:
        InvalidItem: metadata that is not JSON, text that is not Unicode, or an empty id.
    """
    try:
        metadata = json.dumps(item.metadata, sort_keys=True, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidItem(
            f"expected JSON values as metadata of item {item.id!r:.200}, found others: {error}"
        ) from error
    texts = (item.id, item.content_hash, item.text or "", metadata)
    if not item.id or not all(map(is_unicode, texts)):
        raise InvalidItem(f"expected Unicode text and an id that is not empty, found item {item.id!r:.200}")
    return metadata


def checked_codes(item: IndexedItem, modality: str, codes: NDArray[np.uint8], bits: int) -> bytes:
    """The codes of one modality, one after the other.

    Raises:
        InvalidItem: an unknown modality, or codes of another shape or type.
    """
    if modality not in MODALITIES:
        raise InvalidItem(f"expected modalities among {', '.join(MODALITIES)}, found {modality!r} in {item.id!r:.200}")
    if codes.dtype != np.uint8 or codes.ndim != 2 or codes.shape[1] * 8 != bits:
        raise InvalidItem(
            f"expected {modality} codes of {bits} bits as uint8 (n, {bits // 8}) in item {item.id!r:.200}, "
            f"found {codes.dtype} {codes.shape}"
        )
    return codes.tobytes()


def checked_presence(item: IndexedItem) -> Presence:
    """What the pair codes were made from.

    Raises:
        InvalidItem: there are pair codes and it is not said, or there are none and it is.
    """
    has_pair = len(item.codes.get(PAIR, ())) > 0
    if has_pair != bool(item.presence):
        found = "pair codes of unknown parts; rebuild the index" if has_pair else "a presence without pair codes"
        raise InvalidItem(f"expected pair codes together with their presence in item {item.id!r:.200}, found {found}")
    return item.presence

"""Reading the items of a generation and its delta as one: by id, by row, or all of them."""

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from index.codes import to_hex
from index.delta import Delta
from index.errors import ItemNotFound
from index.generation import Generation
from index.item_file import JSON, Record
from index.manifest import PAIR
from index.originals import Originals
from index.presence import Presence, PresenceCounts, count_presence
from index.records import Append, Delete
from index.staging import IndexedItem

Codes: TypeAlias = Mapping[str, NDArray[np.uint8]]  # modality -> (n, bits / 8)


@dataclass(frozen=True, slots=True)
class StoredItem:
    """One item as it was written; its thumbnail is read on its own."""

    row: int
    id: str
    content_hash: str
    text: str | None
    metadata: Mapping[str, JSON]
    codes: Mapping[str, list[str]]  # modality -> hex codes; only modalities that the item has
    has_thumbnail: bool
    presence: Presence  # what the pair codes were made from


class LiveItems:
    """The items that are there; the rows of the delta's follow those of the generation."""

    def __init__(self, generation: Generation, delta: Delta, originals: Originals) -> None:
        self._generation = generation
        self._delta = delta
        self._originals = originals

    def row_of(self, item_id: str) -> int:
        """The row of an item.

        Raises:
            ItemNotFound: there is no such item.
        """
        record = self._delta.records.get(item_id)
        if record is None:
            return self._generation.items.row_of(item_id)
        row = self._delta.row_of(item_id)
        if row is not None:
            return self._delta.first_row + row
        reason = "was deleted" if isinstance(record, Delete) else "waits to be encoded by the index's model"
        raise ItemNotFound(f"expected the id of an item of the index, found {item_id!r:.200}, which {reason}")

    def has(self, item_id: str) -> bool:
        """Whether there is an item of that id, be it one that waits to be encoded."""
        record = self._delta.records.get(item_id)
        if record is not None:
            return isinstance(record, Append)
        try:
            self._generation.items.row_of(item_id)
        except ItemNotFound:
            return False
        return True

    def of_rows(self, rows: Sequence[int]) -> list[StoredItem]:
        """The items of these rows, in the order asked for."""
        first = self._delta.first_row
        written = {row: row for row in rows if row < first}
        records = dict(zip(written, self._generation.items.records(list(written)), strict=True))
        return [self._written(records[row]) if row < first else self._appended(row) for row in rows]

    def everything(self) -> Generator[IndexedItem]:
        """Every item with its codes and thumbnail, in no particular order."""
        gone = set(self._delta.gone.tolist())
        for record, webp in self._generation.items.everything():
            if record.row not in gone:
                codes, presence = self.codes(record.row), self._presence(record.row)
                yield IndexedItem(record.id, record.content_hash, record.text, record.metadata(), webp, codes, presence)
        for item in self._delta.items:
            webp = None if item.thumbnail is None else self._originals.read(item.thumbnail)
            codes = self._unpacked(item)
            yield IndexedItem(item.id, item.content_hash, item.text, item.metadata, webp, codes, item.presence)

    def thumbnail(self, row: int, item_id: str) -> bytes | None:
        """The thumbnail of the item of this row and id, none where it has no image."""
        if row < self._delta.first_row:
            return self._generation.items.thumbnail(item_id)
        digest = self._delta.items[row - self._delta.first_row].thumbnail
        return None if digest is None else self._originals.read(digest)

    def codes(self, row: int) -> Codes:
        """The codes of one item; only modalities that it has."""
        if row >= self._delta.first_row:
            return self._unpacked(self._delta.items[row - self._delta.first_row])
        codes = {modality: column.codes_of(row) for modality, column in self._generation.columns.items()}
        return {modality: found for modality, found in codes.items() if len(found)}

    def codes_by_content(self) -> Callable[[str], Codes | None]:
        """A function from content hash to the codes of an item with that content, none where there is none."""
        appended = {item.content_hash: item for item in self._delta.items}

        def codes_of_content(content_hash: str) -> Codes | None:
            if content_hash in appended:
                return self._unpacked(appended[content_hash])
            row = self._generation.items.row_with_content(content_hash)
            return None if row is None else self.codes(row)

        return codes_of_content

    def presence_counts(self) -> PresenceCounts:
        """The items of the pair column by what their codes were made from."""
        counts = count_presence(np.empty(0, dtype=np.uint8))
        written, added = self._generation.columns.get(PAIR), self._delta.columns.get(PAIR)
        if written is not None:
            counts = written.presence_counts - count_presence(written.presence_of(self._delta.gone_from[PAIR].rows))
        return PresenceCounts.of(counts if added is None else counts + added.presence_counts)

    def _presence(self, row: int) -> Presence:
        """Of an item of the generation."""
        column = self._generation.columns.get(PAIR)
        if column is None or not len(column.codes_of(row)):
            return Presence.NONE
        return Presence(int(column.presence_of(np.array([row]))[0]))

    def _unpacked(self, item: Append) -> Codes:
        return unpacked(item.codes, self._generation.manifest.bits)

    def _written(self, record: Record) -> StoredItem:
        return StoredItem(
            row=record.row,
            id=record.id,
            content_hash=record.content_hash,
            text=record.text,
            metadata=record.metadata(),
            codes=self._hex(record.row),
            has_thumbnail=bool(record.has_thumbnail),
            presence=self._presence(record.row),
        )

    def _appended(self, row: int) -> StoredItem:
        item = self._delta.items[row - self._delta.first_row]
        return StoredItem(
            row=row,
            id=item.id,
            content_hash=item.content_hash,
            text=item.text,
            metadata=item.metadata,
            codes=self._hex(row),
            has_thumbnail=item.thumbnail is not None,
            presence=item.presence,
        )

    def _hex(self, row: int) -> Mapping[str, list[str]]:
        return {modality: [to_hex(code) for code in codes] for modality, codes in self.codes(row).items()}


def unpacked(codes: Mapping[str, bytes], bits: int) -> Codes:
    """The codes of a record of the log, only modalities that it has."""
    arrays = {name: np.frombuffer(packed, dtype=np.uint8) for name, packed in sorted(codes.items())}
    return {name: packed.reshape(-1, bits // 8) for name, packed in arrays.items() if len(packed)}

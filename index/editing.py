"""Appending and deleting items of an index: in the log, durably, before the call returns."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

from index.edit_log import EditLog
from index.errors import InvalidItem, ItemNotFound, ModelMismatch, TooManyEdits
from index.generations import IndexDirectory
from index.item_file import JSON
from index.lock import WAIT_S, writing
from index.originals import Originals
from index.records import Append, Delete, Record
from index.snapshot import Snapshot
from index.staging import IndexedItem, checked_codes, checked_metadata, checked_presence

DOCUMENT_FORMAT = 1
MAX_EDITS = 200_000  # items whose edits wait to be merged; every opened index holds them in memory


@dataclass(frozen=True, slots=True)
class NewItem:
    """An item to append: encoded, and what it was encoded from, for a later model to encode again."""

    item: IndexedItem
    image: bytes | None  # the image file
    document: Mapping[str, JSON]  # all else: texts, labels, metadata


class Editor:
    """The only writer of an index while its ``with`` block lasts; ``editing`` makes one."""

    def __init__(self, index_dir: Path, snapshot: Snapshot) -> None:
        self._log = EditLog(index_dir)
        self._originals = Originals(index_dir)
        self._snapshot = snapshot
        self._end = snapshot.end
        self._edits = snapshot.edits
        self._is_there: dict[str, bool] = {}  # as changed by this editor

    @property
    def position(self) -> int:
        """Position in the log of the last edit."""
        return self._end.position

    def append(self, items: Sequence[NewItem], *, fingerprint: str) -> int:
        """Add items, each replacing the one of its id if there is one: all of them or none; returns the position.

        ``fingerprint`` is that of the model which made the codes.

        Raises:
            ModelMismatch: the index was built by another model.
            InvalidItem: wrong code width, pair codes that do not say what they were made from, metadata that is not
                JSON, or too much for one call.
            TooManyEdits: merge those that there are first.
            OSError: the disk is full or fails; nothing was appended.
        """
        manifest = self._snapshot.manifest
        if fingerprint != manifest.fingerprint:
            raise ModelMismatch(manifest.fingerprint, fingerprint)
        prepared = [_prepare(new, manifest.bits, fingerprint) for new in items]
        return self._write([record for record, _ in prepared], [blob for _, blobs in prepared for blob in blobs])

    def delete(self, ids: Sequence[str]) -> int:
        """Delete items: all of them or none; returns the position.

        Raises:
            ItemNotFound: one of them is not there.
            TooManyEdits: merge those that there are first.
            OSError: the disk is full or fails; nothing was deleted.
        """
        missing = [item_id for item_id in ids if not self._has(item_id)]
        if missing:
            raise ItemNotFound(
                f"expected ids of items of the index, found {', '.join(map(repr, missing[:3]))!s:.300}"
                f"{f' and {len(missing) - 3} more' if len(missing) > 3 else ''} that it does not have; nothing changed"
            )
        return self._write([Delete(0, item_id) for item_id in dict.fromkeys(ids)], [])

    def _write(self, records: Sequence[Record], blobs: Sequence[bytes]) -> int:
        if not records:
            return self.position
        if self._edits + len(records) > MAX_EDITS:
            raise TooManyEdits(
                f"expected at most {MAX_EDITS:,} edits that wait to be merged, found {self._edits:,} and "
                f"{len(records):,} more; rebuild the index or run `crossbit index compact` first"
            )
        self._originals.keep(blobs)  # before the record that names them
        numbered = [replace(record, position=self.position + n) for n, record in enumerate(records, start=1)]
        self._end = self._log.write(self._end, numbered)
        self._edits += len(records)
        self._is_there |= {record.id: isinstance(record, Append) for record in records}
        return self.position

    def _has(self, item_id: str) -> bool:
        return self._is_there[item_id] if item_id in self._is_there else self._snapshot.has(item_id)


@contextmanager
def editing(index_dir: Path, *, wait_s: float = WAIT_S, known: Snapshot | None = None) -> Iterator[Editor]:
    """The editor of an index's active generation; swaps and other editors wait until the block ends.

    ``known``, a state of the index that the caller keeps open, spares reading what it holds already.

    Raises:
        IndexLocked: another writer is at work.
        IndexNotFound, IndexCorrupt, IndexFormatUnsupported: as for ``Snapshot.open``.
    """
    with writing(index_dir, wait_s=wait_s), _state(index_dir, known) as snapshot:
        yield Editor(index_dir, snapshot)


def _state(index_dir: Path, known: Snapshot | None) -> AbstractContextManager[Snapshot]:
    """The index as it is, read as far as it is not known."""
    current = IndexDirectory(index_dir).current()
    if known is None or current is None:
        return Snapshot.open(index_dir, engine="numpy", verify=False)
    if (current.generation, current.fingerprint) != (known.generation, known.manifest.fingerprint):
        return Snapshot.open(index_dir, engine="numpy", verify=False)
    return known.newer() or nullcontext(known)


def _prepare(new: NewItem, bits: int, fingerprint: str) -> tuple[Append, list[bytes]]:
    """The record of an item, without its position, and the contents that it names."""
    item = new.item
    metadata = json.loads(checked_metadata(item))
    codes = {name: checked_codes(item, name, codes, bits) for name, codes in item.codes.items()}
    image = None if new.image is None else _digest(new.image)
    document = _document(new, image)
    contents = [content for content in (document, new.image, item.thumbnail) if content is not None]
    record = Append(
        position=0,
        id=item.id,
        fingerprint=fingerprint,
        content_hash=item.content_hash,
        text=item.text,
        metadata=metadata,
        codes={name: packed for name, packed in codes.items() if packed},
        original=_digest(document),
        image=image,
        thumbnail=None if item.thumbnail is None else _digest(item.thumbnail),
        presence=checked_presence(item),
    )
    return record, contents


def _document(new: NewItem, image: str | None) -> bytes:
    raw = {**new.document, "format": DOCUMENT_FORMAT, "image": image}
    try:
        return json.dumps(raw, sort_keys=True, ensure_ascii=False, allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidItem(f"expected JSON as the document of item {new.item.id!r:.200}: {error}") from error


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()

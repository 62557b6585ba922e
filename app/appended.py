"""Appended items, encoded again from what the index keeps of them: by another model, or to check their codes."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from PIL.Image import Image

from app.building import Shard, hashed_text, in_batches
from app.item_codes import Parts, encode_parts, presence_of
from app.jobs import Skipped
from index.edit_log import EditLog
from index.errors import IndexCorrupt
from index.live_items import Codes, unpacked
from index.originals import Originals
from index.records import Append
from index.staging import IndexedItem
from model.errors import ImageError
from model.hasher import Hasher
from model.images import decode_image
from model.items import content_hash


@dataclass(frozen=True, slots=True)
class _Inputs:
    """One item, read."""

    record: Append
    parts: Parts[Image]
    thumbnail: bytes | None
    known: Codes | None


@dataclass(frozen=True, slots=True)
class AppendedItems:
    """Makes indexed items of records of the log, with codes of one hasher."""

    index_dir: Path
    hasher: Hasher
    reuse: bool = True  # codes that the hasher's model made already
    workers: int = 2

    def encode(self, items: Sequence[Append], *, progress: Callable[[int], None]) -> Shard:
        """Encode items, in order; see ``in_batches``.

        Raises:
            IndexCorrupt: what an item was made from is missing or altered.
        """
        return in_batches(items, self._encode_batch, workers=self.workers, progress=progress)

    def _encode_batch(self, records: Sequence[Append]) -> Shard:
        inputs: list[_Inputs] = []
        skipped: list[Skipped] = []
        for record in records:
            try:
                inputs.append(self._read(record))
            except ImageError as error:
                skipped.append(Skipped(record.id, str(error)))
            except IndexCorrupt:
                if not self._is_outdated(record):
                    raise
                skipped.append(Skipped(record.id, "replaced or deleted during the rebuild, which counts instead"))
        fresh = iter(encode_parts(self.hasher, [one.parts for one in inputs if one.known is None]))
        built = tuple(_indexed(one, next(fresh) if one.known is None else one.known) for one in inputs)
        return Shard(built, tuple(skipped), reused=sum(one.known is not None for one in inputs))

    def _read(self, record: Append) -> _Inputs:
        originals = Originals(self.index_dir)
        webp = None if record.thumbnail is None else originals.read(record.thumbnail)
        if self.reuse and record.fingerprint == self.hasher.fingerprint:
            return _Inputs(record, Parts(None, ()), webp, unpacked(record.codes, self.hasher.bits))
        data = None if record.image is None else originals.read(record.image)
        image = None if data is None else decode_image(data, max_pixels=sys.maxsize)  # it was accepted once
        return _Inputs(record, Parts(image, _texts_of(record, data)), webp, None)

    def _is_outdated(self, record: Append) -> bool:
        """Whether the item was replaced or deleted since; its originals may have gone with the next compaction."""
        last = next((one for one in reversed(EditLog(self.index_dir).read().records) if one.id == record.id), None)
        return not isinstance(last, Append) or last.original != record.original


def with_codes(records: Sequence[Append], items: Sequence[IndexedItem], fingerprint: str) -> list[Append]:
    """The records of these items, with the codes that a model made of them."""
    by_id = {record.id: record for record in records}
    return [
        replace(
            by_id[item.id],
            fingerprint=fingerprint,
            codes={modality: codes.tobytes() for modality, codes in item.codes.items()},
            presence=item.presence,
        )
        for item in items
    ]


def _texts_of(record: Append, image: bytes | None) -> tuple[str, ...]:
    """The texts that the item's codes were made from: the hash of its content says whether those are several."""
    several = record.metadata.get("texts")
    if isinstance(several, Sequence) and all(isinstance(text, str) for text in several):
        texts = tuple(str(text) for text in several)
        if content_hash(image, hashed_text(texts)) == record.content_hash:
            return texts
    return () if record.text is None else (record.text,)


def _indexed(one: _Inputs, codes: Codes) -> IndexedItem:
    record = one.record
    return IndexedItem(
        id=record.id,
        content_hash=record.content_hash,
        text=record.text,
        metadata=record.metadata,
        thumbnail=one.thumbnail,
        codes=codes,
        presence=presence_of(codes, image=record.image is not None, text=record.text is not None),
    )

"""Items of a source and a hasher in, indexed items out: the one place where `index build` and the rebuild encode.

A code depends on its own input only, so batches, threads and reuse change the speed and never a bit.
"""

import io
import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol, TypeVar

from PIL import Image

from app.item_codes import Parts, encode_parts, modalities_of, presence_of
from app.jobs import RebuildFailed, Skipped, TooManyBadItems
from index.codes import to_hex
from index.live_items import Codes
from index.snapshot import Snapshot
from index.writer import IndexedItem
from model.bulk import is_visible
from model.errors import ArchiveError, ImageError
from model.hasher import Hasher
from model.images import decode_image
from model.items import Item, ItemArchive, content_hash

SHARD_ITEMS = 256  # items between two checkpoints of a rebuild
BATCH_ITEMS = 32  # at most, and LAST_ITEMS at least
LAST_ITEMS = 8
THUMBNAIL_PX = 256
SAMPLE_ITEMS = 16  # encoded once more to check a generation

T = TypeVar("T")
Encodable = TypeVar("Encodable", contravariant=True)


class Texts(StrEnum):
    """Which texts of an item's headline caption variant get a code."""

    FIRST = "first"
    ALL = "all"


@dataclass(frozen=True, slots=True)
class Shard:
    """What became of some items."""

    items: tuple[IndexedItem, ...]  # in the order of the items that were given
    skipped: tuple[Skipped, ...]
    reused: int  # items whose codes were known

    def __add__(self, other: "Shard") -> "Shard":
        return Shard(self.items + other.items, self.skipped + other.skipped, self.reused + other.reused)


@dataclass(frozen=True, slots=True)
class _Inputs:
    """One item, read: what its codes are made from, or the codes it already has."""

    item: Item
    texts: tuple[str, ...]
    content_hash: str
    thumbnail: bytes | None
    image: Image.Image | None  # decoded only where it has to be encoded
    known: Codes | None


@dataclass(frozen=True)
class Builder:
    """Reads, decodes and encodes items of one archive with one hasher."""

    archive: ItemArchive
    hasher: Hasher
    texts: Texts = Texts.FIRST
    known_codes: Callable[[str], Codes | None] | None = None  # by content hash, of the same model and ``texts``
    workers: int = 2

    def encode(self, items: Sequence[Item], *, progress: Callable[[int], None]) -> Shard:
        """Encode items, in order; see ``in_batches``."""
        return in_batches(items, self._encode_batch, workers=self.workers, progress=progress)

    def _encode_batch(self, items: Sequence[Item]) -> Shard:
        inputs: list[_Inputs] = []
        skipped: list[Skipped] = []
        for item in items:
            try:
                inputs.append(self._read(item))
            except (ArchiveError, ImageError) as error:
                skipped.append(Skipped(item.id, str(error)))
        fresh = iter(encode_parts(self.hasher, [Parts(one.image, one.texts) for one in inputs if one.known is None]))
        built = tuple(self._indexed(one, next(fresh) if one.known is None else one.known) for one in inputs)
        return Shard(built, tuple(skipped), reused=sum(one.known is not None for one in inputs))

    def _read(self, item: Item) -> _Inputs:
        data = self.archive.read_image(item) if item.image is not None else None
        texts = self._texts_of(item)
        if data is None and not texts:
            raise ArchiveError("the item has neither an image nor a text")
        digest = content_hash(data, hashed_text(texts))
        known = self._known(digest, image=data is not None, text=bool(texts))
        image = decode_image(data) if data is not None and known is None else None
        small = None if data is None else thumbnail(data, image)
        return _Inputs(item, texts, digest, small, image, known)

    def _texts_of(self, item: Item) -> tuple[str, ...]:
        headline = self.archive.info.captions[:1]
        texts = tuple(text for variant in headline for text in item.texts.get(variant, ()) if is_visible(text))
        return texts if self.texts is Texts.ALL else texts[:1]

    def _known(self, digest: str, *, image: bool, text: bool) -> Codes | None:
        wanted = modalities_of(self.hasher.modalities, image=image, text=text)
        codes = None if self.known_codes is None else self.known_codes(digest)
        return codes if codes is not None and set(codes) == wanted else None

    def _indexed(self, one: _Inputs, codes: Codes) -> IndexedItem:
        metadata = {**one.item.metadata, "labels": list(one.item.labels)}
        if self.texts is Texts.ALL:
            metadata["texts"] = list(one.texts)
        text = one.texts[0] if one.texts else None
        return IndexedItem(
            id=one.item.id,
            content_hash=one.content_hash,
            text=text,
            metadata=metadata,
            thumbnail=one.thumbnail,
            codes=codes,
            presence=presence_of(codes, image=one.thumbnail is not None, text=text is not None),
        )


def in_batches(
    items: Sequence[T], encode: Callable[[Sequence[T]], Shard], *, workers: int, progress: Callable[[int], None]
) -> Shard:
    """Encode items in batches, in order; ``progress`` hears how many were handled since it was last called.

    An exception out of ``progress`` stops the work within a batch per worker.
    """
    built: list[IndexedItem] = []
    skipped: list[Skipped] = []
    reused = 0
    batches = list(_batches(items, workers))
    with ThreadPoolExecutor(workers, thread_name_prefix="build") as pool:
        for batch, shard in zip(batches, pool.map(encode, batches), strict=True):
            built += shard.items
            skipped += shard.skipped
            reused += shard.reused
            progress(len(batch))
    return Shard(tuple(built), tuple(skipped), reused)


def _batches(items: Sequence[T], workers: int) -> Iterator[Sequence[T]]:
    """Smaller ones towards the end: there every other thread waits for the last batch."""
    start = 0
    while start < len(items):
        fair = -(-(len(items) - start) // (2 * workers))
        stop = start + min(BATCH_ITEMS, max(LAST_ITEMS, fair))
        yield items[start:stop]
        start = stop


def check_skipped(skipped: Sequence[Skipped], total: int, *, max_share: float) -> None:
    """Refuse to go on when more than ``max_share`` of the items were bad: the source is broken, not a few of its items.

    Raises:
        TooManyBadItems: with the first reasons.
    """
    if len(skipped) > max_share * total:
        reasons = "; ".join(f"{one.id}: {one.reason}" for one in skipped[:3])
        raise TooManyBadItems(
            f"expected at most {max_share:.0%} of {total:,} items to be bad, found {len(skipped):,} ({reasons}); "
            "repair the source, or set CROSSBIT_MAX_BAD_SHARE, then start again"
        )


class Encoder(Protocol[Encodable]):
    """What encodes items of one kind: ``Builder``, or ``app.appended.AppendedItems``."""

    def encode(self, items: Sequence[Encodable], *, progress: Callable[[int], None]) -> Shard:
        """Encode items, in order."""


def check_sample(snapshot: Snapshot, encoder: Encoder[T], items: Sequence[T]) -> None:
    """Encode a few of the items again and compare with the stored codes, bit by bit.

    Raises:
        RebuildFailed: a code differs.
    """
    sample = items[:: max(1, len(items) // SAMPLE_ITEMS)][:SAMPLE_ITEMS]
    for item in encoder.encode(sample, progress=lambda _: None).items:
        made = {modality: [to_hex(code) for code in codes] for modality, codes in item.codes.items()}
        stored = snapshot.item(item.id)
        if (stored.codes, stored.presence) != (made, item.presence):
            raise RebuildFailed(
                f"item {item.id} of generation {snapshot.generation}: expected the codes {made} "
                f"({item.presence.name}), found {stored.codes} ({stored.presence.name}); build again without reuse"
            )


def thumbnail(data: bytes, image: Image.Image | None = None) -> bytes:
    """A WebP of at most ``THUMBNAIL_PX`` a side; a plain small WebP file is returned as it is.

    ``image`` is the decoded file where the caller has it.

    Raises:
        ImageError: ``data`` has to be decoded and cannot be.
    """
    if _is_small_webp(data):
        return data
    small = (image or decode_image(data)).copy()
    small.thumbnail((THUMBNAIL_PX, THUMBNAIL_PX), Image.Resampling.HAMMING)
    buffer = io.BytesIO()
    small.save(buffer, "WEBP", quality=80, method=2)  # 4 takes twice the time and saves 4 % of the bytes
    return buffer.getvalue()


def hashed_text(texts: Sequence[str]) -> str | None:
    """What of an item's texts goes into its content hash."""
    if len(texts) < 2:
        return texts[0] if texts else None
    return json.dumps(list(texts), ensure_ascii=False)


def _is_small_webp(data: bytes) -> bool:
    try:
        with Image.open(io.BytesIO(data), formats=["WEBP"]) as image:
            plain = getattr(image, "n_frames", 1) == 1 and not image.getexif()
            return plain and max(image.size) <= THUMBNAIL_PX
    except OSError:
        return False

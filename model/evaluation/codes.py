"""``CodeSet``: the codes of queries and database with their labels, which is all that an evaluation needs.

Codes come from a ``Hasher``, which never sees a label; labels are read here and used afterwards, to say what is
relevant: items that share at least one. ``docs/results.md`` describes the protocols.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import partial
from itertools import product
from typing import Self

import numpy as np
from numpy.typing import NDArray
from PIL.Image import Image

from model.errors import ArchiveError, ImageError, ModalityError
from model.hasher import EncodedBatch, Hasher, Modality
from model.images import decode_image
from model.items import Item, ItemArchive, caption, multi_hot, pairs

SHARD = 64  # items encoded by one call
Encode = Callable[[Sequence[Item], Sequence[Image], Sequence[str]], Mapping[Modality, EncodedBatch]]


class Protocol(StrEnum):
    """How test codes are made; no table mixes two."""

    LONE = "lone"  # each code from one modality, no label: the headline
    PAIRED = "paired"  # at least one side fuses an item's own image and text, no label
    ORACLE = "oracle"  # with the true labels as input, as published: reproduction only
    KEYWORDS = "keywords"  # the query's true labels as names of classes, against lone codes: no lone figure
    ELSEWHERE = "elsewhere"  # by another program: nobody here knows what its encoder saw


@dataclass(frozen=True, slots=True)
class Skipped:
    """An item that could not be encoded, and why."""

    id: str
    reason: str


@dataclass(frozen=True, slots=True)
class CodeSet:
    """Packed codes (bit j at byte j // 8, position j % 8), margins, labels and names of both sides, row for row."""

    bits: int
    protocol: Protocol
    captions: str  # caption variant; "" where the codes were made elsewhere
    queries: Mapping[Modality, NDArray[np.uint8]]  # (Q, bits / 8) each
    database: Mapping[Modality, NDArray[np.uint8]]  # (N, bits / 8) each
    query_labels: NDArray[np.bool_]  # (Q, C)
    database_labels: NDArray[np.bool_]  # (N, C)
    unseen: NDArray[np.bool_]  # (N,), database rows that were not trained on; none where that is not known
    order: NDArray[np.int64]  # (N,), each database row's position in the data set's seeded shuffle
    query_ids: tuple[str, ...]
    database_ids: tuple[str, ...]
    query_margins: Mapping[Modality, NDArray[np.float32]]  # (Q, bits) each; empty where no hasher made the codes
    database_margins: Mapping[Modality, NDArray[np.float32]]
    skipped: tuple[Skipped, ...] = ()

    @property
    def directions(self) -> dict[str, tuple[Modality, Modality]]:
        """Name -> query and database modality, of those that the protocol covers."""
        both = product(sorted(self.queries), sorted(self.database))
        covered = [sides for sides in both if self._covers(sides)]
        named = self.protocol is Protocol.KEYWORDS  # not by the modality: these queries are no text of an item
        return {f"{'keywords' if named else source}_to_{target}": (source, target) for source, target in covered}

    def paired(self) -> Self:
        """The same codes under the ``paired`` protocol.

        Raises:
            ModalityError: there are no fused codes.
        """
        if Modality.PAIR not in self.database:
            raise ModalityError(
                "expected a method that fuses image and text for the paired protocol, found codes of "
                f"{', '.join(sorted(self.database))}; evaluate it under the lone protocol"
            )
        return replace(self, protocol=Protocol.PAIRED)

    def _covers(self, sides: tuple[Modality, Modality]) -> bool:
        match self.protocol:
            case Protocol.LONE:
                return Modality.PAIR not in sides
            case Protocol.PAIRED:
                return Modality.PAIR in sides
        return True


def encode_codes(
    hasher: Hasher,
    archive: ItemArchive,
    *,
    captions: str | None = None,
    workers: int = 2,
    advance: Callable[[int], None] = lambda items: None,
) -> CodeSet:
    """Lone codes of query and database items, with fused ones beside them where the method fuses.

    ``captions`` defaults to the headline variant. Items that cannot be decoded are left out and listed.

    Raises:
        ArchiveError: the data set has no query split, no labels, or no item of a side could be encoded.
    """
    (codes,) = encode_lengths([hasher], archive, captions=captions, workers=workers, advance=advance)
    return codes


def encode_lengths(
    hashers: Sequence[Hasher],
    archive: ItemArchive,
    *,
    captions: str | None = None,
    workers: int = 2,
    advance: Callable[[int], None] = lambda items: None,
) -> list[CodeSet]:
    """``encode_codes`` by one model at several lengths (``load_hashers``): each item is decoded once."""
    encodes = [(hasher.bits, partial(_encode_lone, hasher)) for hasher in hashers]
    return encode_with(encodes, Protocol.LONE, archive, captions=captions, workers=workers, advance=advance)


def _encode_lone(
    hasher: Hasher, items: Sequence[Item], images: Sequence[Image], texts: Sequence[str]
) -> dict[Modality, EncodedBatch]:
    batches = {Modality.IMAGE: hasher.encode_images(images), Modality.TEXT: hasher.encode_texts(texts)}
    if Modality.PAIR in hasher.modalities:
        batches[Modality.PAIR] = hasher.encode_pairs(images, texts)
    return batches


def encode_with(
    encodes: Sequence[tuple[int, Encode]],
    protocol: Protocol,
    archive: ItemArchive,
    *,
    captions: str | None,
    workers: int,
    advance: Callable[[int], None],
    shard: int = SHARD,
) -> list[CodeSet]:
    """``encode_lengths`` with any encoders of ``shard`` items a call, each with its code length.

    Images are decoded by ``workers`` threads.
    """
    captions = captions or archive.info.captions[0]
    sides = evaluated_items(archive, captions)
    skipped: list[Skipped] = []
    encoders = [encode for _, encode in encodes]
    queries, database = (
        _encode_side(_shards(side, shard), archive, captions, encoders, skipped, workers, advance) for side in sides
    )
    if not queries.items or not database.items:
        raise ArchiveError(
            f"{archive.info.name}: expected queries and database items that can be encoded, found {len(skipped):,} "
            f"that cannot; the first, {skipped[0].id}: {skipped[0].reason}"
        )
    names = archive.info.class_names
    query_labels, database_labels = (multi_hot(side.items, names).astype(np.bool_) for side in (queries, database))
    return [
        CodeSet(
            bits=bits,
            protocol=protocol,
            captions=captions,
            queries=query.codes,
            database=target.codes,
            query_labels=query_labels,
            database_labels=database_labels,
            unseen=np.array([item.split != "train" for item in database.items]),
            order=np.array([item.order for item in database.items], dtype=np.int64),
            query_ids=tuple(item.id for item in queries.items),
            database_ids=tuple(item.id for item in database.items),
            query_margins=query.margins,
            database_margins=target.margins,
            skipped=tuple(skipped),
        )
        for (bits, _), query, target in zip(encodes, queries.lengths, database.lengths, strict=True)
    ]


def evaluated_items(archive: ItemArchive, captions: str) -> tuple[Sequence[Item], Sequence[Item]]:
    """Queries and database: the items of the split that have both an image and a text of this caption variant.

    Raises:
        ArchiveError: no labels, or no such queries; the message says why that cannot be evaluated.
    """
    name = archive.info.name
    if not archive.info.class_names:
        raise ArchiveError(
            f"{name} has no labels, and without them nothing says which items are relevant to a query; import it with "
            "labels to evaluate on it; searching needs none"
        )
    queries, database = pairs(archive.select(("query",)), captions), pairs(archive.database(), captions)
    if archive.info.split_seed is None or not queries or not database:
        raise ArchiveError(
            f"{name}: expected a query split with labels, images and texts of variant {captions!r} to evaluate on, "
            f"found {len(queries)} such queries; import at least 200 items, or evaluate on another data set"
        )
    return queries, database


def evaluated_captions(archive: ItemArchive) -> tuple[str, ...]:
    """The headline caption variant, and those of the others that queries have."""
    headline, *others = archive.info.captions
    queries = archive.select(("query",))
    return headline, *(variant for variant in others if pairs(queries, variant))


@dataclass(frozen=True, slots=True)
class _Encoded:
    """All items of a side at one length."""

    codes: dict[Modality, NDArray[np.uint8]]
    margins: dict[Modality, NDArray[np.float32]]


@dataclass(frozen=True, slots=True)
class _Side:
    items: Sequence[Item]
    lengths: Sequence[_Encoded]


def _shards(items: Sequence[Item], size: int) -> Iterator[Sequence[Item]]:
    return (items[start : start + size] for start in range(0, len(items), size))


def _encode_side(
    shards: Iterator[Sequence[Item]],
    archive: ItemArchive,
    captions: str,
    encoders: Sequence[Encode],
    skipped: list[Skipped],
    workers: int,
    advance: Callable[[int], None],
) -> _Side:
    def encode_shard(shard: Sequence[Item]) -> tuple[list[Item], list[Skipped], list[Mapping[Modality, EncodedBatch]]]:
        items, images, bad = _decode(archive, shard)
        texts = [caption(item, captions) for item in items]
        return items, bad, [encode(items, images, texts) for encode in encoders] if items else []

    encoded: list[Item] = []
    shares: list[list[Mapping[Modality, EncodedBatch]]] = []
    with ThreadPoolExecutor(max_workers=workers) as pool:
        for items, bad, batches in pool.map(encode_shard, shards):
            encoded += items
            skipped += bad
            if items:
                shares.append(batches)
            advance(len(items) + len(bad))
    return _Side(tuple(encoded), [_joined(batches) for batches in zip(*shares, strict=True)])


def _joined(batches: Sequence[Mapping[Modality, EncodedBatch]]) -> _Encoded:
    whole = {side: EncodedBatch.joined([batch[side] for batch in batches]) for side in batches[0]}
    return _Encoded(
        {side: batch.codes for side, batch in whole.items()}, {side: batch.margins for side, batch in whole.items()}
    )


def _decode(archive: ItemArchive, shard: Sequence[Item]) -> tuple[list[Item], list[Image], list[Skipped]]:
    items, images, bad = [], [], []
    for item in shard:
        try:
            images.append(decode_image(archive.read_image(item)))
            items.append(item)
        except (ArchiveError, ImageError) as error:
            bad.append(Skipped(item.id, str(error)))
    return items, images, bad

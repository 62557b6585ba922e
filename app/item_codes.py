"""The codes of items: a column for each modality of the model, among them pairs where it fuses.

In the pair column is every item that has an image or a text: fused where it has both, and else with the code of the one
that it has, which a model that fuses makes in the same Hamming space.
"""

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL.Image import Image

from index.live_items import Codes
from index.presence import Presence
from model.hasher import Hasher, Modality

ByItem = list[NDArray[np.uint8]]  # (n, bits / 8) for each item


@dataclass(frozen=True, slots=True)
class Parts:
    """What the codes of one item are made from."""

    image: Image | None
    texts: tuple[str, ...]


def encode_parts(hasher: Hasher, items: Sequence[Parts]) -> list[Codes]:
    """The codes of each item, by modality; only modalities that it has."""
    columns: dict[Modality, ByItem] = {}
    if Modality.IMAGE in hasher.modalities:
        columns[Modality.IMAGE] = _images(hasher, items)
    if Modality.TEXT in hasher.modalities:
        columns[Modality.TEXT] = _texts(hasher, items)
    if Modality.PAIR in hasher.modalities:
        columns[Modality.PAIR] = _first_of(_fused(hasher, items), *columns.values())
    return [
        {modality.value: column[position] for modality, column in columns.items() if len(column[position])}
        for position in range(len(items))
    ]


def modalities_of(known: AbstractSet[Modality], *, image: bool, text: bool) -> set[str]:
    """The columns in which an item with these parts has codes, of a model that has the ``known`` modalities."""
    alone = {modality for modality, has in ((Modality.IMAGE, image), (Modality.TEXT, text)) if has} & known
    has_pair = Modality.PAIR in known and (bool(alone) or (image and text))
    return {modality.value for modality in alone} | ({Modality.PAIR.value} if has_pair else set())


def presence_of(codes: Codes, *, image: bool, text: bool) -> Presence:
    """What the pair codes were made from, of an item with these parts."""
    return Presence.of(image=image, text=text) if Modality.PAIR in codes else Presence.NONE


def _images(hasher: Hasher, items: Sequence[Parts]) -> ByItem:
    images = [one.image for one in items if one.image is not None]
    return _shared_out(hasher.encode_images(images).codes, [int(one.image is not None) for one in items])


def _texts(hasher: Hasher, items: Sequence[Parts]) -> ByItem:
    texts = [text for one in items for text in one.texts]
    return _shared_out(hasher.encode_texts(texts).codes, [len(one.texts) for one in items])


def _fused(hasher: Hasher, items: Sequence[Parts]) -> ByItem:
    """A code for each text of an item, with its image."""
    pairs = [(one.image, text) for one in items if one.image is not None for text in one.texts]
    encoded = hasher.encode_pairs([image for image, _ in pairs], [text for _, text in pairs])
    return _shared_out(encoded.codes, [len(one.texts) if one.image is not None else 0 for one in items])


def _shared_out(codes: NDArray[np.uint8], counts: Sequence[int]) -> ByItem:
    ends = np.cumsum(counts, dtype=np.int64)
    return [codes[end - count : end] for count, end in zip(counts, ends, strict=True)]


def _first_of(*columns: ByItem) -> ByItem:
    """Of each item the first codes that there are."""
    return [next((codes for codes in some if len(codes)), some[0]) for some in zip(*columns, strict=True)]

"""The codes of items: a column for each modality of the model, among them pairs where it fuses.

In the pair column is every item that has an image or a text: fused where it has both, and else with the code of the one
that it has, which a model that fuses makes in the same Hamming space.
"""

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from index.live_items import Codes
from index.presence import Presence
from model.hasher import Hasher, Modality

if TYPE_CHECKING:
    from PIL.Image import Image

Picture = TypeVar("Picture")  # a decoded image, or the bytes of its file
ByItem = list[NDArray[np.uint8]]  # (n, bits / 8) for each item


@dataclass(frozen=True, slots=True)
class Parts(Generic[Picture]):
    """What the codes of one item are made from."""

    image: Picture | None
    texts: tuple[str, ...]


def encode_parts(hasher: Hasher, items: "Sequence[Parts[Image]]") -> list[Codes]:
    """The codes of each item, by modality; only modalities that it has."""
    made: dict[Modality, NDArray[np.uint8]] = {}
    if Modality.IMAGE in hasher.modalities:
        made[Modality.IMAGE] = hasher.encode_images(images_of(items)).codes
    if Modality.TEXT in hasher.modalities:
        made[Modality.TEXT] = hasher.encode_texts(texts_of(items)).codes
    if Modality.PAIR in hasher.modalities:
        made[Modality.PAIR] = hasher.encode_pairs(*pairs_of(items)).codes
    return share_out(items, made)


def images_of(items: Sequence[Parts[Picture]]) -> list[Picture]:
    """The images of the items, in order."""
    return [one.image for one in items if one.image is not None]


def texts_of(items: Sequence[Parts[Picture]]) -> list[str]:
    """The texts of the items, in order."""
    return [text for one in items for text in one.texts]


def pairs_of(items: Sequence[Parts[Picture]]) -> tuple[list[Picture], list[str]]:
    """What is fused, in order: each text of an item that has an image, and that image as often."""
    pairs = [(one.image, text) for one in items if one.image is not None for text in one.texts]
    return [image for image, _ in pairs], [text for _, text in pairs]


def share_out(items: Sequence[Parts[Picture]], made: Mapping[Modality, NDArray[np.uint8]]) -> list[Codes]:
    """The codes of each item by modality, only those that it has.

    ``made`` has, for each modality of the model, the codes of what ``images_of``, ``texts_of`` and ``pairs_of`` give.
    """
    counts = {
        Modality.IMAGE: [int(one.image is not None) for one in items],
        Modality.TEXT: [len(one.texts) for one in items],
        Modality.PAIR: [len(one.texts) if one.image is not None else 0 for one in items],
    }
    columns = {modality: _by_item(made[modality], counts[modality]) for modality in counts if modality in made}
    if Modality.PAIR in columns:
        alone = [columns[modality] for modality in (Modality.IMAGE, Modality.TEXT) if modality in columns]
        columns[Modality.PAIR] = _first_of(columns[Modality.PAIR], *alone)
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


def _by_item(codes: NDArray[np.uint8], counts: Sequence[int]) -> ByItem:
    ends = np.cumsum(counts, dtype=np.int64)
    return [codes[end - count : end] for count, end in zip(counts, ends, strict=True)]


def _first_of(*columns: ByItem) -> ByItem:
    """Of each item the first codes that there are."""
    return [next((codes for codes in some if len(codes)), some[0]) for some in zip(*columns, strict=True)]

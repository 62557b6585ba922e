"""The ``oracle`` protocol: codes made as published, with the true labels of queries and database as an input.

It is no ``Hasher`` and nothing that serves can reach it. It exists to reproduce published figures, and to show how much
of them came from the labels.
"""

from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Protocol as Structure

import numpy as np
from numpy.typing import NDArray
from PIL.Image import Image

from model.errors import OracleError
from model.evaluation.codes import CodeSet, Protocol, encode_with, evaluated_items
from model.evaluation.published import PUBLISHED
from model.hasher import EncodedBatch, Modality
from model.items import Item, ItemArchive, multi_hot
from model.manifest import read_manifest

WHY = (
    "The oracle protocol hands the true labels of every query and database item to the encoder, as the published code "
    "does. What it measures is how well a code stores a label that it was given, and no query of a user has one: it is "
    "not a retrieval result, and it is shown for reproduction only."
)


class OracleEncoder(Structure):
    """Encodes items whose labels are known. Codes may depend on the other items of the call where the paper's do."""

    @property
    def bits(self) -> int:
        """Code length, a multiple of 8."""

    @property
    def company(self) -> int:
        """Items that are encoded together."""

    def encode_labelled(
        self, images: Sequence[Image], texts: Sequence[str], labels: NDArray[np.bool_]
    ) -> Mapping[Modality, EncodedBatch]:
        """Codes of (B, C) labelled items, by modality: image and text, or pair where the method fuses into one."""


Loader = Callable[[Path, int, str, Path | None], OracleEncoder]  # artifact, bits, device, cache


class Prompts(StrEnum):
    """Whose labels the encoder is handed."""

    OWN = "own"  # as published
    OTHER = "other"  # those of a random other item: shows how much of a figure came from the labels
    NONE = "none"  # no label at all: what is left is an item's own image and text, fused


def _load_published(folder: Path, bits: int, device: str, cache_dir: Path | None) -> OracleEncoder:
    from model.evaluation.published.encoder import load_published

    return load_published(folder, bits, device, cache_dir)


LOADERS: dict[str, Loader] = dict.fromkeys(PUBLISHED, _load_published)  # by method


def load_oracle(folder: Path, bits: int, device: str, cache_dir: Path | None = None) -> OracleEncoder:
    """The oracle encoder of an artifact.

    Raises:
        ArtifactError: no such artifact.
        OracleError: its method takes no label when it encodes.
    """
    method = read_manifest(folder).method
    if method not in LOADERS:
        raise OracleError(
            f"{folder.name}: expected a method whose published encoder takes labels, found {method!r}, which takes "
            f"none; leave out --oracle. {WHY}"
        )
    return LOADERS[method](folder, bits, device, cache_dir)


def encode_oracle_codes(
    encoder: OracleEncoder,
    archive: ItemArchive,
    *,
    captions: str | None = None,
    prompts: Prompts = Prompts.OWN,
    advance: Callable[[int], None] = lambda items: None,
) -> CodeSet:
    """Like ``encode_codes``, with labels; one thread, so that the company of an item in its batch is always the same.

    Raises:
        ArchiveError: the data set has no query split or no labels.
    """
    variant = captions or archive.info.captions[0]
    told = _told(evaluated_items(archive, variant), prompts)

    def encode(items: Sequence[Item], images: Sequence[Image], texts: Sequence[str]) -> Mapping[Modality, EncodedBatch]:
        sources = [told[item.id] for item in items]
        labels = multi_hot(sources, archive.info.class_names).astype(np.bool_)
        return encoder.encode_labelled(images, texts, labels & (prompts is not Prompts.NONE))

    (codes,) = encode_with(
        [(encoder.bits, encode)],
        Protocol.ORACLE,
        archive,
        captions=variant,
        workers=1,
        advance=advance,
        shard=encoder.company,
    )
    return codes


def _told(sides: tuple[Sequence[Item], Sequence[Item]], prompts: Prompts) -> dict[str, Item]:
    """Item id -> the item whose labels its encoder is handed: itself, or the next one of a seeded shuffle."""
    found: dict[str, Item] = {}
    for side in sides:
        items = list(side)
        if prompts is Prompts.OTHER:
            order = np.random.default_rng(0).permutation(len(items))
            sources = {items[one].id: items[other] for one, other in zip(order, np.roll(order, -1), strict=True)}
        else:
            sources = {item.id: item for item in items}
        found |= sources
    return found

"""The ``oracle`` protocol: codes made as published, with the true labels of queries and database as an input.

It is no ``Hasher`` and nothing that serves can reach it. It exists to reproduce published figures, and to show how much
of them came from the labels.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol as Structure

import numpy as np
from numpy.typing import NDArray
from PIL.Image import Image

from model.errors import OracleError
from model.evaluation.codes import CodeSet, Protocol, encode_with
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

    def encode_labelled(
        self, images: Sequence[Image], texts: Sequence[str], labels: NDArray[np.bool_]
    ) -> Mapping[Modality, EncodedBatch]:
        """Codes of (B, C) labelled items, by modality: image and text, or pair where the method fuses into one."""


Loader = Callable[[Path, int, str, Path | None], OracleEncoder]  # artifact, bits, device, cache
LOADERS: dict[str, Loader] = {}  # by method


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
    advance: Callable[[int], None] = lambda items: None,
) -> CodeSet:
    """Like ``encode_codes``, with labels; one thread, so that the company of an item in its batch is always the same.

    Raises:
        ArchiveError: the data set has no query split or no labels.
    """

    def encode(items: Sequence[Item], images: Sequence[Image], texts: Sequence[str]) -> Mapping[Modality, EncodedBatch]:
        return encoder.encode_labelled(images, texts, multi_hot(items, archive.info.class_names).astype(np.bool_))

    return encode_with(encode, encoder.bits, Protocol.ORACLE, archive, captions=captions, workers=1, advance=advance)

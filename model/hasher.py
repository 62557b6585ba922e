"""``Hasher``: the only door to codes. Evaluation, the server, the rebuild job and the command line all go through it.

A hasher never sees a label, and a code never depends on the other inputs of its call: encoding one input alone or
among a thousand gives the same bits.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from PIL.Image import Image


class Modality(StrEnum):
    """What a code was made from; ``pair`` is image and text of one item fused into one code."""

    IMAGE = "image"
    TEXT = "text"
    PAIR = "pair"


@dataclass(frozen=True, slots=True)
class EncodedBatch:
    """Codes of a batch, one row an input, in the order of the inputs."""

    codes: NDArray[np.uint8]  # (B, bits / 8), bit j at byte j // 8, position j % 8 (little)
    margins: NDArray[np.float32]  # (B, bits), abs(logit)
    truncated_tokens: NDArray[np.int64]  # (B,), tokens that did not reach the encoder; zeros for images

    def __len__(self) -> int:
        return len(self.codes)

    @classmethod
    def joined(cls, parts: "Sequence[EncodedBatch]") -> "EncodedBatch":
        """At least one batch of one hasher -> one, in order."""
        return cls(
            np.concatenate([part.codes for part in parts]),
            np.concatenate([part.margins for part in parts]),
            np.concatenate([part.truncated_tokens for part in parts]),
        )


@runtime_checkable
class Hasher(Protocol):
    """Makes packed codes of one length with one model."""

    @property
    def bits(self) -> int:
        """Code length, a multiple of 8."""

    @property
    def fingerprint(self) -> str:
        """SHA-256 (hex) over everything that decides a code."""

    @property
    def modalities(self) -> frozenset[Modality]:
        """The modalities that this model encodes."""

    @property
    def device(self) -> str:
        """``cpu`` or ``cuda``: codes are bit-exact on one machine and device kind."""

    def encode_images(self, images: "Sequence[Image]") -> EncodedBatch:
        """Encode RGB images; an empty sequence gives an empty batch."""

    def encode_texts(self, texts: Sequence[str]) -> EncodedBatch:
        """Encode texts; a text longer than the context is cut or chunked as the model says, and counted."""

    def encode_pairs(self, images: "Sequence[Image]", texts: Sequence[str]) -> EncodedBatch:
        """Encode one fused code for each image with its text; empty sequences give an empty batch.

        Of a method that fuses, the codes of images and of texts alone lie in the same Hamming space as these.

        Raises:
            ModalityError: the method does not fuse.
        """


@runtime_checkable
class KeywordHasher(Hasher, Protocol):
    """A hasher with a third, text-like entry: names of the classes that it learned from, in its Hamming space."""

    @property
    def keywords(self) -> tuple[str, ...]:
        """Names of the classes; none where this model did not keep the entry."""

    def encode_keywords(self, keywords: Sequence[str]) -> EncodedBatch:
        """Encode texts such as ``dog, beach``, each as the set of classes that it names.

        Raises:
            ModalityError: this model has no such entry.
            KeywordError: one of them names no class.
        """

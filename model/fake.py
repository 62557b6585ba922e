"""Hashers without a model, for tests of everything that stands on ``Hasher``."""

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL.Image import Image

from model.errors import ModalityError
from model.hasher import EncodedBatch, Modality

CONTEXT = 256  # words


class FakeHasher:
    """Codes from SHA-256 of the input: deterministic, label-free, no weights. Not for retrieval."""

    def __init__(self, bits: int = 64, *, seed: str = "fake") -> None:
        self.bits = bits
        self.fingerprint = hashlib.sha256(f"{seed} {bits}".encode()).hexdigest()
        self.modalities = frozenset({Modality.IMAGE, Modality.TEXT})
        self.device = "cpu"
        self._seed = seed.encode()

    def encode_images(self, images: Sequence[Image]) -> EncodedBatch:
        """Codes from mode, size and pixels."""
        return _packed(self._image_logits(images), np.zeros(len(images), dtype=np.int64))

    def encode_texts(self, texts: Sequence[str]) -> EncodedBatch:
        """Codes from the UTF-8 bytes; 'truncates' beyond ``CONTEXT`` words."""
        return _packed(self._text_logits(texts), _truncated(texts))

    def encode_pairs(self, images: Sequence[Image], texts: Sequence[str]) -> EncodedBatch:
        """Always refused: this hasher does not fuse."""
        raise ModalityError("expected a method that fuses image and text; the fake hasher does not")

    def _image_logits(self, images: Sequence[Image]) -> NDArray[np.float32]:
        return self._logits([f"{image.mode}{image.size}".encode() + image.tobytes() for image in images])

    def _text_logits(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return self._logits([text.encode() for text in texts])

    def _logits(self, inputs: list[bytes]) -> NDArray[np.float32]:
        logits = np.empty((len(inputs), self.bits), dtype=np.float32)
        for row, data in enumerate(inputs):
            digest = hashlib.shake_256(self._seed + data).digest(self.bits)
            logits[row] = np.frombuffer(digest, dtype=np.uint8).astype(np.float32) - 127.5
        return logits


class FusingFakeHasher(FakeHasher):
    """Also fuses: a pair's logits are the mean of its two parts', so its code lies near the codes of both."""

    def __init__(self, bits: int = 64, *, seed: str = "fake") -> None:
        super().__init__(bits, seed=f"{seed} fusing")
        self.modalities = frozenset(Modality)

    def encode_pairs(self, images: Sequence[Image], texts: Sequence[str]) -> EncodedBatch:
        """One code for each image with its text."""
        if len(images) != len(texts):
            raise ValueError(f"expected a text for each image, found {len(images)} images and {len(texts)} texts")
        logits = (self._image_logits(images) + self._text_logits(texts)) / 2
        return _packed(logits.astype(np.float32), _truncated(texts))


def _packed(logits: NDArray[np.float32], truncated: NDArray[np.int64]) -> EncodedBatch:
    return EncodedBatch(np.packbits(logits > 0, axis=1, bitorder="little"), np.abs(logits), truncated)


def _truncated(texts: Sequence[str]) -> NDArray[np.int64]:
    return np.array([max(0, len(text.split()) - CONTEXT) for text in texts], dtype=np.int64)

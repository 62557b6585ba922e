"""A hasher without a model, for tests of everything that stands on ``Hasher``."""

import hashlib
from collections.abc import Sequence

import numpy as np
from PIL.Image import Image

from model.errors import ModalityError
from model.hasher import EncodedBatch, Modality


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
        return self._encode([f"{image.mode}{image.size}".encode() + image.tobytes() for image in images])

    def encode_texts(self, texts: Sequence[str]) -> EncodedBatch:
        """Codes from the UTF-8 bytes; 'truncates' beyond 256 words."""
        batch = self._encode([text.encode() for text in texts])
        cut = np.array([max(0, len(text.split()) - 256) for text in texts], dtype=np.int64)
        return EncodedBatch(batch.codes, batch.margins, cut)

    def encode_pairs(self, images: Sequence[Image], texts: Sequence[str]) -> EncodedBatch:
        """Always refused: this hasher does not fuse."""
        raise ModalityError("expected a method that fuses image and text; the fake hasher does not")

    def _encode(self, inputs: list[bytes]) -> EncodedBatch:
        logits = np.empty((len(inputs), self.bits), dtype=np.float32)
        for row, data in enumerate(inputs):
            digest = hashlib.shake_256(self._seed + data).digest(self.bits)
            logits[row] = np.frombuffer(digest, dtype=np.uint8).astype(np.float32) - 127.5
        codes = np.packbits(logits > 0, axis=1, bitorder="little")
        return EncodedBatch(codes, np.abs(logits), np.zeros(len(inputs), dtype=np.int64))

"""From inputs to the vectors of a ``ReadingNetwork``, on the canonical path and with the same promise as features.

A side that reads features runs its layers on those of the backbone; a side that reads inside a tower is a tower of its
own to ``FeatureEncoder``: frozen blocks, the network's blocks, its layers.
"""

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL.Image import Image
from torch import Tensor

from encoders.cache import FeatureCache
from encoders.encode import PATHS, FeatureEncoder, TextFeatures, through_cache
from encoders.fast import FastPath
from encoders.fingerprint import fingerprint
from encoders.forward import forward_chunk
from encoders.protocol import Backbone, TokenChunks
from model.methods.protocol import ReadingNetwork

Rows = NDArray[np.float32]  # (B, D)
Read = Callable[[Tensor], Tensor]  # (B, …) inputs of a layer, a network or a tower -> (B, D)


class VectorEncoder:
    """Stands where ``FeatureEncoder`` does, for a network that reads. Safe for many threads."""

    def __init__(
        self, network: ReadingNetwork, backbone: Backbone, cache_dir: Path | None, fast: FastPath | None = None
    ) -> None:
        """The network is in evaluation mode and on the backbone's device."""
        self.backbone = backbone
        encoder = FeatureEncoder(backbone, cache_dir, fast)
        self.fingerprint = fingerprint({"encoder": encoder.fingerprint}, network.state_dict())
        self.features = encoder
        self._network = network
        self._inside = FeatureEncoder(_inside(network, backbone, self.fingerprint), cache_dir, fast)
        folder = None if cache_dir is None else cache_dir / f"{self.fingerprint[:32]}-{self.backbone.device.type}"
        dim = network.vector_dim
        self._images = None if folder is None else FeatureCache(folder, "image-vector", dim)
        self._texts = None if folder is None else FeatureCache(folder, "text-vector", dim)

    def encode_images(self, images: Sequence[Image]) -> Rows:
        """RGB images -> (B, vector_dim)."""
        if self._network.image_tail is not None:
            return self._inside.encode_images(images)
        return self._read(self._network.read_images, self.features.encode_images(images), self._images)

    def encode_texts(self, texts: Sequence[str]) -> TextFeatures:
        """Texts -> (B, vector_dim).

        Raises:
            TextError: one of the texts is empty.
        """
        if self._network.text_tail is not None:
            return self._inside.encode_texts(texts)
        encoded = self.features.encode_texts(texts)
        vectors = self._read(lambda rows: self._network.read_texts(rows, None), encoded.features, self._texts)
        return TextFeatures(vectors, encoded.truncated_tokens)

    def _read(self, read: Read, features: Rows, cache: FeatureCache | None) -> Rows:
        def forward(rows: Sequence[Rows]) -> list[Rows]:
            inputs = torch.from_numpy(np.stack(rows)) if rows else torch.empty(0)
            parts = inputs.split(PATHS[self.backbone.device.type].chunk) if rows else ()
            return [vector for part in parts for vector in self._chunk(read, part)]

        keys = [hashlib.sha256(row.tobytes()).hexdigest() for row in features]
        return through_cache(cache, keys, list(features), forward, self._network.vector_dim)

    def _chunk(self, read: Read, part: Tensor) -> Rows:
        device = self.backbone.device
        return forward_chunk(read, part, PATHS[device.type].chunk, device)


class Inside:
    """What ``FeatureEncoder`` asks of a backbone, with features that are read inside its towers."""

    def __init__(
        self, backbone: Backbone, fingerprint: str, *, images: Read, texts: Read, dims: tuple[int, int]
    ) -> None:
        """``images`` (B, 3, H, W) -> (B, dims[0]) and ``texts`` (B, L) -> (B, dims[1]) decide ``fingerprint``."""
        self.fingerprint = fingerprint
        self.device = backbone.device
        self.image_dim, self.text_dim = dims
        self._backbone, self._images, self._texts = backbone, images, texts

    def preprocess(self, image: Image) -> Tensor:
        """As the backbone does."""
        return self._backbone.preprocess(image)

    def tokenize(self, text: str) -> TokenChunks:
        """As the backbone does."""
        return self._backbone.tokenize(text)

    def image_features(self, pixels: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, image_dim)."""
        return self._images(pixels)

    def text_features(self, tokens: Tensor) -> Tensor:
        """(B, L) -> (B, text_dim)."""
        return self._texts(tokens)


def _inside(network: ReadingNetwork, backbone: Backbone, fingerprint: str) -> Inside:
    """The network's vectors for features."""

    def images(pixels: Tensor) -> Tensor:
        return network.read_images(backbone.image_tower.prefix(pixels, network.image_tail or 0))

    def texts(tokens: Tensor) -> Tensor:
        return network.read_texts(backbone.text_tower.prefix(tokens, network.text_tail or 0), tokens)

    dims = (network.vector_dim, network.vector_dim)
    return Inside(backbone, fingerprint, images=images, texts=texts, dims=dims)

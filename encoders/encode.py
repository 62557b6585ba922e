"""The canonical encode path: the one way that an input becomes features, in training, evaluation and serving.

Every forward has a fixed shape that depends on the device kind and, for a text, on its own length, never on the other
inputs of the call. On a CPU a chunk holds one input: measured, a larger chunk gains nothing for the image tower, and
features are then the same bits alone, in any batch, in any order, in any process and under any thread count.
"""

import hashlib
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from PIL.Image import Image
from torch import Tensor

from encoders.cache import FeatureCache
from encoders.device import make_repeatable
from encoders.protocol import Backbone

Input = TypeVar("Input")
Chunks = tuple[tuple[int, ...], ...]  # token ids of one text

VERSION = 1  # raise it with every change that may alter a feature


@dataclass(frozen=True, slots=True)
class EncodePath:
    """Shapes of the forwards on one device kind."""

    chunk: int  # inputs of one forward; short chunks are padded
    length_step: int  # token counts are rounded up to a multiple of this


PATHS = {"cpu": EncodePath(chunk=1, length_step=1), "cuda": EncodePath(chunk=32, length_step=16)}


@dataclass(frozen=True, slots=True)
class TextFeatures:
    """Features of texts and what they lost."""

    features: NDArray[np.float32]  # (B, text_dim)
    truncated_tokens: NDArray[np.int64]  # (B,)


class FeatureEncoder:
    """A backbone on the canonical path, with an optional cache on disk. Safe for many threads."""

    def __init__(self, backbone: Backbone, cache_dir: Path | None = None) -> None:
        make_repeatable(backbone.device)
        self.backbone = backbone
        kind = backbone.device.type
        self._path = PATHS[kind]
        digest = hashlib.sha256(f"{backbone.fingerprint} encode path {VERSION}".encode())
        self.fingerprint = digest.hexdigest()
        folder = None if cache_dir is None else cache_dir / f"{self.fingerprint[:32]}-{kind}"
        self._images = None if folder is None else FeatureCache(folder, "image", backbone.image_dim)
        self._texts = None if folder is None else FeatureCache(folder, "text", backbone.text_dim)

    def encode_images(self, images: Sequence[Image]) -> NDArray[np.float32]:
        """RGB images -> (B, image_dim)."""
        keys = [_image_key(image) for image in images]
        return _through_cache(self._images, keys, images, self._image_forward, self.backbone.image_dim)

    def encode_texts(self, texts: Sequence[str]) -> TextFeatures:
        """Texts -> (B, text_dim); a text of several chunks is the mean of their features.

        Raises:
            TextError: one of the texts is empty.
        """
        tokens = [self.backbone.tokenize(text) for text in texts]
        keys = [hashlib.sha256(repr(entry.chunks).encode()).hexdigest() for entry in tokens]
        chunks = [entry.chunks for entry in tokens]
        features = _through_cache(self._texts, keys, chunks, self._text_forward, self.backbone.text_dim)
        return TextFeatures(features, np.array([entry.truncated for entry in tokens], dtype=np.int64))

    def _image_forward(self, images: Sequence[Image]) -> list[NDArray[np.float32]]:
        features: list[NDArray[np.float32]] = []
        for start in range(0, len(images), self._path.chunk):
            pixels = [self.backbone.preprocess(image) for image in images[start : start + self._path.chunk]]
            features.extend(self._run(self.backbone.image_features, torch.stack(pixels)))
        return features

    def _text_forward(self, texts: Sequence[Chunks]) -> list[NDArray[np.float32]]:
        by_length: dict[int, list[tuple[int, ...]]] = defaultdict(list)
        for ids in (ids for chunks in texts for ids in chunks):
            by_length[-(-len(ids) // self._path.length_step) * self._path.length_step].append(ids)
        features: dict[tuple[int, ...], NDArray[np.float32]] = {}
        for length, group in by_length.items():
            for start in range(0, len(group), self._path.chunk):
                part = group[start : start + self._path.chunk]
                tokens = torch.tensor([[*ids, *[0] * (length - len(ids))] for ids in part])
                features.update(zip(part, self._run(self.backbone.text_features, tokens), strict=True))
        return [np.mean([features[ids] for ids in chunks], axis=0, dtype=np.float32) for chunks in texts]

    def _run(self, forward: Callable[[Tensor], Tensor], inputs: Tensor) -> list[NDArray[np.float32]]:
        return list(forward_chunk(forward, inputs, self._path.chunk, self.backbone.device))


def forward_chunk(
    forward: Callable[[Tensor], Tensor], inputs: Tensor, chunk: int, device: torch.device
) -> NDArray[np.float32]:
    """Run at most ``chunk`` (B, ...) inputs, padded to exactly ``chunk`` rows -> (B, D) float32 on the CPU."""
    missing = chunk - len(inputs)
    padded = torch.cat([inputs, inputs[-1:].expand(missing, *inputs.shape[1:])]) if missing else inputs
    with torch.inference_mode():
        rows: NDArray[np.float32] = forward(padded.to(device)).float().cpu().numpy()
    return rows[: len(inputs)]


def _image_key(image: Image) -> str:
    return hashlib.sha256(f"{image.mode} {image.size} ".encode() + image.tobytes()).hexdigest()


def _through_cache(
    cache: FeatureCache | None,
    keys: Sequence[str],
    inputs: Sequence[Input],
    forward: Callable[[Sequence[Input]], list[NDArray[np.float32]]],
    dim: int,
) -> NDArray[np.float32]:
    """(B, dim) features: cached ones as stored, the others computed and stored."""
    found = {} if cache is None else {key: row for key in keys if (row := cache.get(key)) is not None}
    missing = {key: value for key, value in zip(keys, inputs, strict=True) if key not in found}
    fresh = dict(zip(missing, forward(list(missing.values())), strict=True))
    if cache is not None:
        cache.put(fresh)
    found |= fresh
    return np.array([found[key] for key in keys], dtype=np.float32).reshape(len(keys), dim)

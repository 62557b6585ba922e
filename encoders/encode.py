"""The canonical encode path: the one way that an input becomes features, in training, evaluation and serving.

A feature is what a forward of a fixed shape makes of its input: so many rows for the device kind, and for a text the
length bucket of its own length, never anything of the other inputs of the call. Features are then the same bits alone,
in any batch, in any order, in any process and in any number of threads. On a CPU that forward holds one input, which
answers a query soonest; texts of one bucket share larger ones where those are known to give the same bits
(``encoders.forward``), while a larger one gains nothing for the image tower.
"""

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
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
from encoders.fast import FastForward, FastPath
from encoders.forward import Forward
from encoders.protocol import Pooling

Input = TypeVar("Input")
Output = TypeVar("Output")
Chunks = tuple[tuple[int, ...], ...]  # token ids of one text

VERSION = 2  # raise it with every change that may alter a feature
PREPARED = 8  # images turned into pixels at a time, while those before pass the tower


@dataclass(frozen=True, slots=True)
class EncodePath:
    """Shapes of the forwards on one device kind. ``chunk`` and ``length_step`` decide bits, the others speed alone."""

    chunk: int  # inputs of the canonical forward; short chunks are padded
    length_step: int  # token counts are rounded up to a multiple of this
    image_stand_ins: tuple[int, ...] = ()  # other row counts, used once they have shown the same bits
    text_stand_ins: tuple[int, ...] = ()


PATHS = {
    "cpu": EncodePath(chunk=1, length_step=8, text_stand_ins=(16, 8, 4, 2)),
    "cuda": EncodePath(chunk=32, length_step=16, image_stand_ins=(16, 8), text_stand_ins=(16, 8)),
}


@dataclass(frozen=True, slots=True)
class TextFeatures:
    """Features of texts and what they lost."""

    features: NDArray[np.float32]  # (B, text_dim)
    truncated_tokens: NDArray[np.int64]  # (B,)


class FeatureEncoder:
    """A backbone on the canonical path, with an optional cache on disk. Safe for many threads."""

    def __init__(self, backbone: Pooling, cache_dir: Path | None = None, fast: FastPath | None = None) -> None:
        """``fast`` leaves the canonical path, and with it the canonical fingerprint."""
        make_repeatable(backbone.device)
        self.backbone = backbone
        kind = backbone.device.type
        self._path = PATHS[kind]
        self._image_tower = self._tower(backbone.image_features, self._path.image_stand_ins, fast)
        self._text_tower = self._tower(backbone.text_features, self._path.text_stand_ins, fast)
        self.fingerprint = path_fingerprint(backbone, fast)
        folder = None if cache_dir is None else cache_dir / f"{self.fingerprint[:32]}-{kind}"
        self._images = None if folder is None else FeatureCache(folder, "image", backbone.image_dim)
        self._texts = None if folder is None else FeatureCache(folder, "text", backbone.text_dim)

    def encode_images(self, images: Sequence[Image]) -> NDArray[np.float32]:
        """RGB images -> (B, image_dim)."""
        keys = [image_key(image) for image in images]
        return through_cache(self._images, keys, images, self._image_forward, self.backbone.image_dim)

    def encode_texts(self, texts: Sequence[str]) -> TextFeatures:
        """Texts -> (B, text_dim); a text of several chunks is the mean of their features.

        Raises:
            TextError: one of the texts is empty.
        """
        tokens = [self.backbone.tokenize(text) for text in texts]
        keys = [hashlib.sha256(repr(entry.chunks).encode()).hexdigest() for entry in tokens]
        chunks = [entry.chunks for entry in tokens]
        features = through_cache(self._texts, keys, chunks, self._text_forward, self.backbone.text_dim)
        return TextFeatures(features, np.array([entry.truncated for entry in tokens], dtype=np.int64))

    def _tower(
        self, forward: Callable[[Tensor], Tensor], stand_ins: tuple[int, ...], fast: FastPath | None
    ) -> Forward | FastForward:
        device = self.backbone.device
        return (
            Forward(forward, device, self._path.chunk, stand_ins)
            if fast is None
            else FastForward(forward, device, fast)
        )

    def _image_forward(self, images: Sequence[Image]) -> list[NDArray[np.float32]]:
        features: list[NDArray[np.float32]] = []
        for pixels in one_ahead(self._pixels, _parts(images, max(self._path.chunk, PREPARED))):
            for rows in self._image_tower(pixels):
                features.extend(rows)
        return features

    def _pixels(self, images: Sequence[Image]) -> Tensor:
        return torch.stack([self.backbone.preprocess(image) for image in images])

    def _text_forward(self, texts: Sequence[Chunks]) -> list[NDArray[np.float32]]:
        by_length: dict[int, dict[tuple[int, ...], None]] = defaultdict(dict)  # in order, each chunk once
        for ids in (ids for chunks in texts for ids in chunks):
            by_length[-(-len(ids) // self._path.length_step) * self._path.length_step][ids] = None
        features: dict[tuple[int, ...], NDArray[np.float32]] = {}
        for length, group in by_length.items():
            tokens = torch.tensor([[*ids, *[0] * (length - len(ids))] for ids in group])
            features.update(zip(group, (row for rows in self._text_tower(tokens) for row in rows), strict=True))
        return [np.mean([features[ids] for ids in chunks], axis=0, dtype=np.float32) for chunks in texts]


def path_fingerprint(backbone: Pooling, fast: FastPath | None = None) -> str:
    """SHA-256 (hex) of the backbone and the path through it."""
    path = f"encode path {VERSION}" if fast is None else f"fast path {VERSION} {fast.dtype} {fast.compile}"
    return hashlib.sha256(f"{backbone.fingerprint} {path}".encode()).hexdigest()


def one_ahead(prepare: Callable[[Input], Output], parts: Sequence[Input]) -> Iterator[Output]:
    """``prepare`` of each part, the next one in a thread while the caller works on this one."""
    if len(parts) < 2:
        yield from map(prepare, parts)
        return
    with ThreadPoolExecutor(1, thread_name_prefix="prepare") as pool:
        following = pool.submit(prepare, parts[0])
        for part in parts[1:]:
            prepared, following = following.result(), pool.submit(prepare, part)
            yield prepared
        yield following.result()


def _parts(inputs: Sequence[Input], size: int) -> list[Sequence[Input]]:
    return [inputs[start : start + size] for start in range(0, len(inputs), size)]


def image_key(image: Image) -> str:
    """Content hash (hex) of the pixels."""
    return hashlib.sha256(f"{image.mode} {image.size} ".encode() + image.tobytes()).hexdigest()


def through_cache(
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

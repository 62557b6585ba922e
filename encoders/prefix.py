"""States before the first tuned block, kept on disk: tuning the last blocks then costs those and nothing else."""

import hashlib
import threading
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL.Image import Image
from torch import Tensor

from encoders.cache import FeatureCache
from encoders.encode import PATHS, image_key, one_ahead, path_fingerprint
from encoders.forward import Forward
from encoders.protocol import Backbone
from encoders.views import VERSION as VIEWS
from encoders.views import view_of

SHARD = 64  # inputs computed and stored at a time: what a killed run loses, and what memory holds
LARGEST = float(np.finfo(np.float16).max)


class PrefixCache:
    """Both towers up to their last ``image_tail`` and ``text_tail`` blocks, each input through them once, in float16.

    States are those of the canonical forward, so they do not depend on the other inputs of a call, nor on which of two
    runs computed them.
    """

    def __init__(self, backbone: Backbone, cache_dir: Path, *, image_tail: int, text_tail: int) -> None:
        kind = backbone.device.type
        self._backbone, self._path = backbone, PATHS[kind]
        self._folder = cache_dir / f"{path_fingerprint(backbone)[:32]}-{kind}-prefix"
        self._image_tail, self._text_tail = image_tail, text_tail
        images, texts = backbone.image_tower, backbone.text_tower
        self._enter_image = self._forward(lambda pixels: images.prefix(pixels, image_tail), self._path.image_stand_ins)
        self._enter_text = self._forward(lambda tokens: texts.prefix(tokens, text_tail), self._path.text_stand_ins)
        self._views: dict[int, FeatureCache] = {}
        self._lock = threading.Lock()
        self._texts = FeatureCache(self._folder, f"text-tail{text_tail}", None, "float16")
        self._ids: dict[str, tuple[int, ...]] = {}

    def add_images(self, images: Sequence[Image], views: int = 1) -> list[str]:
        """Keys of RGB images, whose views 0 to ``views`` - 1 are stored when this returns."""
        keys = [image_key(image) for image in images]
        for view in range(views):
            cache = self._view(view)
            missing = {key: image for key, image in zip(keys, images, strict=True) if key not in cache}
            shards = [list(missing.items())[start : start + SHARD] for start in range(0, len(missing), SHARD)]

            def pixels(shard: list[tuple[str, Image]], view: int = view) -> tuple[list[str], Tensor]:
                drawn = [self._backbone.preprocess(view_of(image, key, view)) for key, image in shard]
                return [key for key, _ in shard], torch.stack(drawn)

            for part, inputs in one_ahead(pixels, shards):
                cache.put(dict(zip(part, self._rows(self._enter_image, inputs), strict=True)))
        return keys

    def add_texts(self, texts: Sequence[str]) -> list[tuple[str, ...]]:
        """Keys of each text, one a chunk, whose states are stored when this returns.

        Raises:
            TextError: one of the texts is empty.
        """
        chunks = [self._backbone.tokenize(text).chunks for text in texts]
        keys = [tuple(hashlib.sha256(repr(ids).encode()).hexdigest() for ids in part) for part in chunks]
        for part, names in zip(chunks, keys, strict=True):
            self._ids.update(zip(names, part, strict=True))
        missing = list(dict.fromkeys(key for names in keys for key in names if key not in self._texts))
        for start in range(0, len(missing), SHARD):
            self._put_texts(missing[start : start + SHARD])
        return keys

    def image_states(self, keys: Sequence[str], view: int = 0) -> Tensor:
        """States of stored images -> (B, ...) float32 on the backbone's device, what an image ``Tail`` takes.

        Raises:
            KeyError: one of them was not added.
        """
        rows = [self._stored(self._view(view), key) for key in keys]
        return torch.from_numpy(np.stack(rows)).to(self._backbone.device)

    def text_states(self, keys: Sequence[str]) -> tuple[Tensor, Tensor]:
        """States and ids of stored chunks -> (B, L, W) and (B, L), 0 where padded: what a text ``Tail`` takes.

        Raises:
            KeyError: one of them was not added.
        """
        rows = [torch.from_numpy(self._stored(self._texts, key)) for key in keys]
        states = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
        tokens = torch.tensor([[*self._ids[key], *[0] * (states.shape[1] - len(self._ids[key]))] for key in keys])
        return states.to(self._backbone.device), tokens.to(self._backbone.device)

    def _put_texts(self, keys: Sequence[str]) -> None:
        by_length: dict[int, list[str]] = defaultdict(list)
        step = self._path.length_step
        for key in keys:
            by_length[-(-len(self._ids[key]) // step) * step].append(key)
        rows: dict[str, NDArray[np.float16]] = {}
        for length, group in by_length.items():
            tokens = torch.tensor([[*self._ids[key], *[0] * (length - len(self._ids[key]))] for key in group])
            states = self._rows(self._enter_text, tokens)
            # padding is computed with, as everywhere on the canonical path, and not stored
            rows.update({key: state[: len(self._ids[key])] for key, state in zip(group, states, strict=True)})
        self._texts.put(rows)

    def _forward(self, prefix: Callable[[Tensor], Tensor], stand_ins: tuple[int, ...]) -> Forward:
        return Forward(prefix, self._backbone.device, self._path.chunk, stand_ins)

    def _view(self, view: int) -> FeatureCache:
        with self._lock:  # two threads with a cache each would not see what the other one stored
            if view not in self._views:
                name = f"image-tail{self._image_tail}-views{VIEWS}-view{view}"
                self._views[view] = FeatureCache(self._folder, name, None, "float16")
            return self._views[view]

    @staticmethod
    def _rows(forward: Forward, inputs: Tensor) -> list[NDArray[np.float16]]:
        rows = (row for part in forward(inputs) for row in part)
        return [row.clip(-LARGEST, LARGEST).astype(np.float16) for row in rows]

    @staticmethod
    def _stored(cache: FeatureCache, key: str) -> NDArray[np.float32]:
        if (state := cache.get(key)) is None:
            raise KeyError(f"{key[:12]} has no stored state; add its image with as many views, or its text, first")
        return state

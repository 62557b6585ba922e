"""From an image and a text to the vector of a ``FusingNetwork``, on the canonical path and with its promise.

A side that the network reads as features comes from ``FeatureEncoder``, and from its cache; a side that it reads inside
a tower passes the tower in the forward that fuses. That forward has a fixed shape: so many pairs for the device kind,
and a text in the length bucket of its own length, never anything of the other pairs of the call.
"""

import hashlib
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL.Image import Image
from torch import Tensor

from encoders.cache import FeatureCache
from encoders.encode import PATHS, FeatureEncoder, TextFeatures, image_key, through_cache
from encoders.fingerprint import fingerprint
from encoders.forward import forward_together
from encoders.protocol import Backbone, TokenChunks
from model.methods.protocol import FusingNetwork

Row = NDArray[np.float32]  # (pair_dim,)
Pair = tuple[Image, str, TokenChunks]


class PairEncoder:
    """Vectors of pairs. Safe for many threads."""

    def __init__(
        self, network: FusingNetwork, backbone: Backbone, features: FeatureEncoder, cache_dir: Path | None
    ) -> None:
        """The network is in evaluation mode and on the backbone's device."""
        self._network, self._backbone, self._features = network, backbone, features
        self._path = PATHS[backbone.device.type]
        self._cache = None
        reads_inside = network.image_tail is not None or network.text_tail is not None
        if cache_dir is not None and reads_inside:  # from features alone it is quicker to compute again
            own = fingerprint({"encoder": features.fingerprint}, network.state_dict())
            folder = cache_dir / f"{own[:32]}-{backbone.device.type}"
            self._cache = FeatureCache(folder, "pair-vector", network.pair_dim)

    def encode_pairs(self, images: Sequence[Image], texts: Sequence[str]) -> TextFeatures:
        """RGB images with a text each -> (B, pair_dim); a text of several chunks meets the image in each.

        Raises:
            TextError: one of the texts is empty.
            ValueError: not as many texts as images.
        """
        tokens = [self._backbone.tokenize(text) for text in texts]
        pairs = list(zip(images, texts, tokens, strict=True))
        keys = [_key(image, entry) for image, _, entry in pairs]
        vectors = through_cache(self._cache, keys, pairs, self._forward, self._network.pair_dim)
        return TextFeatures(vectors, np.array([entry.truncated for entry in tokens], dtype=np.int64))

    def _forward(self, pairs: Sequence[Pair]) -> list[Row]:
        image_of = self._images([image for image, _, _ in pairs])
        sides = self._texts(pairs)
        owners = [place for place, chunks in enumerate(sides) for _ in chunks]
        rows = iter(self._read(image_of, owners, [text for chunks in sides for text in chunks]))
        return [np.mean([next(rows) for _ in chunks], axis=0, dtype=np.float32) for chunks in sides]

    def _images(self, images: Sequence[Image]) -> Callable[[int], Tensor]:
        """By place: features (F,), or pixels (3, H, W), made when they are asked for."""
        if self._network.image_tail is None:
            features = torch.from_numpy(self._features.encode_images(images))
            return lambda place: features[place]
        return lambda place: self._backbone.preprocess(images[place])

    def _texts(self, pairs: Sequence[Pair]) -> list[list[Tensor]]:
        """Of each text its features (D,), or the token ids (L,) of its chunks, padded to their length bucket."""
        if self._network.text_tail is None:
            features = self._features.encode_texts([text for _, text, _ in pairs]).features
            return [[row] for row in torch.from_numpy(features)]
        return [[self._padded(ids) for ids in tokens.chunks] for _, _, tokens in pairs]

    def _padded(self, ids: Sequence[int]) -> Tensor:
        length = -(-len(ids) // self._path.length_step) * self._path.length_step
        return torch.tensor([*ids, *[0] * (length - len(ids))])

    def _read(self, image_of: Callable[[int], Tensor], owners: Sequence[int], texts: Sequence[Tensor]) -> list[Row]:
        """A row for each text, beside the image that owns it, in order; texts of one shape share forwards."""
        alike: dict[int, list[int]] = defaultdict(list)
        for place, text in enumerate(texts):
            alike[len(text)].append(place)
        chunk = self._path.chunk
        parts = [places[start : start + chunk] for places in alike.values() for start in range(0, len(places), chunk)]
        rows: dict[int, Row] = {}
        for part in parts:
            sides = torch.stack([image_of(owners[place]) for place in part]), torch.stack([texts[p] for p in part])
            rows.update(zip(part, forward_together(self._fuse, sides, chunk, self._backbone.device), strict=True))
        return [rows[place] for place in range(len(texts))]

    def _fuse(self, images: Tensor, texts: Tensor) -> Tensor:
        network = self._network
        if network.image_tail is not None:
            images = self._backbone.image_tower.prefix(images, network.image_tail)
        if network.text_tail is None:
            return network.read_pairs(images, texts, None)
        return network.read_pairs(images, self._backbone.text_tower.prefix(texts, network.text_tail), texts)


def _key(image: Image, tokens: TokenChunks) -> str:
    return hashlib.sha256(f"{image_key(image)} {tokens.chunks!r}".encode()).hexdigest()

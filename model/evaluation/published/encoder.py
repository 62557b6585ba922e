"""The oracle encoder of an artifact whose method is as published: images, texts and true labels go in together."""

import hashlib
import tempfile
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Self, cast

import numpy as np
import torch
from numpy.typing import NDArray
from PIL.Image import Image
from safetensors.torch import load_file
from torch import Tensor

from encoders.encode import FeatureEncoder
from encoders.prefix import PrefixCache
from encoders.protocol import Backbone
from encoders.registry import load_backbone
from model.artifact import pack_logits
from model.errors import ArtifactError
from model.evaluation.published import PUBLISHED
from model.hasher import EncodedBatch, Modality
from model.manifest import MANIFEST, read_manifest
from model.methods.protocol import Features, Network
from model.states import States

Vectors = Mapping[Modality, Tensor]  # of images and of texts, or of pairs


class PublishedEncoder:
    """Codes of one length; encoders of other lengths of the same network share what it read."""

    def __init__(self, network: Network, backbone: Backbone, bits: int, cache_dir: Path | None = None) -> None:
        """States inside the towers are kept in ``cache_dir``, or for as long as this encoder lives."""
        self.bits = bits
        config: Any = network.config  # each method's own
        self.company: int = config.company
        self._own_cache = tempfile.TemporaryDirectory(prefix="crossbit-") if cache_dir is None else None
        cache_dir = cache_dir or Path(cast("tempfile.TemporaryDirectory[str]", self._own_cache).name)
        self._network = network.eval().requires_grad_(False).to(backbone.device)
        self._features = FeatureEncoder(backbone, cache_dir)
        tails = network.image_tail or 0, network.text_tail or 0
        self._prefix = PrefixCache(backbone, cache_dir, image_tail=tails[0], text_tail=tails[1])
        self._read: dict[str, Vectors] = {}

    def at(self, bits: int) -> Self:
        """The encoder of another length."""
        other = object.__new__(type(self))
        vars(other).update(vars(self), bits=bits)
        return other

    def encode_labelled(
        self, images: Sequence[Image], texts: Sequence[str], labels: NDArray[np.bool_]
    ) -> Mapping[Modality, EncodedBatch]:
        """Codes of (B, C) labelled items that are each other's company, by modality."""
        vectors = self._vectors(images, texts, labels)
        with torch.inference_mode():
            sides = {modality: self._network.logits(modality, rows, self.bits) for modality, rows in vectors.items()}
        none_lost = np.zeros(len(texts), dtype=np.int64)
        return {modality: pack_logits(logits.cpu().numpy(), none_lost) for modality, logits in sides.items()}

    def _vectors(self, images: Sequence[Image], texts: Sequence[str], labels: NDArray[np.bool_]) -> Vectors:
        features, encoded = self._features.encode_images(images), self._features.encode_texts(texts).features
        key = hashlib.sha256(features.tobytes() + encoded.tobytes() + labels.tobytes()).hexdigest()
        if key not in self._read:
            keys = () if self._network.image_tail is None else self._prefix.add_images(images)
            states = States(self._prefix, keys, self._prefix.add_texts(texts))
            told = torch.from_numpy(labels.astype(np.float32))
            rows = Features(torch.from_numpy(features), torch.from_numpy(encoded), told, states)
            with torch.inference_mode():
                self._read[key] = self._network.vectors(rows.to(self._features.backbone.device))
        return self._read[key]


def load_published(folder: Path, bits: int, device: str, cache_dir: Path | None = None) -> PublishedEncoder:
    """The encoder of an artifact of a method as published.

    Raises:
        ArtifactError: missing, without this length, or altered.
    """
    manifest = read_manifest(folder)
    if bits not in manifest.lengths:
        raise ArtifactError(f"{manifest.name} has codes of {manifest.lengths} bits, found a request for {bits}")
    backbone = load_backbone(manifest.backbone, device)
    module = import_module(PUBLISHED[manifest.method])
    try:
        config = module.Config(**{**manifest.config, "bits": tuple(manifest.config["bits"])})
        network: Network = module.Network.build(config, backbone, manifest.data["class_names"])
        network.load_state_dict(load_file(folder / "weights.safetensors"))
    except (OSError, TypeError, ValueError, RuntimeError) as error:
        raise ArtifactError(f"{folder / MANIFEST} and its weights do not fit together: {error}") from error
    return PublishedEncoder(network, backbone, bits, cache_dir)

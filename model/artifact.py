"""The artifact: what serving loads. ``weights.safetensors``, ``manifest.json`` and ``card.md`` in one folder.

The manifest holds one fingerprint for each code length. Loading recomputes it from the weights and the backbone, so an
artifact whose files were exchanged, or whose backbone changed, never makes a code.
"""

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL.Image import Image
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from encoders.device import resolve_device
from encoders.encode import PATHS, FeatureEncoder, path_fingerprint
from encoders.fast import FastPath as FastPath
from encoders.fingerprint import fingerprint
from encoders.forward import forward_chunk
from encoders.registry import load_backbone
from model.durable import replacing
from model.errors import ArtifactError, ModalityError
from model.hasher import EncodedBatch, Modality
from model.manifest import MANIFEST, Manifest, read_manifest
from model.registry import METHODS, method_module

if TYPE_CHECKING:
    from encoders.protocol import Backbone
    from model.keywords import KeywordEncoder
    from model.methods.protocol import Network
    from model.pair_vectors import PairEncoder
    from model.vectors import VectorEncoder

BIT_RULE = "bit j is 1 iff logit_j > 0, at byte j // 8, position j % 8"
DEFAULT_BITS = 64


class ArtifactHasher:
    """A trained network on its backbone: the ``Hasher`` of an artifact at one length. Safe for many threads."""

    def __init__(
        self,
        network: "Network",
        encoder: "FeatureEncoder | VectorEncoder",
        bits: int,
        fingerprint: str,
        pairs: "PairEncoder | None" = None,
        keywords: "KeywordEncoder | None" = None,
    ) -> None:
        """``pairs`` is given where the network fuses, ``keywords`` where it takes names of classes."""
        self.bits = bits
        self.fingerprint = fingerprint
        self.encoder = encoder  # to the vectors that the network's heads take
        lone = frozenset({Modality.IMAGE, Modality.TEXT})
        self.modalities = lone if pairs is None else lone | {Modality.PAIR}
        self._network, self._pairs = network.eval().requires_grad_(False).to(encoder.backbone.device), pairs
        self._keywords = keywords

    @property
    def device(self) -> str:
        """Device kind, ``cpu`` or ``cuda``."""
        return self.encoder.backbone.device.type

    def encode_images(self, images: Sequence[Image]) -> EncodedBatch:
        """RGB images -> codes."""
        features = self.encoder.encode_images(images)
        return self._hash(Modality.IMAGE, features, np.zeros(len(images), dtype=np.int64))

    def encode_texts(self, texts: Sequence[str]) -> EncodedBatch:
        """Texts -> codes."""
        encoded = self.encoder.encode_texts(texts)
        return self._hash(Modality.TEXT, encoded.features, encoded.truncated_tokens)

    def encode_pairs(self, images: Sequence[Image], texts: Sequence[str]) -> EncodedBatch:
        """One code for each image with its text.

        Raises:
            ModalityError: the method does not fuse.
            TextError: one of the texts is empty; what has an image alone is for ``encode_images``.
        """
        if self._pairs is None:
            raise ModalityError("expected a method that fuses image and text into one code; this one does not")
        encoded = self._pairs.encode_pairs(images, texts)
        return self._hash(Modality.PAIR, encoded.features, encoded.truncated_tokens)

    @property
    def keywords(self) -> tuple[str, ...]:
        """Names of the classes that ``encode_keywords`` takes; none where the model has no such entry."""
        return () if self._keywords is None else self._keywords.names

    def encode_keywords(self, keywords: Sequence[str]) -> EncodedBatch:
        """Texts such as ``dog, beach`` -> codes, each of the set of classes that it names.

        Raises:
            ModalityError: the model has no such entry.
            KeywordError: one of them names no class.
        """
        encoder = self._keywords
        if encoder is None:
            raise ModalityError("expected a model that takes keywords, such as one of soda; this one does not")

        def logits_of(rows: Tensor) -> Tensor:
            return encoder.logits(rows, self.bits)

        return self._pack(logits_of, encoder.encode_keywords(keywords), np.zeros(len(keywords), dtype=np.int64))

    def _hash(self, modality: Modality, vectors: NDArray[np.float32], truncated: NDArray[np.int64]) -> EncodedBatch:
        def logits_of(rows: Tensor) -> Tensor:
            return self._network.logits(modality, rows, self.bits)

        return self._pack(logits_of, vectors, truncated)

    def _pack(
        self, logits_of: Callable[[Tensor], Tensor], vectors: NDArray[np.float32], truncated: NDArray[np.int64]
    ) -> EncodedBatch:
        device, inputs = self.encoder.backbone.device, torch.from_numpy(vectors)
        chunk = PATHS[device.type].chunk
        parts = [
            forward_chunk(logits_of, inputs[start : start + chunk], chunk, device)
            for start in range(0, len(inputs), chunk)
        ]
        return pack_logits(np.concatenate([np.empty((0, self.bits), dtype=np.float32), *parts]), truncated)


def pack_logits(logits: NDArray[np.float32], truncated: NDArray[np.int64]) -> EncodedBatch:
    """(B, bits) logits -> codes by ``BIT_RULE``, and their margins."""
    return EncodedBatch(np.packbits(logits > 0, axis=1, bitorder="little"), np.abs(logits), truncated)


def save_artifact(
    folder: Path, manifest: Manifest, network: "Network", encoder: str, write_card: Callable[[Manifest], str]
) -> Manifest:
    """Write an artifact; ``manifest.fingerprints`` is computed here, from the weights and the encoder's fingerprint.

    Returns the manifest as written.
    """
    weights = {name: value.detach().cpu().contiguous() for name, value in network.state_dict().items()}
    fingerprints = {str(bits): _fingerprint(manifest, encoder, bits, weights) for bits in sorted(network.lengths)}
    manifest = dataclasses.replace(manifest, fingerprints=fingerprints)
    with replacing(folder / "weights.safetensors") as temporary:
        save_file(weights, temporary)
    with replacing(folder / "card.md") as temporary:
        temporary.write_text(write_card(manifest), encoding="utf-8")
    with replacing(folder / MANIFEST) as temporary:  # last: an artifact without a manifest does not exist
        temporary.write_text(
            json.dumps(dataclasses.asdict(manifest), indent=2, sort_keys=True) + "\n", encoding="utf-8"
        )
    return manifest


def load_hasher(
    folder: Path,
    bits: int = DEFAULT_BITS,
    device: str = "auto",
    cache_dir: Path | None = None,
    *,
    fast: FastPath | None = None,
) -> ArtifactHasher:
    """Load an artifact at one code length; ``cache_dir`` keeps features on disk between runs.

    ``fast`` gives up bit-exactness, and with it the artifact's fingerprint: no index takes such codes for its own.

    Raises:
        ArtifactError: missing, without this length, or its files are not those of its fingerprint.
    """
    (hasher,) = load_hashers(folder, [bits], device, cache_dir, fast=fast)
    return hasher


def load_hashers(
    folder: Path,
    lengths: Sequence[int],
    device: str = "auto",
    cache_dir: Path | None = None,
    *,
    fast: FastPath | None = None,
) -> list[ArtifactHasher]:
    """``load_hasher`` at several lengths: one network, and one cache of all that lies before its heads.

    Raises:
        ArtifactError: missing, without one of the lengths, or its files are not those of its fingerprints.
    """
    manifest = read_manifest(folder)
    for bits in lengths:
        if bits not in manifest.lengths:
            raise ArtifactError(f"{manifest.name} has codes of {manifest.lengths} bits, found a request for {bits}")
    backbone = load_backbone(manifest.backbone, device)
    network, weights = _load_network(folder, manifest, backbone)
    canonical = path_fingerprint(backbone)
    own = {bits: _checked_fingerprint(manifest, canonical, bits, weights) for bits in lengths}
    if fast is not None:
        path = path_fingerprint(backbone, fast)
        own = {bits: _fingerprint(manifest, path, bits, weights) for bits in lengths}
    encoder = network_encoder(network, backbone, cache_dir, fast)
    pairs = pair_encoder(network, backbone, encoder, cache_dir)
    keywords = keyword_encoder(network, backbone, encoder, cache_dir, fast)
    return [ArtifactHasher(network, encoder, bits, own[bits], pairs, keywords) for bits in lengths]


def network_encoder(
    network: "Network", backbone: "Backbone", cache_dir: Path | None, fast: FastPath | None = None
) -> "FeatureEncoder | VectorEncoder":
    """What leads to the vectors of a network: the backbone's features, or layers of its own after them or inside."""
    from model.methods.protocol import ReadingNetwork
    from model.vectors import VectorEncoder

    if not isinstance(network, ReadingNetwork):
        return FeatureEncoder(backbone, cache_dir, fast)
    network = network.eval().requires_grad_(False).to(backbone.device)
    return VectorEncoder(network, backbone, cache_dir, fast)


def pair_encoder(
    network: "Network", backbone: "Backbone", encoder: "FeatureEncoder | VectorEncoder", cache_dir: Path | None
) -> "PairEncoder | None":
    """What leads to the vectors of pairs; None for a network that does not fuse."""
    from model.methods.protocol import FusingNetwork
    from model.pair_vectors import PairEncoder

    if not isinstance(network, FusingNetwork):
        return None
    features = encoder if isinstance(encoder, FeatureEncoder) else encoder.features
    return PairEncoder(network, backbone, features, cache_dir)


def keyword_encoder(
    network: "Network",
    backbone: "Backbone",
    encoder: "FeatureEncoder | VectorEncoder",
    cache_dir: Path | None,
    fast: FastPath | None,
) -> "KeywordEncoder | None":
    """What leads to the vectors of keywords; None for a network that takes none."""
    from model.keywords import KeywordEncoder
    from model.methods.protocol import KeywordNetwork

    if not isinstance(network, KeywordNetwork) or not network.keywords:
        return None
    features = encoder if isinstance(encoder, FeatureEncoder) else encoder.features
    return KeywordEncoder(network, backbone, features, cache_dir, fast)


def verify_artifact(folder: Path, device: str = "auto") -> Manifest:
    """Load an artifact and recompute the fingerprint of each of its lengths.

    Raises:
        ArtifactError: its files are not those of its fingerprints.
    """
    manifest = read_manifest(folder)
    backbone = load_backbone(manifest.backbone, device)
    _, weights = _load_network(folder, manifest, backbone)
    encoder = path_fingerprint(backbone)
    for bits in manifest.lengths:
        _checked_fingerprint(manifest, encoder, bits, weights)
    return manifest


def device_kind(device: str) -> str:
    """``cpu`` or ``cuda``: where a model for ``device`` would run on this machine.

    Raises:
        EncoderError: there is no such device.
    """
    return resolve_device(device).type


def _load_network(folder: Path, manifest: Manifest, backbone: "Backbone") -> "tuple[Network, Mapping[str, Tensor]]":
    if manifest.method not in METHODS:
        raise ArtifactError(
            f"{manifest.name}: expected a method that encodes without labels ({', '.join(sorted(METHODS))}), found "
            f"{manifest.method!r}; if it is one as published, crossbit evaluate {manifest.name} --oracle measures it"
        )
    module = method_module(manifest.method)
    try:
        config = module.Config(**{key: _tuples(value) for key, value in manifest.config.items()})
    except (TypeError, ValueError) as error:
        raise ArtifactError(f"{folder / MANIFEST}: its config is not one of {manifest.method}: {error}") from error
    network: Network = module.Network.build(config, backbone, manifest.data["class_names"])
    try:
        weights = load_file(folder / "weights.safetensors")
        network.load_state_dict(weights)
    except (OSError, SafetensorError, RuntimeError) as error:
        raise ArtifactError(f"{folder / 'weights.safetensors'} does not fit its manifest: {error}") from error
    return network, weights


def _checked_fingerprint(manifest: Manifest, encoder: str, bits: int, weights: Mapping[str, Tensor]) -> str:
    found, expected = _fingerprint(manifest, encoder, bits, weights), manifest.fingerprints[str(bits)]
    if found != expected:
        raise ArtifactError(
            f"{manifest.name} at {bits} bits: expected fingerprint {expected[:12]}, found {found[:12]}; its weights, "
            "its backbone or the encode path changed since it was trained: train it again, and rebuild its indexes"
        )
    return expected


def _fingerprint(manifest: Manifest, encoder: str, bits: int, weights: Mapping[str, Tensor]) -> str:
    decisive = {
        "method": manifest.method,
        "config": dict(manifest.config),
        "encoder": encoder,
        "bits": bits,
        "bit_rule": BIT_RULE,
    }
    return fingerprint(decisive, weights)


def _tuples(value: Any) -> Any:  # noqa: ANN401  JSON values; its lists are tuples in a frozen Config
    return tuple(value) if isinstance(value, list) else value

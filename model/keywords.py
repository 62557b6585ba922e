"""Keyword queries: the names of classes, for a network that learned from label prompts.

A user names the classes; no label of any item is looked at. The text tower reads the sentences of the teacher's label
prompt on the canonical path, one set of names at a time, so that a code depends on its own names alone.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from encoders.encode import FeatureEncoder
from encoders.fast import FastPath
from encoders.fingerprint import fingerprint
from encoders.protocol import Backbone
from model.errors import KeywordError
from model.methods.protocol import KeywordNetwork
from model.vectors import Inside

Rows = NDArray[np.float32]  # (B, D)


def parse_keywords(text: str, known: Sequence[str]) -> tuple[str, ...]:
    """``dog, beach`` -> the names as the data set has them, in its order, each once.

    Case does not matter, nor whether words are parted by blanks, underscores or hyphens.

    Raises:
        KeywordError: no name, or one that is no class; the message lists those that are.
    """
    classes = {_plain(name): name for name in known}
    asked = [word.strip() for word in text.split(",") if word.strip()]
    unknown = [word for word in asked if _plain(word) not in classes]
    if unknown or not asked:
        found = ", ".join(map(repr, unknown)) or "none"
        raise KeywordError(
            f"expected names of classes, separated by commas, found {found}; known: {', '.join(known)}; for other "
            "words search by text"
        )
    chosen = {classes[_plain(word)] for word in asked}
    return tuple(name for name in known if name in chosen)


def _plain(name: str) -> str:
    return " ".join(name.lower().replace("_", " ").replace("-", " ").split())


class KeywordEncoder:
    """Names of classes -> vectors that the network's keyword head takes. Safe for many threads."""

    def __init__(
        self,
        network: KeywordNetwork,
        backbone: Backbone,
        features: FeatureEncoder,
        cache_dir: Path | None,
        fast: FastPath | None,
    ) -> None:
        """The network is in evaluation mode and on the backbone's device."""
        self.names = network.keywords
        self._network, self._backbone = network, backbone
        self._sentences = features
        if network.text_tail is not None:
            own = fingerprint({"encoder": features.fingerprint, "reads": "keywords"}, network.state_dict())
            self._sentences = FeatureEncoder(_inside(network, backbone, own), cache_dir, fast)

    def encode_keywords(self, keywords: Sequence[str]) -> Rows:
        """(B, text_dim), a row for each text such as ``dog, beach``.

        Raises:
            KeywordError: one of them names no class.
        """
        rows = [self._vector(parse_keywords(text, self.names)) for text in keywords]
        return np.concatenate([np.empty((0, self._backbone.text_dim), dtype=np.float32), *rows])

    def logits(self, vectors: Tensor, bits: int) -> Tensor:
        """(B, text_dim) -> (B, bits)."""
        return self._network.keyword_logits(vectors, bits)

    def _vector(self, names: Sequence[str]) -> Rows:
        read = self._sentences.encode_texts(self._network.keyword_sentences(names)).features
        with torch.inference_mode():
            vector = self._network.keyword_vector(names, torch.from_numpy(read).to(self._backbone.device))
        found: Rows = vector.float().cpu().numpy()
        return found


def _inside(network: KeywordNetwork, backbone: Backbone, fingerprint: str) -> Inside:
    """The backbone with the tuned blocks of the network's label branch."""

    def texts(tokens: Tensor) -> Tensor:
        return network.read_keywords(backbone.text_tower.prefix(tokens, network.text_tail or 0), tokens)

    dims = (backbone.image_dim, backbone.text_dim)
    return Inside(backbone, fingerprint, images=backbone.image_features, texts=texts, dims=dims)

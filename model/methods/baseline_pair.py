"""``baseline-pair``: late fusion of ``baseline``, the bar that a method which fuses must pass.

The network of ``baseline``, trained as ever: one item at a time, each modality alone. The code of a pair is the sign
of the mean of its image's and its text's logits, by the same heads, without any further training.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from encoders.protocol import Backbone
from model.methods import baseline
from model.methods.baseline import Config as Config
from model.methods.baseline import Objective as Objective
from model.methods.protocol import LONE, FusingNetwork


class Network(FusingNetwork, baseline.Network):
    """``baseline``'s; the vector of a pair is the features of its image, then those of its text."""

    selects = LONE  # the epoch that ``baseline`` keeps, so that both are one training

    def __init__(self, config: Config, image_dim: int, text_dim: int) -> None:
        super().__init__(config, image_dim, text_dim)
        self._dims = (image_dim, text_dim)
        self.pair_dim = image_dim + text_dim

    @classmethod
    def build(cls, config: Config, backbone: Backbone, classes: Sequence[str]) -> "Network":
        """As the constructor."""
        return cls(config, backbone.image_dim, backbone.text_dim)

    def read_pairs(self, images: Tensor, texts: Tensor, tokens: Tensor | None) -> Tensor:
        """(B, image_dim) and (B, text_dim) -> (B, pair_dim)."""
        return torch.cat([images, texts], dim=1)

    def pair_logits(self, vectors: Tensor, bits: int) -> Tensor:
        """(B, pair_dim) -> (B, bits), the mean of both sides' logits."""
        images, texts = vectors.split(self._dims, dim=1)
        return (self.image_logits(images, bits) + self.text_logits(texts, bits)) / 2

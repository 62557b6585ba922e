"""What a method that is a loss stands on: a trunk for each modality, linear tanh heads, every length at once.

The papers of DNpH, DHaPH and their like put one linear map behind each tower of a tuned CLIP. ``width = 0`` is that
map, with its dropout on the logits; any other width puts an input layer between, for frozen towers of two families.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from model.banks import Codes
from model.heads import InputLayer, InputScaling, MultiLengthHeads
from model.likeness import Likeness
from model.methods import protocol
from model.methods.protocol import Features


@dataclass(frozen=True, slots=True)
class TrunkConfig:
    """The part of a ``[config]`` table that is about the network."""

    bits: tuple[int, ...] = (16, 32, 64, 128)  # served code lengths
    width: int = 512  # of each modality's input layer; 0: linear heads on the features
    dropout: float = 0.3
    standardise_images: bool = True
    standardise_texts: bool = True

    def __post_init__(self) -> None:
        if not self.bits or any(bits < 8 or bits % 8 for bits in self.bits) or len(set(self.bits)) != len(self.bits):
            raise ValueError(f"bits: expected different positive multiples of 8, found {list(self.bits)}")
        if self.width < 0 or not 0 <= self.dropout < 1:
            raise ValueError(f"expected width >= 0 and 0 <= dropout < 1, found {self.width} and {self.dropout}")


class Trunk(nn.Module):
    """Of one modality: (input layer,) a linear head for each length."""

    def __init__(self, dim: int, config: TrunkConfig) -> None:
        super().__init__()
        self.input = InputLayer(dim, config.width, config.dropout) if config.width else InputScaling(dim)
        self.heads = MultiLengthHeads(config.width or dim, config.bits)
        self.dropout = nn.Dropout(0.0 if config.width else config.dropout)

    @property
    def scaling(self) -> InputScaling:
        """Of the features."""
        return self.input.scaling if isinstance(self.input, InputLayer) else self.input

    def read(self, features: Tensor) -> Tensor:
        """(B, dim) -> (B, width or dim), once for all lengths."""
        hidden: Tensor = self.input(features)
        return hidden

    def logits(self, hidden: Tensor, bits: int) -> Tensor:
        """What ``read`` gave -> (B, bits)."""
        logits: Tensor = self.dropout(self.heads(hidden, bits))
        return logits


class TrunkNetwork(protocol.Network):
    """A trunk for images and one for texts; they share nothing."""

    def __init__(self, config: TrunkConfig, image_dim: int, text_dim: int) -> None:
        super().__init__()
        self.lengths = config.bits
        self.image = Trunk(image_dim, config)
        self.text = Trunk(text_dim, config)

    def image_logits(self, features: Tensor, bits: int) -> Tensor:
        """(B, image_dim) -> (B, bits)."""
        return self.image.logits(self.image.read(features), bits)

    def text_logits(self, features: Tensor, bits: int) -> Tensor:
        """(B, text_dim) -> (B, bits)."""
        return self.text.logits(self.text.read(features), bits)


class TrunkObjective(protocol.Objective, ABC):
    """Losses on the tanh codes of a batch; without labels an item is like itself alone, among labels it drops out."""

    def __init__(self, config: TrunkConfig, network: TrunkNetwork, train: Features) -> None:
        super().__init__()
        self._trunks = config
        self._borrowed = (network, train)  # in a tuple: neither is part of this module's state
        self.alike = Likeness(train.labels)

    def begin(self) -> None:
        """Fit the input scaling."""
        network, train = self._borrowed
        if self._trunks.standardise_images:
            network.image.scaling.fit(train.images)
        if self._trunks.standardise_texts:
            network.text.scaling.fit(train.texts)

    def losses(self, rows: Tensor, generator: torch.Generator) -> Mapping[str, Tensor]:
        """Named terms for those of the training rows (B,) that have a label."""
        rows = self.alike.labelled(rows)
        if len(rows):
            return self.terms(rows, generator)
        return {"nothing": 0 * next(self._borrowed[0].parameters()).sum()}

    @abstractmethod
    def terms(self, rows: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """Weighted, named terms for rows (B,), each a mean over the code lengths."""

    def codes(self, rows: Tensor) -> Codes:
        """Tanh codes of images and of texts, by length."""
        network, train = self._borrowed
        image, text = network.image.read(train.images[rows]), network.text.read(train.texts[rows])
        return {
            bits: (network.image.logits(image, bits).tanh(), network.text.logits(text, bits).tanh())
            for bits in self._trunks.bits
        }


def mean_over_lengths(codes: Codes, term: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """Mean of a term of tanh codes (B, K) of images and of texts over the lengths K."""
    return torch.stack([term(image, text) for image, text in codes.values()]).mean()

"""A hashing method: a module with a frozen ``Config``, a ``Network`` that serves codes, and one way to train it.

That is either an ``Objective``, which the training loop minimises and which labels may reach, or a function ``fit``
(see ``Fit``) that solves the network in closed form.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, Self

import torch
from torch import Tensor, nn

from encoders.protocol import Backbone
from model.states import States

READ = 256  # rows that a network reads at a time where no gradient is kept


@dataclass(frozen=True, slots=True)
class Features:
    """Cached backbone features of N items, image and text of one item in one row; labels where the data has them."""

    images: Tensor  # (N, image_dim)
    texts: Tensor  # (N, text_dim)
    labels: Tensor | None  # (N, C) multi-hot float; a row of zeros is an unlabelled item
    states: States | None = None  # of the same items, for networks that read inside a tower
    ids: Sequence[str] = ()  # of the items, for messages

    def __len__(self) -> int:
        return len(self.images)

    def part(self, rows: slice) -> "Features":
        """Some of the rows."""
        labels = None if self.labels is None else self.labels[rows]
        states = None if self.states is None else self.states.part(rows)
        return Features(self.images[rows], self.texts[rows], labels, states, self.ids[rows])

    def to(self, device: torch.device) -> "Features":
        """The same features on a device."""
        labels = None if self.labels is None else self.labels.to(device)
        return replace(self, images=self.images.to(device), texts=self.texts.to(device), labels=labels)


@dataclass(frozen=True, slots=True)
class ParameterGroup:
    """Parameters that learn at a rate of their own."""

    parameters: Sequence[nn.Parameter]
    rate: float = 1.0  # of the recipe's
    decays: bool = True


class Network(nn.Module, ABC):
    """The serving side: logits from one modality's vectors alone. No label argument exists.

    The vectors are the backbone's features, but for a ``ReadingNetwork``, which makes its own.
    """

    lengths: tuple[int, ...]  # code lengths that are served
    image_tail: int | None = None  # what is read of training rows beside features: the state before so many blocks
    text_tail: int | None = None
    image_views: int = 1  # fixed crops and mirror images of each training image, where its states are read

    @classmethod
    def build(cls, config: Any, backbone: Backbone, classes: Sequence[str]) -> Self:  # noqa: ANN401  the method's own
        """An untrained network for a backbone and, where it has prompts of them, class names."""
        network: Self = cls(config, backbone.image_dim, backbone.text_dim)
        return network

    def parameter_groups(self) -> list[ParameterGroup]:
        """What the optimiser tunes."""
        return [ParameterGroup(list(self.parameters()))]

    def vectors(self, features: Features) -> tuple[Tensor, Tensor]:
        """What ``image_logits`` and ``text_logits`` take, (N, D) each, for cached rows; labels are not looked at."""
        return features.images, features.texts

    @abstractmethod
    def image_logits(self, vectors: Tensor, bits: int) -> Tensor:
        """(B, D) -> (B, bits)."""

    @abstractmethod
    def text_logits(self, vectors: Tensor, bits: int) -> Tensor:
        """(B, D) -> (B, bits)."""


class ReadingNetwork(Network, ABC):
    """A network with layers of its own between the towers and its heads, some of which may run inside a tower.

    A tail is a number of the tower's last blocks, as ``Tower.prefix`` counts: what is read is the state before them.
    None reads the backbone's features. An input is read once for all code lengths.
    """

    vector_dim: int

    @abstractmethod
    def read_images(self, inputs: Tensor) -> Tensor:
        """(B, image_dim) features or (B, ...) states -> (B, vector_dim)."""

    @abstractmethod
    def read_texts(self, inputs: Tensor, tokens: Tensor | None) -> Tensor:
        """(B, text_dim) features, or (B, L, W) states and their ids (B, L) -> (B, vector_dim)."""

    def vectors(self, features: Features) -> tuple[Tensor, Tensor]:
        """Vectors of cached rows; a text of several chunks is the mean of theirs."""
        parts = [range(start, min(start + READ, len(features))) for start in range(0, len(features), READ)]
        images = [self.image_vectors(features, part) for part in parts]
        texts = [self.text_vectors(features, part) for part in parts]
        return torch.cat(images), torch.cat(texts)

    def image_vectors(self, features: Features, rows: Sequence[int]) -> Tensor:
        """(B, vector_dim) of some rows."""
        if self.image_tail is None:
            return self.read_images(features.images[list(rows)])
        return self.read_images(_states(features).image_batch(rows))

    def text_vectors(self, features: Features, rows: Sequence[int]) -> Tensor:
        """(B, vector_dim) of some rows."""
        if self.text_tail is None:
            return self.read_texts(features.texts[list(rows)], None)
        batch = _states(features).text_batch(rows)
        return batch.vectors(lambda states, tokens, owner: self.read_texts(states, tokens))


def _states(features: Features) -> States:
    if features.states is None:
        raise ValueError("expected rows with states inside the towers, found features alone")
    return features.states


class Objective(nn.Module, ABC):
    """The training side: losses of a network on a batch; buffers hold whatever they need between batches."""

    @abstractmethod
    def begin(self) -> None:
        """Called once before the first step of a fresh run."""

    @abstractmethod
    def losses(self, rows: Tensor, generator: torch.Generator) -> Mapping[str, Tensor]:
        """Weighted, named terms for the training rows (B,); their sum is what the optimiser minimises."""


class Fit(Protocol):
    """Solves a network in closed form."""

    def __call__(self, config: Any, train: Features, seed: int) -> Network:  # noqa: ANN401  the method's own Config
        """The network, on the CPU, from training rows that carry no labels."""

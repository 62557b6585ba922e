"""A hashing method: a module with a frozen ``Config``, a ``Network`` that serves codes, and one way to train it.

That is either an ``Objective``, which the training loop minimises and which labels may reach, or a function ``fit``
(see ``Fit``) that solves the network in closed form.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn


@dataclass(frozen=True, slots=True)
class Features:
    """Cached backbone features of N items, image and text of one item in one row; labels where the data has them."""

    images: Tensor  # (N, image_dim)
    texts: Tensor  # (N, text_dim)
    labels: Tensor | None  # (N, C) multi-hot float; a row of zeros is an unlabelled item

    def __len__(self) -> int:
        return len(self.images)

    def part(self, rows: slice) -> "Features":
        """Some of the rows."""
        return Features(self.images[rows], self.texts[rows], None if self.labels is None else self.labels[rows])

    def to(self, device: torch.device) -> "Features":
        """The same features on a device."""
        labels = None if self.labels is None else self.labels.to(device)
        return Features(self.images.to(device), self.texts.to(device), labels)


class Network(nn.Module, ABC):
    """The serving side: logits from one modality's features alone. No label argument exists."""

    lengths: tuple[int, ...]  # code lengths that are served

    @abstractmethod
    def image_logits(self, features: Tensor, bits: int) -> Tensor:
        """(B, image_dim) -> (B, bits)."""

    @abstractmethod
    def text_logits(self, features: Tensor, bits: int) -> Tensor:
        """(B, text_dim) -> (B, bits)."""


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

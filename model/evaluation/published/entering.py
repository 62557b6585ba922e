"""What the released builds share before their fusion: prompts of true labels, and rows that enter once.

Rows that nothing changes before the fusion, for want of a rate there, are read in one pass and kept.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor, nn

from encoders.protocol import Backbone
from model.errors import RecipeError
from model.methods.protocol import READ, Features
from model.prompts import prompt_tokens

Sentence = Callable[[bytes, list[str]], str]  # of a label set: a key that is the same for ever, and its class names
Entered = tuple[Tensor, ...]  # (B, width) each


class LabelPrompts:
    """Prompts that name each row's true classes, as token ids."""

    def __init__(
        self, backbone: Backbone, names: Sequence[str], sentence: Sentence, *, positions: int, told: bool
    ) -> None:
        """``told=False`` withholds the names; of longer prompts the first ``positions`` ids are kept."""
        self._backbone, self._names, self._sentence = backbone, tuple(names), sentence
        self._positions, self._told = positions, told
        self._known: dict[bytes, Tensor] = {}

    def ids(self, features: Features, rows: Sequence[int]) -> Tensor:
        """(B, P) ids, 0 where padded.

        Raises:
            RecipeError: the rows have no labels.
        """
        labels = labels_of(features)[list(rows)].bool().cpu()
        if not self._told:
            labels = torch.zeros_like(labels)
        found = [self._of(row) for row in labels]
        return nn.utils.rnn.pad_sequence(found, batch_first=True).to(features.images.device)

    def _of(self, row: Tensor) -> Tensor:
        key = row.numpy().tobytes()
        if key not in self._known:
            names = [name for name, present in zip(self._names, row.tolist(), strict=True) if present]
            self._known[key] = prompt_tokens(self._backbone, [self._sentence(key, names)])[0, : self._positions]
        return self._known[key]


class Entering(Protocol):
    """A released network: whether it reads its inputs alike in every step, and how."""

    training: bool

    @property
    def enters_alike(self) -> bool:
        """Whether nothing learns before the fusion."""

    def enter(self, features: Features, rows: Sequence[int]) -> Entered:
        """What is fused, of some rows."""

    def train(self, mode: bool = True) -> object:
        """As of a module."""


class Entrance:
    """Training rows as they enter the fusion."""

    def __init__(self, network: Entering, train: Features) -> None:
        self._network, self._train = network, train
        self._kept: Entered | None = None

    def __call__(self, rows: Tensor) -> Entered:
        """Of the training rows (B,)."""
        if not self._network.enters_alike:
            return self._network.enter(self._train, rows.tolist())
        if self._kept is None:
            self._kept = self._read()
        return tuple(side[rows] for side in self._kept)

    @torch.no_grad()
    def _read(self) -> Entered:
        network, training = self._network, self._network.training
        network.train(False)  # without dropout: it would be the same noise for ever
        every = range(len(self._train))
        parts = [network.enter(self._train, every[start : start + READ]) for start in every[::READ]]
        network.train(training)
        return tuple(torch.cat(side) for side in zip(*parts, strict=True))


def labels_of(features: Features) -> Tensor:
    """(N, C) multi-hot.

    Raises:
        RecipeError: there are none.
    """
    if features.labels is None:
        raise RecipeError("expected rows with labels, which the released encoder takes; found none")
    return features.labels

"""A hashing method: a module with a frozen ``Config``, a ``Network`` that serves codes, and one way to train it.

That is either an ``Objective``, which the training loop minimises and which labels may reach, or a function ``fit``
(see ``Fit``) that solves the network in closed form.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, Self

import torch
from torch import Tensor, nn

from encoders.protocol import Backbone
from model.hasher import Modality
from model.ranks import shared
from model.states import States

READ = 256  # rows that a network reads at a time where no gradient is kept
Direction = tuple[Modality, Modality]  # of the query, of the database
LONE: tuple[Direction, ...] = ((Modality.IMAGE, Modality.TEXT), (Modality.TEXT, Modality.IMAGE))


@dataclass(frozen=True, slots=True)
class Features:
    """Cached backbone features of N items, image and text of one item in one row; labels where the data has them."""

    images: Tensor  # (N, image_dim)
    texts: Tensor  # (N, text_dim)
    labels: Tensor | None  # (N, C) multi-hot float; a row of zeros is an unlabelled item
    states: States | None = None  # of the same items, for networks that read inside a tower
    ids: Sequence[str] = ()  # of the items, for messages
    guesses: Mapping[Modality, Tensor] | None = None  # (N, C) of classes, where ``prepared`` made them

    def __len__(self) -> int:
        return len(self.images)

    def part(self, rows: slice) -> "Features":
        """Some of the rows."""
        labels = None if self.labels is None else self.labels[rows]
        states = None if self.states is None else self.states.part(rows)
        guesses = None if self.guesses is None else {side: one[rows] for side, one in self.guesses.items()}
        return Features(self.images[rows], self.texts[rows], labels, states, self.ids[rows], guesses)

    def to(self, device: torch.device) -> "Features":
        """The same features on a device."""
        labels = None if self.labels is None else self.labels.to(device)
        guesses = None if self.guesses is None else {side: one.to(device) for side, one in self.guesses.items()}
        images, texts = self.images.to(device), self.texts.to(device)
        return replace(self, images=images, texts=texts, labels=labels, guesses=guesses)


@dataclass(frozen=True, slots=True)
class ParameterGroup:
    """Parameters that learn at a rate of their own."""

    parameters: Sequence[nn.Parameter]
    rate: float = 1.0  # of the recipe's
    decays: bool = True
    stages: Sequence[float] = ()  # factor of that rate in each stage of the objective; empty: 1 in all


class Network(nn.Module, ABC):
    """The serving side: logits from one modality's vectors alone. No label argument exists.

    The vectors are the backbone's features, but for a ``ReadingNetwork``, which makes its own.
    """

    lengths: tuple[int, ...]  # code lengths that are served
    image_tail: int | None = None  # what is read of training rows beside features: the state before so many blocks
    text_tail: int | None = None
    selects: Sequence[Direction] = LONE  # directions whose validation mAP, as a mean, selects the epoch
    image_views: int = 1  # fixed crops and mirror images of each training image, where its states are read

    @classmethod
    def build(cls, config: Any, backbone: Backbone, classes: Sequence[str]) -> Self:  # noqa: ANN401  the method's own
        """An untrained network for a backbone and, where it has prompts of them, class names."""
        network: Self = cls(config, backbone.image_dim, backbone.text_dim)
        return network

    def parameter_groups(self) -> list[ParameterGroup]:
        """What the optimiser tunes."""
        return [ParameterGroup(list(self.parameters()))]

    def prepared(self, features: Features) -> Features:
        """Rows that are read in every epoch, with what is frozen of that reading, made once; after ``begin``."""
        return features

    def vectors(self, features: Features) -> dict[Modality, Tensor]:
        """What ``logits`` takes of each modality, (N, D) each, for cached rows; labels are not looked at."""
        return {Modality.IMAGE: features.images, Modality.TEXT: features.texts}

    def logits(self, modality: Modality, vectors: Tensor, bits: int) -> Tensor:
        """(B, D) of one modality -> (B, bits)."""
        return self.image_logits(vectors, bits) if modality is Modality.IMAGE else self.text_logits(vectors, bits)

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

    def vectors(self, features: Features) -> dict[Modality, Tensor]:
        """Vectors of cached rows; a text of several chunks is the mean of theirs."""
        images = [self.image_vectors(features, part) for part in parts_of(features)]
        texts = [self.text_vectors(features, part) for part in parts_of(features)]
        return {Modality.IMAGE: torch.cat(images), Modality.TEXT: torch.cat(texts)}

    def image_vectors(self, features: Features, rows: Sequence[int]) -> Tensor:
        """(B, vector_dim) of some rows."""
        return shared(self.read_images)(image_inputs(self, features, rows))

    def text_vectors(self, features: Features, rows: Sequence[int]) -> Tensor:
        """(B, vector_dim) of some rows."""
        if self.text_tail is None:
            return shared(self.read_texts)(features.texts[list(rows)], None)
        batch = states_of(features).text_batch(rows)
        return batch.vectors(shared(lambda states, tokens, owner: self.read_texts(states, tokens)))


class FusingNetwork(Network, ABC):
    """A network that also makes one code of an image and a text together, in the Hamming space of its other codes.

    Where it reads inside a tower, the tails are those of ``image_tail`` and ``text_tail``.
    """

    pair_dim: int
    selects = (*((query, Modality.PAIR) for query in (Modality.PAIR, *LONE[0])), *LONE)

    @abstractmethod
    def read_pairs(self, images: Tensor, texts: Tensor, tokens: Tensor | None) -> Tensor:
        """Features or states of B images and of B texts, as ``ReadingNetwork`` has them -> (B, pair_dim)."""

    @abstractmethod
    def pair_logits(self, vectors: Tensor, bits: int) -> Tensor:
        """(B, pair_dim) -> (B, bits)."""

    def vectors(self, features: Features) -> dict[Modality, Tensor]:
        """Those of images and texts, and of pairs."""
        pairs = torch.cat([self.pair_vectors(features, part) for part in parts_of(features)])
        return {**super().vectors(features), Modality.PAIR: pairs}

    def pair_vectors(self, features: Features, rows: Sequence[int]) -> Tensor:
        """(B, pair_dim) of some cached rows; a text of several chunks meets the image in each, and the mean counts."""
        images = image_inputs(self, features, rows)
        if self.text_tail is None:
            return shared(self.read_pairs)(images, features.texts[list(rows)], None)
        batch = states_of(features).text_batch(rows)
        return batch.vectors(shared(lambda states, tokens, owner: self.read_pairs(images[owner], states, tokens)))

    def logits(self, modality: Modality, vectors: Tensor, bits: int) -> Tensor:
        """Those of a pair as well."""
        if modality is Modality.PAIR:
            return self.pair_logits(vectors, bits)
        return super().logits(modality, vectors, bits)


class KeywordNetwork(Network, ABC):
    """A network that also makes a code of the names of classes that a user asks for, as a third, text-like entry."""

    keywords: tuple[str, ...] = ()  # names of the classes that it knows; none where the entry was not kept

    @abstractmethod
    def keyword_sentences(self, names: Sequence[str]) -> Sequence[str]:
        """What the text tower reads for some of the classes, in class order."""

    @abstractmethod
    def read_keywords(self, states: Tensor, tokens: Tensor) -> Tensor:
        """States (B, L, W) of sentences before the last ``text_tail`` blocks, and their ids -> (B, text_dim)."""

    @abstractmethod
    def keyword_vector(self, names: Sequence[str], features: Tensor) -> Tensor:
        """Features (T, text_dim) of the sentences of some classes -> (1, text_dim)."""

    @abstractmethod
    def keyword_logits(self, vectors: Tensor, bits: int) -> Tensor:
        """(B, text_dim) -> (B, bits)."""


def parts_of(features: Features) -> Iterator[range]:
    """Rows as a network reads them, ``READ`` at a time."""
    return (range(start, min(start + READ, len(features))) for start in range(0, len(features), READ))


def image_inputs(network: Network, features: Features, rows: Sequence[int], view: int = 0) -> Tensor:
    """Features of some rows or, where the network reads inside the image tower, states."""
    return features.images[list(rows)] if network.image_tail is None else states_of(features).image_batch(rows, view)


def states_of(features: Features) -> States:
    """The states inside the towers, which the rows were read with.

    Raises:
        ValueError: there are features alone.
    """
    if features.states is None:
        raise ValueError("expected rows with states inside the towers, found features alone")
    return features.states


class Objective(nn.Module, ABC):
    """The training side: losses of a network on a batch; buffers hold whatever they need between batches."""

    @abstractmethod
    def begin(self) -> None:
        """Called once before the first step of a fresh run."""

    def parameter_groups(self) -> list[ParameterGroup]:
        """What the optimiser tunes beside the network."""
        return [ParameterGroup(list(self.parameters()))]

    def stages(self, epochs: int) -> Sequence[int]:
        """How a run's epochs fall into stages: the rate rises and decays in each, the last one is selected from.

        Raises:
            RecipeError: too few epochs for the stages.
        """
        return (epochs,)

    def begin_stage(self, stage: int) -> None:
        """Called once before the first step of stage 1 and of each that follows, in evaluation mode.

        A run that is resumed within a stage does not call it again: what it leaves is in buffers and in the network.
        """

    @abstractmethod
    def losses(self, rows: Tensor, generator: torch.Generator) -> Mapping[str, Tensor]:
        """Weighted, named terms for the training rows (B,); their sum is what the optimiser minimises."""


class Fit(Protocol):
    """Solves a network in closed form."""

    def __call__(self, config: Any, train: Features, seed: int) -> Network:  # noqa: ANN401  the method's own Config
        """The network, on the CPU, from training rows that carry no labels."""

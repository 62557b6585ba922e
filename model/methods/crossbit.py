"""``crossbit``: our own. Codes follow what labels say of two items, and what classes guessed without them say.

Paper: none; the parts are known, and each can be switched off. Map:
- classes guessed from the same modality by kernel ridge regression -> ``class_kernel``: the log-odds enter beside the
  features. While learning, some rows enter with guesses of a fit that left them out (stacking, Wolpert 1992), others
  with those that are served: a database holds rows that were learned from and rows that were not;
- contrast toward label overlap (SupCon, arXiv 2004.11362, with soft targets) -> ``overlap_contrast``, on the codes of
  every length, across and within modalities;
- its targets mixed with the overlap that the guesses which entered let expect (distillation, arXiv 1503.02531; the
  noisy-or of independent classes) -> ``expected_sharing``. A code then hedges as far as its input is doubtful, where
  labels alone teach it to be sure;
- quantisation, and an auxiliary longer code.

Evidence: own, on validation queries alone: docs/results.md lists every setting that was tried. The served side sees one
modality of one input, and no label.

Without labels nothing is guessed, and an item is like itself alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from encoders.protocol import Backbone
from model.class_kernel import ClassKernel
from model.hasher import Modality
from model.heads import InputScaling, MultiLengthHeads
from model.likeness import Likeness
from model.losses import Attraction, expected_sharing, overlap_contrast, quantisation
from model.methods import protocol
from model.methods.protocol import Features
from model.ranks import shared

ODDS_LIMIT = 1e-3  # a guess is at least that far from 0 and 1 before its odds are taken
ODDS_UNIT = 3.0  # log-odds that enter as 1


@dataclass(frozen=True, slots=True)
class Config:
    """The ``[config]`` table of a recipe."""

    bits: tuple[int, ...] = (16, 32, 64, 128)  # served code lengths
    auxiliary_bits: int = 256  # trained beside them, never served; 0 for none
    odds: bool = True  # guessed classes enter as log-odds
    landmarks: int = 2000  # training rows, of each modality, that an input is likened to for its guesses
    served_guesses: float = 0.5  # share of a batch that enters with guesses as served, not of a fit without the row
    hidden: int = 512
    width: int = 384  # of what the heads read
    input_dropout: float = 0.3  # on features, not on guesses
    dropout: float = 0.1
    temperature: float = 0.2  # of the contrast
    guessed: float = 0.3  # share of the contrast's target that guesses make, and not labels
    within: float = 0.5  # share of the contrast within each modality
    quantisation: float = 0.1

    def __post_init__(self) -> None:
        lengths = _lengths(self)
        if not self.bits or any(bits < 8 or bits % 8 for bits in lengths) or len(set(lengths)) != len(lengths):
            raise ValueError(f"bits and auxiliary_bits: expected different positive multiples of 8, found {lengths}")
        if not (0 <= self.dropout < 1 and 0 <= self.input_dropout < 1):
            found = f"{self.dropout} and {self.input_dropout}"
            raise ValueError(f"dropout and input_dropout: expected 0 <= dropout < 1, found {found}")
        if not (0 <= self.served_guesses <= 1 and 0 <= self.guessed <= 1):
            raise ValueError(
                f"served_guesses and guessed: expected 0 to 1, found {self.served_guesses} and {self.guessed}"
            )
        if self.guessed and not self.odds:
            raise ValueError("guessed: expected odds, which the codes then follow; or guessed=0")
        if self.landmarks < 1:
            raise ValueError(f"landmarks: expected at least 1, found {self.landmarks}")
        if self.temperature <= 0:
            raise ValueError(f"temperature: expected more than 0, found {self.temperature}")


class Side(nn.Module):
    """One modality: scaled features, and what they say of the classes."""

    def __init__(self, dim: int, config: Config, classes: int) -> None:
        super().__init__()
        self.scaling = InputScaling(dim)
        self.dropout = nn.Dropout(config.input_dropout)
        self.linear = nn.Linear(dim, config.hidden)
        self.guesses = ClassKernel(dim, classes, config.landmarks) if classes and config.odds else None

    def forward(self, features: Tensor) -> Tensor:
        """(B, dim) -> (B, hidden)."""
        hidden: Tensor = self.linear(self.dropout(self.scaling(features)))
        return hidden


class Network(protocol.ReadingNetwork):
    """A side for each modality; a layer for guessed classes, a hidden layer and heads that both share."""

    def __init__(self, config: Config, backbone: Backbone, names: Sequence[str]) -> None:
        super().__init__()
        self.config, self.lengths, self.vector_dim = config, config.bits, config.width
        self.image = Side(backbone.image_dim, config, len(names))
        self.text = Side(backbone.text_dim, config, len(names))
        self.classes = nn.Linear(len(names), config.hidden, bias=False) if names and config.odds else None
        self.hidden = nn.Sequential(
            nn.ReLU(), nn.Dropout(config.dropout), nn.Linear(config.hidden, config.width), nn.ReLU()
        )
        self.heads = MultiLengthHeads(config.width, _lengths(config))

    @classmethod
    def build(cls, config: Config, backbone: Backbone, names: Sequence[str]) -> "Network":
        """As the constructor."""
        return cls(config, backbone, names)

    def parameter_groups(self) -> list[protocol.ParameterGroup]:
        """All but what guesses classes, which is fitted before the first step."""
        return [protocol.ParameterGroup([one for one in self.parameters() if one.requires_grad])]

    def prepared(self, features: Features) -> Features:
        """With the classes guessed of each row, by what is frozen."""
        if self.image.guesses is None or self.text.guesses is None:
            return features
        of = {Modality.IMAGE: (self.image.guesses, features.images), Modality.TEXT: (self.text.guesses, features.texts)}
        with torch.no_grad():
            guesses = {
                modality: torch.cat([guess(inputs[part.start : part.stop]) for part in protocol.parts_of(features)])
                for modality, (guess, inputs) in of.items()
            }
        return replace(features, guesses=guesses)

    def image_vectors(self, features: Features, rows: Sequence[int]) -> Tensor:
        """(B, width) of some rows, by their guesses where they have them."""
        if features.guesses is None:
            return super().image_vectors(features, rows)
        return self._guessed_vectors(self.image, features.images, features.guesses[Modality.IMAGE], rows)

    def text_vectors(self, features: Features, rows: Sequence[int]) -> Tensor:
        """(B, width) of some rows, by their guesses where they have them."""
        if features.guesses is None:
            return super().text_vectors(features, rows)
        return self._guessed_vectors(self.text, features.texts, features.guesses[Modality.TEXT], rows)

    def _guessed_vectors(self, side: Side, inputs: Tensor, guesses: Tensor, rows: Sequence[int]) -> Tensor:
        places = list(rows)
        read = shared(lambda own, guessed: self.join(side, own, guessed))
        return read(inputs[places], guesses[places])

    def read_images(self, inputs: Tensor) -> Tensor:
        """Features -> vectors."""
        return self.join(self.image, inputs)

    def read_texts(self, inputs: Tensor, tokens: Tensor | None) -> Tensor:
        """Features -> vectors."""
        return self.join(self.text, inputs)

    def join(self, side: Side, features: Tensor, guesses: Tensor | None = None) -> Tensor:
        """(B, dim) of one side -> (B, width). ``guesses`` (B, C) stand in for its own, in training."""
        hidden = side(features)
        if self.classes is not None and side.guesses is not None:
            guesses = side.guesses(features) if guesses is None else guesses
            hidden = hidden + self.classes(guesses.clamp(ODDS_LIMIT, 1 - ODDS_LIMIT).logit() / ODDS_UNIT)
        vectors: Tensor = self.hidden(hidden)
        return vectors

    def image_logits(self, vectors: Tensor, bits: int) -> Tensor:
        """(B, width) -> (B, bits)."""
        logits: Tensor = self.heads(vectors, bits)
        return logits

    def text_logits(self, vectors: Tensor, bits: int) -> Tensor:
        """(B, width) -> (B, bits)."""
        logits: Tensor = self.heads(vectors, bits)
        return logits


class Objective(protocol.Objective):
    """Losses over the training rows, on lone codes; labels stay on this side."""

    image_guesses: Tensor  # (2, N, C) probabilities, of a fit without the row and as served
    text_guesses: Tensor

    def __init__(self, config: Config, network: Network, train: Features) -> None:
        super().__init__()
        self.config = config
        self._borrowed = (network, train)  # in a tuple: neither is part of this module's state
        self.alike = Likeness(train.labels)
        self.guesses = train.labels is not None and network.classes is not None
        if train.labels is not None and self.guesses:
            self.register_buffer("image_guesses", torch.zeros(2, *train.labels.shape))
            self.register_buffer("text_guesses", torch.zeros(2, *train.labels.shape))

    def begin(self) -> None:
        """Fit scalings and what guesses classes."""
        network, train = self._borrowed
        for seed, (side, features) in enumerate(((network.image, train.images), (network.text, train.texts))):
            side.scaling.fit(features)
            if train.labels is not None and side.guesses is not None:
                kept = self.text_guesses if seed else self.image_guesses
                kept[0] = side.guesses.fit(features, train.labels, seed=seed)
                with torch.no_grad():
                    kept[1] = side.guesses(features)

    def losses(self, rows: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """Named terms for the training rows (B,), each a mean over the code lengths."""
        config, (network, train) = self.config, self._borrowed
        image_guesses, text_guesses = self._guesses(rows, generator)
        read_images = shared(lambda features, guesses: network.join(network.image, features, guesses))
        read_texts = shared(lambda features, guesses: network.join(network.text, features, guesses))
        vectors = read_images(train.images[rows], image_guesses), read_texts(train.texts[rows], text_guesses)
        across = Attraction.of(self._alike(rows, image_guesses, text_guesses))
        images = Attraction.of(self._alike(rows, image_guesses, image_guesses))
        texts = Attraction.of(self._alike(rows, text_guesses, text_guesses))
        tau, contrast, rounding = config.temperature, [], []
        for bits in _lengths(config):
            image, text = (network.heads(one, bits).tanh() for one in vectors)
            own = overlap_contrast(image, image, images, tau) + overlap_contrast(text, text, texts, tau)
            contrast.append(overlap_contrast(image, text, across, tau) + config.within * own)
            rounding.append((quantisation(image, image.sign()) + quantisation(text, text.sign())) / 2)
        return {
            "contrast": torch.stack(contrast).mean(),
            "quantisation": config.quantisation * torch.stack(rounding).mean(),
        }

    def _guesses(self, rows: Tensor, generator: torch.Generator) -> tuple[Tensor | None, Tensor | None]:
        """(B, C) of images and of texts, of a fit without the row or as served, each drawn by itself."""
        if not self.guesses:
            return None, None
        served = torch.rand(2, len(rows), generator=generator) < self.config.served_guesses
        kind = served.long().to(self.image_guesses.device)
        return self.image_guesses[kind[0], rows], self.text_guesses[kind[1], rows]

    def _alike(self, rows: Tensor, a: Tensor | None, b: Tensor | None) -> Tensor:
        """(B, B): how alike the codes should be of inputs that entered with these guesses."""
        overlap = self.alike.overlap(rows, rows)
        if a is None or b is None:
            return overlap
        return (1 - self.config.guessed) * overlap + self.config.guessed * expected_sharing(a, b)


def _lengths(config: Config) -> tuple[int, ...]:
    return (*config.bits, config.auxiliary_bits) if config.auxiliary_bits else config.bits

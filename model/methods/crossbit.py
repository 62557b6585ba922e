"""``crossbit``: our own. Label overlap on mixed items, class guesses that no item's own label made, and code banks.

Paper: none; every part but the way they are put together is known, and each can be switched off. Map:
- contrast toward label overlap (SupCon, arXiv 2004.11362, with soft targets) -> ``overlap_contrast``, on the codes of
  every length, across and within modalities;
- items mixed with others of their batch, image and text alike (mixup, arXiv 1710.09412) -> ``Mix``;
- classes guessed from the same modality -> ``class_folds``, as a prompt's vector beside the features (LF-pred of PGHMH)
  or as log-odds. While learning, guesses are out of fold (stacking, Wolpert 1992) for some rows and as served for the
  others: a database holds rows that were learned from and rows that were not;
- likelihood over the codes of all training rows, and quantisation (PromptHash, CVPR 2025) -> ``banks.CodeBanks``. A
  mixed item is known there by the labels of its larger part, and stored in that one's place;
- image-text contrast on features (CLIP) -> ``info_nce``; an auxiliary longer code.

Evidence: own, on validation queries alone: docs/results.md lists every setting that was tried. What each part is worth
was not measured yet. The served side sees one modality of one input, and no label.

Without labels nothing is guessed, the likelihood is left out, and an item is like itself alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from encoders.protocol import Backbone
from model.banks import CodeBanks, Codes, Likelihood
from model.class_folds import ClassFolds
from model.heads import InputScaling, MultiLengthHeads, ResidualMLP
from model.likeness import Likeness
from model.losses import info_nce, overlap_contrast
from model.methods import protocol
from model.methods.protocol import Features
from model.prompts import class_bank, weighted_mean
from model.ranks import shared

ODDS_LIMIT = 1e-4  # a guess is at least that far from 0 and 1 before its odds are taken


@dataclass(frozen=True, slots=True)
class Config:
    """The ``[config]`` table of a recipe."""

    bits: tuple[int, ...] = (16, 32, 64, 128)  # served code lengths
    auxiliary_bits: int = 256  # trained beside them, never served; 0 for none
    prompt: bool = True  # guessed classes enter as the mean of their prompts
    odds: bool = False  # guessed classes enter as log-odds
    width: int = 384  # of the shared features
    hidden: int = 1024  # of the residual MLP
    layers: int = 1  # of the residual MLP, which both modalities share
    dropout: float = 0.3
    served_guesses: float = 0.5  # share of a batch that enters with guesses as served, not out of fold
    mixup: float = 0.3  # both shapes of the Beta distribution of the weights; 0: items stay as they are
    contrast: float = 1.0
    temperature: float = 0.2  # of the contrast on codes
    within: float = 0.5  # share of the contrast within each modality
    info_nce: float = 0.3  # image-text contrast on features
    feature_temperature: float = 0.07
    inter: float = 0.5  # likelihood across modalities
    intra: float = 0.25  # likelihood within a modality
    logit_range: float = 16.0
    max_positive_weight: float = 8.0
    bank_rows: int = 1000
    quantisation: float = 0.1

    def __post_init__(self) -> None:
        lengths = _lengths(self)
        if not self.bits or any(bits < 8 or bits % 8 for bits in lengths) or len(set(lengths)) != len(lengths):
            raise ValueError(f"bits and auxiliary_bits: expected different positive multiples of 8, found {lengths}")
        if not 0 <= self.dropout < 1 or self.mixup < 0:
            raise ValueError(f"expected 0 <= dropout < 1 and mixup >= 0, found {self.dropout} and {self.mixup}")
        if not 0 <= self.served_guesses <= 1:
            raise ValueError(f"served_guesses: expected 0 to 1, found {self.served_guesses}")
        if min(self.temperature, self.feature_temperature) <= 0 or self.bank_rows < 1:
            raise ValueError("expected temperature and feature_temperature above 0, and bank_rows of at least 1")


class Side(nn.Module):
    """One modality: scaled features beside what they say of the classes, then a layer into the shared width."""

    def __init__(self, dim: int, config: Config, classes: int, prompt_dim: int) -> None:
        super().__init__()
        self.scaling = InputScaling(dim)
        guessed = (prompt_dim if config.prompt else 0) + (classes if config.odds else 0)
        self.guesses = ClassFolds(dim, classes) if classes and guessed else None
        self.guess_scaling = InputScaling(guessed)
        self.config = config
        self.linear = nn.Linear(dim + (guessed if self.guesses is not None else 0), config.width)
        self.dropout = nn.Dropout(config.dropout)

    def enter(self, features: Tensor, guesses: Tensor | None, prompts: Tensor) -> Tensor:
        """(B, dim) -> (B, D), scaled. ``guesses`` (B, C) stand in for its own: out-of-fold ones, in training."""
        if self.guesses is None:
            scaled: Tensor = self.scaling(features)
            return scaled
        told = self.told(self.guesses(features) if guesses is None else guesses, prompts)
        return torch.cat([self.scaling(features), self.guess_scaling(told)], dim=1)

    def told(self, guesses: Tensor, prompts: Tensor) -> Tensor:
        """(B, C) probabilities, (C, P) prompts -> what enters of them, unscaled."""
        parts = [weighted_mean(guesses, prompts)] if self.config.prompt else []
        if self.config.odds:
            parts.append(guesses.clamp(ODDS_LIMIT, 1 - ODDS_LIMIT).logit())
        return torch.cat(parts, dim=1)

    def read(self, entered: Tensor) -> Tensor:
        """(B, D) -> (B, width)."""
        hidden: Tensor = self.dropout(torch.relu(self.linear(entered)))
        return hidden


class Network(protocol.ReadingNetwork):
    """A side for each modality -> shared MLP -> shared heads, one for each code length."""

    prompts: Tensor  # (C, text_dim), of the classes

    def __init__(self, config: Config, backbone: Backbone, names: Sequence[str]) -> None:
        super().__init__()
        self.config, self.lengths, self.vector_dim = config, config.bits, config.width
        self.register_buffer("prompts", class_bank(backbone, names).cpu())
        self.image = Side(backbone.image_dim, config, len(names), backbone.text_dim)
        self.text = Side(backbone.text_dim, config, len(names), backbone.text_dim)
        self.mlp = ResidualMLP(config.width, config.hidden, config.layers, config.dropout)
        self.heads = MultiLengthHeads(config.width, _lengths(config))

    @classmethod
    def build(cls, config: Config, backbone: Backbone, names: Sequence[str]) -> "Network":
        """As the constructor."""
        return cls(config, backbone, names)

    def parameter_groups(self) -> list[protocol.ParameterGroup]:
        """All but what guesses classes, which is fitted before the first step."""
        return [protocol.ParameterGroup([one for one in self.parameters() if one.requires_grad])]

    def read_images(self, inputs: Tensor) -> Tensor:
        """Features -> vectors."""
        return self.join_image(self.image.enter(inputs, None, self.prompts))

    def read_texts(self, inputs: Tensor, tokens: Tensor | None) -> Tensor:
        """Features -> vectors."""
        return self.join_text(self.text.enter(inputs, None, self.prompts))

    def join_image(self, entered: Tensor) -> Tensor:
        """What entered the image side -> (B, width)."""
        vectors: Tensor = self.mlp(self.image.read(entered))
        return vectors

    def join_text(self, entered: Tensor) -> Tensor:
        """What entered the text side -> (B, width)."""
        vectors: Tensor = self.mlp(self.text.read(entered))
        return vectors

    def image_logits(self, vectors: Tensor, bits: int) -> Tensor:
        """(B, width) -> (B, bits)."""
        logits: Tensor = self.heads(vectors, bits)
        return logits

    def text_logits(self, vectors: Tensor, bits: int) -> Tensor:
        """(B, width) -> (B, bits)."""
        logits: Tensor = self.heads(vectors, bits)
        return logits


@dataclass(frozen=True, slots=True)
class Mix:
    """Each item of a batch with a share of another one; its own share is a half or more."""

    own: Tensor  # (B, 1), the share that stays
    other: Tensor  # (B,), places in the batch

    @classmethod
    def draw(cls, items: int, shape: float, generator: torch.Generator) -> "Mix":
        """Shares of Beta(shape, shape), the larger of the two parts; 0 leaves the items as they are."""
        if not shape:
            return cls(torch.ones(items, 1), torch.arange(items))
        # a gamma variate's law gives Beta's by two of them; torch draws them from a generator with this call alone
        parts = torch._standard_gamma(torch.full((items, 2), shape), generator=generator)
        share = parts[:, :1] / parts.sum(1, keepdim=True).clamp(min=1e-12)
        return cls(torch.maximum(share, 1 - share), torch.randperm(items, generator=generator))

    def __call__(self, inputs: Tensor) -> Tensor:
        """(B, D) -> (B, D)."""
        own = self.own.to(inputs)
        return own * inputs + (1 - own) * inputs[self.other.to(inputs.device)]

    def overlap(self, overlap: Tensor) -> Tensor:
        """(B, B) of the items -> of the mixed ones: the mean over what two of them are made of."""
        return self(self(overlap).T).T


class Objective(protocol.Objective):
    """Losses over the training rows, on lone codes of mixed items; labels stay on this side."""

    image_guesses: Tensor  # (2, N, C) probabilities, out of fold and as served
    text_guesses: Tensor

    def __init__(self, config: Config, network: Network, train: Features) -> None:
        super().__init__()
        self.config = config
        self._borrowed = (network, train)  # in a tuple: neither is part of this module's state
        self.alike = Likeness(train.labels)
        self.banks = CodeBanks(len(train), _lengths(config))
        if train.labels is not None and network.image.guesses is not None:
            self.register_buffer("image_guesses", torch.zeros(2, *train.labels.shape))
            self.register_buffer("text_guesses", torch.zeros(2, *train.labels.shape))

    def begin(self) -> None:
        """Fit scalings and what guesses classes, then fill the banks with one pass."""
        network, train = self._borrowed
        for seed, (side, features) in enumerate(((network.image, train.images), (network.text, train.texts))):
            side.scaling.fit(features)
            if train.labels is not None and side.guesses is not None:
                guesses = side.guesses.fit(features, train.labels, seed=seed)
                # true labels spread more than guesses do: scaled by those, guesses weigh less than features
                side.guess_scaling.fit(side.told(train.labels, network.prompts))
                kept = self.text_guesses if seed else self.image_guesses
                kept[0] = guesses
                with torch.no_grad():
                    kept[1] = side.guesses(features)
        with torch.no_grad():
            for start in range(0, len(train), protocol.READ):
                rows = torch.arange(start, min(start + protocol.READ, len(train)))
                image, text = self._enter(rows)
                self.banks.write(rows, self._codes(network.join_image(image), network.join_text(text)))

    def losses(self, rows: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """Named terms for the training rows (B,), each a mean over the code lengths."""
        config, (network, train) = self.config, self._borrowed
        mix = Mix.draw(len(rows), config.mixup, generator)
        entered = self._enter(rows, torch.rand(2, len(rows), generator=generator) < config.served_guesses)
        image = shared(network.join_image)(mix(entered[0]))
        text = shared(network.join_text)(mix(entered[1]))
        codes = self._codes(image, text)
        self.banks.write(rows, codes)
        overlap = mix.overlap(self.alike.overlap(rows, rows))
        terms = {
            "contrast": config.contrast * self._contrast(codes, overlap),
            "info_nce": config.info_nce * info_nce(image, text, config.feature_temperature),
            "quantisation": config.quantisation * self.banks.quantisation(rows, codes),
        }
        if train.labels is not None and (config.inter or config.intra):
            how = Likelihood(config.bank_rows, config.logit_range, config.max_positive_weight)
            found = self.banks.likelihood(rows, codes, train.labels, generator, how)
            if found is not None:
                terms |= {"inter": config.inter * found[0], "intra": config.intra * found[1]}
        return terms

    def _enter(self, rows: Tensor, served: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """What enters of images and of texts; ``served`` (2, B) says whose guesses are not those out of fold.

        A database holds training rows, whose guesses as served come from classifiers that learned from them.
        """
        network, train = self._borrowed
        known = network.image.guesses is not None and train.labels is not None
        kind = (torch.zeros(2, len(rows)) if served is None else served).long().to(train.images.device)
        image = self.image_guesses[kind[0], rows] if known else None
        text = self.text_guesses[kind[1], rows] if known else None
        return (
            network.image.enter(train.images[rows], image, network.prompts),
            network.text.enter(train.texts[rows], text, network.prompts),
        )

    def _codes(self, image: Tensor, text: Tensor) -> Codes:
        network, _ = self._borrowed
        return {
            bits: (network.heads(image, bits).tanh(), network.heads(text, bits).tanh()) for bits in self.banks.lengths
        }

    def _contrast(self, codes: Codes, overlap: Tensor) -> Tensor:
        """Across modalities, and within each at the weight ``within``; mean over the lengths."""
        tau, terms = self.config.temperature, []
        for image, text in codes.values():
            own = overlap_contrast(image, image, overlap, tau) + overlap_contrast(text, text, overlap, tau)
            terms.append(overlap_contrast(image, text, overlap, tau) + self.config.within * own)
        return torch.stack(terms).mean()


def _lengths(config: Config) -> tuple[int, ...]:
    return (*config.bits, config.auxiliary_bits) if config.auxiliary_bits else config.bits

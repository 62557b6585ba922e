"""``cmcl-global``: the global branch of CMCL, whose codes of several lengths learn from each other.

Paper: Contrastive Multi-bit Collaborative Learning for Deep Cross-modal Hashing (IEEE TKDE 2024; Wu, Zhang, Liu, Zhang,
Nie). Map, as our specification has it: residual MLP and hash layers that both modalities share, one hash layer for each
length, one of them auxiliary -> ``baseline.Network``; InfoNCE of own image and text -> ``losses.info_nce``;
log-likelihood against code banks, across and within modalities -> ``Objective._likelihood``; quantisation to B =
sign(image bank + text bank) -> ``banks.CodeBanks``; the auxiliary B from each short code -> ``heads.Decoders``;
auxiliary terms times 20 -> ``Objective._weighted``. The local branch (64 concept queries over tokens) is not built.

Evidence: [code] parts, weights, temperature, 30 epochs (10 on NUS-WIDE), rates, batches of 128: the specification's
reading of DarrenZZhang/CMCL (no licence stated; nothing is copied); [inferred] Theta = u.h / 2 and how terms are
summed, from PromptHash's release, which stands on this one; [ours] all that is said below. The paper's text was not at
hand.

Known deviations:
- the towers are frozen (released: tuned at 1e-6), and one input layer for each modality leads into the shared MLP;
- the banks are filled by a pass before the first step, and ``bank_rows`` of them are drawn for each step;
- a row's B is that of the last epoch: it is read before the row is written anew;
- ``theta = "len"`` gives Theta a span that does not grow with the length, and ``max_positive_weight`` re-weights the
  few similar pairs; with "half" and 1 the likelihood is the inferred one;
- the sum is divided by the weight of all lengths, so that clipping does not depend on their number;
- an unlabelled item takes part in all but the likelihood, as where no item has labels: then its own pair teaches it.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from encoders.protocol import Backbone
from model.banks import CodeBanks, Codes, labelled_sample
from model.heads import Decoders
from model.losses import (
    THETA_LIMIT,
    WeightedPairs,
    info_nce,
    quantisation,
    share_label,
    stored_likelihood,
    theta_scale,
)
from model.methods import baseline, protocol
from model.methods.protocol import Features


@dataclass(frozen=True, slots=True)
class Config:
    """The ``[config]`` table of a recipe."""

    bits: tuple[int, ...] = (16, 32, 64, 128)  # served code lengths
    auxiliary_bits: int = 256  # trained beside them, never served
    auxiliary: float = 20.0  # times its terms, and those that rebuild it
    width: int = 512  # of the shared features
    hidden: int = 1024  # of the residual MLP
    layers: int = 1  # of the residual MLP
    dropout: float = 0.3
    standardise_images: bool = True
    standardise_texts: bool = True
    info_nce: float = 5.0
    temperature: float = 0.07
    inter: float = 5.0  # weight of the likelihood across modalities
    intra: float = 0.005  # weight of the likelihood within a modality
    quantisation: float = 1.0
    reconstruction: float = 0.001
    theta: str = "half"  # or len
    max_positive_weight: float = 1.0  # of similar pairs in the likelihood; 1: plain
    bank_rows: int = 1000  # drawn for each step

    def __post_init__(self) -> None:
        self.network  # noqa: B018  checks lengths, dropout and bank_rows
        if not self.auxiliary_bits:
            raise ValueError("auxiliary_bits: expected a length, found 0")
        if self.theta not in ("half", "len"):
            raise ValueError(f"theta: expected half or len, found {self.theta!r}")
        if self.max_positive_weight < 1 or self.temperature <= 0:
            raise ValueError("expected max_positive_weight of at least 1 and temperature above 0")

    @property
    def network(self) -> baseline.Config:
        """What of it decides the network."""
        return baseline.Config(
            self.bits, self.auxiliary_bits, self.width, self.hidden, self.layers, self.dropout, bank_rows=self.bank_rows
        )


class Network(baseline.Network):
    """``baseline``'s: input layer per modality -> shared residual MLP -> shared heads, one for each code length."""

    @classmethod
    def build(cls, config: Config, backbone: Backbone, classes: Sequence[str]) -> "Network":
        """For a backbone."""
        return cls(config.network, backbone.image_dim, backbone.text_dim)


class Objective(protocol.Objective):
    """The losses over the training rows; banks and decoders stay on this side."""

    def __init__(self, config: Config, network: Network, train: Features) -> None:
        super().__init__()
        self.config, self.lengths = config, (*config.bits, config.auxiliary_bits)
        self._borrowed = (network, train)  # in a tuple: neither is part of this module's state
        self.banks = CodeBanks(len(train), self.lengths)
        self.decoders = Decoders(self.lengths, config.auxiliary_bits)

    def begin(self) -> None:
        """Fit the input scaling and fill the banks with one pass."""
        network, train = self._borrowed
        if self.config.standardise_images:
            network.image_input.scaling.fit(train.images)
        if self.config.standardise_texts:
            network.text_input.scaling.fit(train.texts)
        with torch.no_grad():
            self.banks.write(slice(None), self._codes(train.images, train.texts)[1])

    def losses(self, rows: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """Weighted, named terms for the training rows (B,)."""
        config, (_, train) = self.config, self._borrowed
        (image, text), codes = self._codes(train.images[rows], train.texts[rows])
        total = len(config.bits) + config.auxiliary
        terms = {
            "info_nce": config.info_nce / total * info_nce(image, text, config.temperature),
            "quantisation": config.quantisation * self._weighted(self._quantisation(rows, codes)),
            "reconstruction": config.auxiliary / total * config.reconstruction * self._reconstruction(rows, codes),
        }
        if train.labels is not None:
            terms |= self._likelihood(rows, codes, train.labels, generator)
        self.banks.write(rows, codes)
        return terms

    def _codes(self, images: Tensor, texts: Tensor) -> tuple[tuple[Tensor, Tensor], Codes]:
        """Shared features (B, width) of both modalities, and their tanh codes."""
        network, _ = self._borrowed
        image, text = network.image_features(images), network.text_features(texts)
        codes = {bits: (network.heads(image, bits).tanh(), network.heads(text, bits).tanh()) for bits in self.lengths}
        return (image, text), codes

    def _weighted(self, terms: Mapping[int, Tensor]) -> Tensor:
        """Sum over the lengths, the auxiliary one ``auxiliary`` times, over the weight of all lengths."""
        weights = {bits: self.config.auxiliary if bits == self.config.auxiliary_bits else 1.0 for bits in self.lengths}
        return torch.stack([weights[bits] * term for bits, term in terms.items()]).sum() / sum(weights.values())

    def _likelihood(self, rows: Tensor, codes: Codes, labels: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """Fresh codes of labelled items of the batch against stored ones of a sample; nothing where either has none."""
        sample, known = labelled_sample(rows, labels, generator, self.config.bank_rows)
        if not len(sample) or not known.any():
            return {}
        similar = share_label(labels[sample], labels[rows[known]])  # (S, B')
        pairs = WeightedPairs.of(similar, least=1, most=self.config.max_positive_weight)

        def term(stored: Tensor, side: Tensor) -> Tensor:
            scale = theta_scale(self.config.theta, stored.shape[1])
            bounded = scale * stored.shape[1] <= THETA_LIMIT  # tanh codes: no logit is beyond it
            limit = math.inf if bounded else THETA_LIMIT
            return stored_likelihood(stored, side[known], pairs, scale=scale, limit=limit)

        inter, intra = {}, {}
        for bits, (image, text) in codes.items():
            images, texts = (bank[sample] for bank in self.banks.of(bits))
            inter[bits] = term(images, text) + term(texts, image)
            intra[bits] = term(images, image) + term(texts, text)
        return {
            "inter": self.config.inter * self._weighted(inter),
            "intra": self.config.intra * self._weighted(intra),
        }

    def _quantisation(self, rows: Tensor, codes: Codes) -> dict[int, Tensor]:
        """Distance of both modalities to B, by length."""
        targets = {bits: self.banks.signs(rows, bits) for bits in codes}
        return {bits: quantisation(i, targets[bits]) + quantisation(t, targets[bits]) for bits, (i, t) in codes.items()}

    def _reconstruction(self, rows: Tensor, codes: Codes) -> Tensor:
        """Squared distance of what each short code rebuilds to the auxiliary B, mean over items, sum over all else."""
        long = self.config.auxiliary_bits
        target = self.banks.signs(rows, long)
        terms = [quantisation(self.decoders(side, bits), target) for bits in self.config.bits for side in codes[bits]]
        return long * torch.stack(terms).sum()

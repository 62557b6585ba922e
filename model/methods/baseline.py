"""``baseline``: what the prompt-based methods of this field stand on, without any prompt and servable as it is.

Paper: the "baseline" row of PromptHash's ablation (no TAAP, no AGSF, no prompt terms of PACL). Map from the parts of
its released method: residual MLP -> ``heads.ResidualMLP``; hash encoders of several lengths, one of them auxiliary ->
``heads.MultiLengthHeads``; asymmetric likelihood over code banks -> ``losses.bank_likelihood``; quantisation ->
``losses.quantisation``; global image-text InfoNCE -> ``losses.info_nce``; weighted sum -> ``Objective.losses``.

Known deviations, each because frozen towers of two families replace a tuned CLIP, or because it was measured better:
- one input layer per modality (scaling, linear, ReLU, dropout) leads into the shared residual MLP;
- likelihood logits span +-``logit_range`` at every length, and similar pairs are re-weighted;
- a bank is sampled (``bank_rows`` rows a step, an unbiased mean), filled by a pass before the first step, and its
  quantisation target is the sign of its current rows, not of last epoch's;
- InfoNCE has a small weight: one positive a row makes same-class items negatives;
- without labels only a pair's own two codes are alike: the likelihood is dropped and InfoNCE acts on every code length.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from model.banks import CodeBanks, Codes, Likelihood
from model.heads import InputLayer, MultiLengthHeads, ResidualMLP
from model.losses import info_nce
from model.methods import protocol
from model.methods.protocol import Features
from model.ranks import shared


@dataclass(frozen=True, slots=True)
class Config:
    """The ``[config]`` table of a recipe."""

    bits: tuple[int, ...] = (16, 32, 64, 128)  # served code lengths
    auxiliary_bits: int = 256  # trained beside them, never served; 0 for none
    width: int = 512  # of the shared features
    hidden: int = 1024  # of the residual MLP
    layers: int = 1  # of the residual MLP
    dropout: float = 0.3
    standardise_images: bool = True
    standardise_texts: bool = True
    intra: float = 0.3  # weight of the likelihood within a modality
    inter: float = 1.0  # weight of the likelihood across modalities
    quantisation: float = 0.02
    info_nce: float = 0.1
    temperature: float = 0.07
    logit_range: float = 16.0
    max_positive_weight: float = 8.0
    bank_rows: int = 1000
    pair_info_nce: float = 1.0  # weight of InfoNCE on codes where there are no labels
    pair_temperature: float = 0.2

    def __post_init__(self) -> None:
        lengths = [*self.bits, *([self.auxiliary_bits] if self.auxiliary_bits else [])]
        if not self.bits or any(bits < 8 or bits % 8 for bits in lengths) or len(set(lengths)) != len(lengths):
            raise ValueError(f"bits and auxiliary_bits: expected different positive multiples of 8, found {lengths}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout: expected 0 <= dropout < 1, found {self.dropout}")
        if self.bank_rows < 1:
            raise ValueError(f"bank_rows: expected at least 1, found {self.bank_rows}")


class Network(protocol.Network):
    """Input layer per modality -> shared residual MLP -> shared heads, one for each code length."""

    def __init__(self, config: Config, image_dim: int, text_dim: int) -> None:
        super().__init__()
        self.lengths = config.bits
        self.image_input = InputLayer(image_dim, config.width, config.dropout)
        self.text_input = InputLayer(text_dim, config.width, config.dropout)
        self.mlp = ResidualMLP(config.width, config.hidden, config.layers, config.dropout)
        self.heads = MultiLengthHeads(config.width, _lengths(config))

    def image_features(self, features: Tensor) -> Tensor:
        """(B, image_dim) -> (B, width)."""
        shared: Tensor = self.mlp(self.image_input(features))
        return shared

    def text_features(self, features: Tensor) -> Tensor:
        """(B, text_dim) -> (B, width)."""
        shared: Tensor = self.mlp(self.text_input(features))
        return shared

    def image_logits(self, features: Tensor, bits: int) -> Tensor:
        """(B, image_dim) -> (B, bits)."""
        logits: Tensor = self.heads(self.image_features(features), bits)
        return logits

    def text_logits(self, features: Tensor, bits: int) -> Tensor:
        """(B, text_dim) -> (B, bits)."""
        logits: Tensor = self.heads(self.text_features(features), bits)
        return logits


class Objective(protocol.Objective):
    """Losses over the training rows, with a bank of the last tanh codes of every row for each length and modality."""

    def __init__(self, config: Config, network: Network, train: Features) -> None:
        super().__init__()
        self.config = config
        self.lengths = _lengths(config)
        # held in a tuple so that the network and the data are not part of this module's state
        self._borrowed = (network, train)
        self.banks = CodeBanks(len(train), self.lengths)

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
        """Named terms for the training rows (B,), each a mean over the code lengths."""
        _, train = self._borrowed
        (image, text), codes = self._codes(train.images[rows], train.texts[rows])
        self.banks.write(rows, codes)
        terms = {"quantisation": self.config.quantisation * self.banks.quantisation(rows, codes)}
        if train.labels is None:
            contrast = [info_nce(*pair, self.config.pair_temperature) for pair in codes.values()]
            return terms | {"info_nce": self.config.pair_info_nce * torch.stack(contrast).mean()}
        how = Likelihood(self.config.bank_rows, self.config.logit_range, self.config.max_positive_weight)
        likelihood = self.banks.likelihood(rows, codes, train.labels, generator, how)
        if likelihood is not None:
            inter, intra = likelihood
            terms |= {"intra": self.config.intra * intra, "inter": self.config.inter * inter}
        return terms | {"info_nce": self.config.info_nce * info_nce(image, text, self.config.temperature)}

    def _codes(self, images: Tensor, texts: Tensor) -> tuple[tuple[Tensor, Tensor], Codes]:
        """Shared features (B, width) of both modalities, and their tanh codes."""
        network, _ = self._borrowed
        image, text = shared(network.image_features)(images), shared(network.text_features)(texts)
        codes = {bits: (network.heads(image, bits).tanh(), network.heads(text, bits).tanh()) for bits in self.lengths}
        return (image, text), codes


def _lengths(config: Config) -> Sequence[int]:
    return (*config.bits, config.auxiliary_bits) if config.auxiliary_bits else config.bits

"""``lsh``: signs of random projections of the joint space. Nothing is learned but two means: a floor under ``itq``.

Paper: Charikar, "Similarity Estimation Techniques from Rounding Algorithms", STOC 2002. Map: section 3, the hash of a
vector is the sign of its inner product with a Gaussian vector, so that the share of differing bits estimates the
angle -> ``fit``; the served network is that of ``itq``, with Gaussian columns where ``itq`` has rotated principal axes.

Known deviation: each modality is centred by its own training mean, as in ``itq``; uncentred, the constant gap between
the towers would decide most bits.
"""

from dataclasses import dataclass

import torch

from model.errors import RecipeError
from model.methods import itq
from model.methods.protocol import Features

Network = itq.Network


@dataclass(frozen=True, slots=True)
class Config:
    """The ``[config]`` table of a recipe."""

    bits: tuple[int, ...] = (16, 32, 64, 128)  # served code lengths

    def __post_init__(self) -> None:
        if not self.bits or any(bits < 8 or bits % 8 for bits in self.bits) or len(set(self.bits)) != len(self.bits):
            raise ValueError(f"bits: expected different positive multiples of 8, found {self.bits}")


def fit(config: Config, train: Features, seed: int) -> itq.Network:
    """Means of the training rows, and Gaussian columns that ``seed`` draws.

    Raises:
        RecipeError: there are no training rows.
    """
    if not len(train):
        raise RecipeError("lsh: expected at least 1 training item, found none")
    network = Network(itq.Config(bits=config.bits), train.images.shape[1], train.texts.shape[1])
    network.image_mean.copy_(train.images[:, : network.joint_dim].double().mean(0))
    network.text_mean.copy_(train.texts.double().mean(0))
    for bits in config.bits:
        generator = torch.Generator().manual_seed(seed * 1_000_003 + bits)
        network.projection(bits).copy_(torch.randn(network.joint_dim, bits, generator=generator))
    return network

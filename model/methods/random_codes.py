"""``random``: codes that say nothing of their input but which one it is. The level that chance alone reaches.

A code must be a function of its input, so it is not drawn but computed: bit j is the sign of sin(w_j . x) with large
Gaussian frequencies w_j, the binary code of Raginsky and Lazebnik, "Locality-Sensitive Binary Codes from
Shift-Invariant Kernels", NIPS 2009, eq. 2, at a kernel so narrow that no two different inputs are near each other.
Equal features give equal codes, anything else independent ones.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from model.methods import protocol
from model.methods.protocol import Features

FREQUENCY = 1e4  # of unit vectors: two that differ by 1e-3 are several turns apart


@dataclass(frozen=True, slots=True)
class Config:
    """The ``[config]`` table of a recipe."""

    bits: tuple[int, ...] = (16, 32, 64, 128)  # served code lengths

    def __post_init__(self) -> None:
        if not self.bits or any(bits < 8 or bits % 8 for bits in self.bits) or len(set(self.bits)) != len(self.bits):
            raise ValueError(f"bits: expected different positive multiples of 8, found {self.bits}")


class Network(protocol.Network):
    """Frequencies for each modality and code length."""

    def __init__(self, config: Config, image_dim: int, text_dim: int) -> None:
        super().__init__()
        self.lengths = config.bits
        for bits in config.bits:
            self.register_buffer(f"image_frequencies_{bits}", torch.zeros(image_dim, bits))
            self.register_buffer(f"text_frequencies_{bits}", torch.zeros(text_dim, bits))

    def image_logits(self, features: Tensor, bits: int) -> Tensor:
        """(B, image_dim) -> (B, bits)."""
        return torch.sin(features @ self.get_buffer(f"image_frequencies_{bits}"))

    def text_logits(self, features: Tensor, bits: int) -> Tensor:
        """(B, text_dim) -> (B, bits)."""
        return torch.sin(features @ self.get_buffer(f"text_frequencies_{bits}"))


def fit(config: Config, train: Features, seed: int) -> Network:
    """Frequencies that ``seed`` draws; the training rows give their widths and nothing else."""
    network = Network(config, train.images.shape[1], train.texts.shape[1])
    generator = torch.Generator().manual_seed(seed)
    for buffer in network.buffers():
        buffer.copy_(FREQUENCY * torch.randn(buffer.shape, generator=generator))
    return network

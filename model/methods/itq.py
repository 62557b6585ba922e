"""``itq``: signs of a learned rotation of the joint space. No labels, no epochs, seconds to fit: the honest floor.

Paper: Gong and Lazebnik, "Iterative Quantization: A Procrustean Approach to Learning Binary Codes", CVPR 2011. Map:
section 2.1, unsupervised, V = X W with W the leading eigenvectors of X^T X -> ``_principal_axes``; eq. 2,
Q(B, R) = ||B - V R||^2, and its two alternating steps, B = sign(V R) and the orthogonal Procrustes solution
R = S^ S^T from the SVD of B^T V -> ``_rotation``; section 2.2, random orthogonal start and 50 iterations -> ``Config``.

Known deviations, because the paper hashes one modality and a code here must compare image with text:
- X pools the images and the texts of the training items in the backbone's joint space, the first ``text_dim`` columns
  of both features (``encoders.protocol``); columns beyond it are ignored;
- each modality is centred by its own training mean, which takes out the constant gap between the two towers;
- which image belongs to which text is never used: the space is taken to be joint already (the paper's CCA variant, for
  which tags decide the projection, is another method);
- rotation and projection are multiplied out, so serving is one affine map a length.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from model.errors import RecipeError
from model.methods import protocol
from model.methods.protocol import Features

MIN_ITEMS = 2


@dataclass(frozen=True, slots=True)
class Config:
    """The ``[config]`` table of a recipe."""

    bits: tuple[int, ...] = (16, 32, 64, 128)  # served code lengths, each at most the width of the joint space
    iterations: int = 50

    def __post_init__(self) -> None:
        if not self.bits or any(bits < 8 or bits % 8 for bits in self.bits) or len(set(self.bits)) != len(self.bits):
            raise ValueError(f"bits: expected different positive multiples of 8, found {self.bits}")
        if self.iterations < 0:
            raise ValueError(f"iterations: expected at least 0, found {self.iterations}")


class Network(protocol.Network):
    """Two means, and one projection for each code length: logits are (x - mean) P."""

    image_mean: Tensor
    text_mean: Tensor

    def __init__(self, config: Config, image_dim: int, text_dim: int) -> None:
        super().__init__()
        self.lengths = config.bits
        self.joint_dim = text_dim
        self.register_buffer("image_mean", torch.zeros(text_dim))
        self.register_buffer("text_mean", torch.zeros(text_dim))
        for bits in config.bits:
            self.register_buffer(f"projection_{bits}", torch.zeros(text_dim, bits))

    def image_logits(self, features: Tensor, bits: int) -> Tensor:
        """(B, image_dim) -> (B, bits)."""
        return (features[:, : self.joint_dim] - self.image_mean) @ self.projection(bits)

    def text_logits(self, features: Tensor, bits: int) -> Tensor:
        """(B, text_dim) -> (B, bits)."""
        return (features - self.text_mean) @ self.projection(bits)

    def projection(self, bits: int) -> Tensor:
        """(joint_dim, bits) with orthonormal columns: principal axes, rotated."""
        return self.get_buffer(f"projection_{bits}")


def fit(config: Config, train: Features, seed: int) -> Network:
    """Solve every length on the training rows; ``seed`` draws the rotations' starts.

    Raises:
        RecipeError: a length exceeds the width of the joint space, or there are fewer than two rows.
    """
    network = Network(config, train.images.shape[1], train.texts.shape[1])
    if max(config.bits) > network.joint_dim:
        raise RecipeError(
            f"config.bits: expected at most {network.joint_dim}, the width of the backbone's joint space, "
            f"found {max(config.bits)}"
        )
    if len(train) < MIN_ITEMS:
        raise RecipeError(f"itq: expected at least {MIN_ITEMS} training items, found {len(train)}")
    images, texts = train.images[:, : network.joint_dim].double(), train.texts.double()
    network.image_mean.copy_(images.mean(0))
    network.text_mean.copy_(texts.mean(0))
    pooled = torch.cat([images - images.mean(0), texts - texts.mean(0)])  # (2N, joint_dim)
    axes = _principal_axes(pooled)
    for bits in config.bits:
        generator = torch.Generator().manual_seed(seed * 1_000_003 + bits)
        rotation = _rotation(pooled @ axes[:, :bits], config.iterations, generator)
        network.projection(bits).copy_(axes[:, :bits] @ rotation)
    return network


def _principal_axes(x: Tensor) -> Tensor:
    """(D, D) eigenvectors of x^T x as columns, by falling eigenvalue; each has its largest entry positive."""
    axes: Tensor = torch.linalg.eigh(x.T @ x).eigenvectors.flip(1)
    largest = axes.abs().argmax(0)
    signs: Tensor = axes[largest, torch.arange(len(largest))].sign()
    return axes * signs


def _rotation(v: Tensor, iterations: int, generator: torch.Generator) -> Tensor:
    """(K, K) orthogonal R that brings v R close to its signs."""
    bits = v.shape[1]
    rotation: Tensor = torch.linalg.qr(torch.randn(bits, bits, generator=generator, dtype=v.dtype)).Q
    for _ in range(iterations):
        signs = torch.where(v @ rotation > 0, 1.0, -1.0).to(v.dtype)  # (2N, K)
        left, _, right = torch.linalg.svd(signs.T @ v)
        rotation = (left @ right).T
    return rotation

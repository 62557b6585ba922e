"""The Poincare ball of curvature -c: points, and distances between them.

Paper: Hyperbolic Neural Networks (NeurIPS 2018, arXiv 1805.09112), the map from the origin and the distance; clipping
of what is mapped: Clipped Hyperbolic Classifiers (CVPR 2022, arXiv 2107.11472).
"""

import math

import torch
from torch import Tensor

RIM = 1e-3  # share of the radius that points keep from the rim
EPS = 1e-5


def to_ball(vectors: Tensor, curvature: float, limit: float) -> Tensor:
    """(N, D) -> (N, D) inside the ball: clipped to the norm ``limit``, then mapped from the tangent space at 0.

    The gradient is the Riemannian one: scaled by (1 - c |x|^2)^2 / 4, so that points near the rim move slowly.
    """
    root = math.sqrt(curvature)
    norm = vectors.norm(dim=1, keepdim=True).clamp(min=EPS)
    clipped = vectors * (limit / norm).clamp(max=1)
    length = root * norm.clamp(max=limit)
    points = clipped * length.tanh().clamp(max=1 - RIM) / length
    scale = (1 - curvature * points.detach().square().sum(1, keepdim=True)).square() / 4
    mapped: Tensor = scale * points + ((1 - scale) * points).detach()
    return mapped


def ball_distances(a: Tensor, b: Tensor, curvature: float) -> Tensor:
    """(A, D) and (B, D) inside the ball -> (A, B): 2 / sqrt(c) artanh(sqrt(c) |-a (+) b|), with Mobius addition.

    Its norm has a closed form, |a - b|^2 / (1 - 2 c a.b + c^2 |a|^2 |b|^2), so no (A, B, D) tensor is made.
    """
    c, inner = curvature, a @ b.T
    a2, b2 = a.square().sum(1, keepdim=True), b.square().sum(1)
    gap = (a2 + b2 - 2 * inner).clamp(min=EPS**2)  # whose root has no gradient at 0
    share = c * gap / (1 - 2 * c * inner + c**2 * a2 * b2)
    return 2 / math.sqrt(c) * torch.atanh(share.sqrt().clamp(max=1 - EPS))

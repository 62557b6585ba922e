"""Loss terms that several methods share; every function takes tensors and returns one scalar."""

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize, softplus


def share_label(a: Tensor, b: Tensor) -> Tensor:
    """(N, C) and (M, C) multi-hot float labels -> (N, M) bool, True where two items share a class."""
    return a @ b.T > 0


def label_overlap(a: Tensor, b: Tensor) -> Tensor:
    """(N, C) and (M, C) multi-hot float labels -> (N, M), shared labels over all labels of the two (Jaccard)."""
    shared = a @ b.T
    return shared / (a.sum(1, keepdim=True) + b.sum(1) - shared).clamp(min=1)


def overlap_contrast(a: Tensor, b: Tensor, overlap: Tensor, temperature: float) -> Tensor:
    """Symmetric InfoNCE with many positives: softmax of cosines over (B, D) rows toward (B, B) non-negative weights.

    ``overlap[i, j]`` says how alike a_i and b_j should be; a row of zeros takes no part. With the identity it is
    ``info_nce``.
    """
    scores = normalize(a, dim=1) @ normalize(b, dim=1).T / temperature
    return (_toward(scores, overlap) + _toward(scores.T, overlap.T)) / 2


def _toward(scores: Tensor, weights: Tensor) -> Tensor:
    total = weights.sum(1, keepdim=True)
    targets = weights / total.clamp(min=1e-6)
    known = (total > 0).sum().clamp(min=1)
    return -(targets * scores.log_softmax(1)).sum() / known


def bank_likelihood(bank: Tensor, codes: Tensor, similar: Tensor, *, logit_range: float, max_weight: float) -> Tensor:
    """Asymmetric negative log-likelihood of (B, K) tanh codes against (N, K) stored codes (PromptHash, affinity terms).

    The gradient flows through ``codes`` only. Logits are ``logit_range`` x cosine-like agreement u.h / K, so their
    span does not grow with the code length; similar pairs are weighted by the ratio of dissimilar to similar ones, at
    most ``max_weight``: unweighted, the many dissimilar pairs collapse the codes.
    """
    logits = logit_range * (bank.detach() @ codes.T) / codes.shape[1]  # (N, B)
    share = similar.float().mean().clamp(1e-6, 1 - 1e-6)
    weights = torch.where(similar, ((1 - share) / share).clamp(max=max_weight), 1.0)
    losses = softplus(logits) - similar * logits
    return (weights * losses).sum() / weights.sum()


def quantisation(codes: Tensor, targets: Tensor) -> Tensor:
    """Mean squared distance of (B, K) tanh codes to their (B, K) targets in {-1, +1} (PromptHash, quantisation)."""
    return (codes - targets).square().mean()


def info_nce(a: Tensor, b: Tensor, temperature: float) -> Tensor:
    """Symmetric InfoNCE of matching rows (B, D), cosine, one positive a row (PromptHash, global term)."""
    scores = normalize(a, dim=1) @ normalize(b, dim=1).T / temperature  # (B, B)
    own = torch.arange(len(scores), device=scores.device)
    return (cross_entropy(scores, own) + cross_entropy(scores.T, own)) / 2


def agreement(a: Tensor, b: Tensor, theta: str) -> Tensor:
    """(A, K) and (B, K) codes -> (A, B) logits Theta of a pair likelihood (SODA, section 3).

    ``half`` is a.b / 2, ``len`` is 8 a.b / K, whose range does not grow with the length, ``cos`` 5 times the cosine.
    """
    if theta == "cos":
        return 5 * normalize(a, dim=1) @ normalize(b, dim=1).T
    scale = 0.5 if theta == "half" else 8 / a.shape[1]
    return (scale * a @ b.T).clamp(-64, 64)


def pair_likelihood(logits: Tensor, similar: Tensor, *, counted: Tensor | None = None, max_weight: float) -> Tensor:
    """Mean over pairs of softplus(Theta) - S Theta (SODA, section 3): (A, B) logits and similarities in [0, 1].

    ``counted`` (A, B) leaves pairs out. Similar pairs weigh up to ``max_weight`` times as much as others, as far as
    they are fewer; with 1 the mean is plain.
    """
    counted = torch.ones_like(logits) if counted is None else counted.to(logits)
    share = ((similar * counted).sum() / counted.sum().clamp(min=1)).clamp(1e-6, 1 - 1e-6)
    ratio = ((1 - share) / share).clamp(1, max_weight)
    weights = counted * (1 + (ratio - 1) * similar)
    return (weights * (softplus(logits) - similar * logits)).sum() / weights.sum().clamp(min=1e-6)


def balance(codes: Tensor) -> Tensor:
    """Mean square of each bit's mean over (B, K) codes: 0 where every bit is on half of the time (SODA, section 3)."""
    return codes.mean(0).square().mean()

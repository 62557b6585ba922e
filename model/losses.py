"""Loss terms that several methods share; every function takes tensors and returns one scalar."""

import math
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable
from torch.nn.functional import cross_entropy, normalize, softplus

THETA_LIMIT = 64.0  # of the logits of ``agreement``


def share_label(a: Tensor, b: Tensor) -> Tensor:
    """(N, C) and (M, C) multi-hot float labels -> (N, M) bool, True where two items share a class."""
    return a @ b.T > 0


def label_overlap(a: Tensor, b: Tensor) -> Tensor:
    """(N, C) and (M, C) multi-hot float labels -> (N, M), shared labels over all labels of the two (Jaccard)."""
    shared = a @ b.T
    return shared / (a.sum(1, keepdim=True) + b.sum(1) - shared).clamp(min=1)


@torch.no_grad()
def expected_sharing(a: Tensor, b: Tensor) -> Tensor:
    """(N, C) and (M, C) class probabilities -> (N, M), the probability that two items share a class; a target.

    1 - prod_c (1 - a_nc b_mc): classes are taken to be independent of each other.
    """
    missed = torch.ones(len(a), len(b), dtype=a.dtype, device=a.device)
    for own, other in zip(a.T, b.T, strict=True):
        missed.sub_(torch.outer(own, other).mul_(missed))
    return 1 - missed


@dataclass(frozen=True, slots=True)
class Attraction:
    """Where each row of a contrast should look among the others: made once for a step, read at every length."""

    targets: Tensor  # (A, B), each row a distribution over the others, or zeros
    known: Tensor  # (), rows that are not zeros, at least 1
    reverse: Tensor  # (B, A), the same from the other side
    reverse_known: Tensor

    @classmethod
    def of(cls, overlap: Tensor) -> Self:
        """For (A, B) non-negative weights: how alike two should be; a row of zeros takes no part."""
        return cls(*_distribution(overlap), *_distribution(overlap.T))


def overlap_contrast(a: Tensor, b: Tensor, alike: Attraction, temperature: float) -> Tensor:
    """Symmetric InfoNCE with many positives: softmax of cosines over (B, D) rows toward what attracts them.

    With the identity it is ``info_nce``.
    """
    scores = normalize(a, dim=1) @ normalize(b, dim=1).T / temperature
    toward = -(alike.targets * scores.log_softmax(1)).sum() / alike.known
    back = -(alike.reverse * scores.T.log_softmax(1)).sum() / alike.reverse_known
    return (toward + back) / 2


def _distribution(weights: Tensor) -> tuple[Tensor, Tensor]:
    """Each row over its sum, and how many rows have one."""
    total = weights.sum(1, keepdim=True)
    return weights / total.clamp(min=1e-6), (total > 0).sum().clamp(min=1)


@dataclass(frozen=True, slots=True)
class WeightedPairs:
    """Which of (N, B) pairs should agree, and how much each counts: made once for a step, read at every length."""

    weights: Tensor  # (N, B)
    toward: Tensor  # (N, B), weight times similarity
    away: Tensor  # (N, B), the rest of the weight
    total: Tensor  # of the weights

    @classmethod
    def of(cls, similar: Tensor, *, least: float, most: float) -> Self:
        """For (N, B) similarities in [0, 1]: similar pairs weigh as much more as they are fewer, ``least`` to ``most``.

        Unweighted, the many dissimilar pairs collapse the codes.
        """
        similar = similar.float()
        share = similar.mean().clamp(1e-6, 1 - 1e-6)
        weights = 1 + (((1 - share) / share).clamp(least, most) - 1) * similar
        toward = weights * similar
        return cls(weights, toward, weights - toward, weights.sum())


def stored_likelihood(
    stored: Tensor, codes: Tensor, pairs: WeightedPairs, *, scale: float, limit: float = math.inf
) -> Tensor:
    """Weighted mean over pairs of softplus(z) - S z, where z = ``scale`` times stored (N, K) @ codes (B, K).

    z is clamped to ``limit`` either way. The gradient flows through ``codes`` only, and is made with the value: a step
    has twenty of these, and autograd would pass over each (N, B) matrix four times as often.
    """
    loss: Tensor = _StoredLikelihood.apply(codes, stored.detach(), pairs, scale, limit)
    return loss


class _StoredLikelihood(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: FunctionCtx, codes: Tensor, stored: Tensor, pairs: WeightedPairs, scale: float, limit: float
    ) -> Tensor:
        logits = (stored @ codes.T).mul_(scale)  # (N, B)
        beyond = logits.abs() > limit if limit < math.inf else None
        if beyond is not None:
            logits.clamp_(-limit, limit)
        agreed = pairs.toward.flatten().dot(logits.flatten())
        apart = logits.neg_().sigmoid_()  # 1 - sigmoid(z); its logarithm is -softplus(z), in a fifth of the time
        costs = apart.clamp_min(torch.finfo(apart.dtype).tiny).log_()  # beyond 87 a cost grows no more; its slope stays
        loss = -(pairs.weights.flatten().dot(costs.flatten()) + agreed) / pairs.total
        slope = torch.addcmul(pairs.away, pairs.weights, apart, value=-1, out=apart)
        if beyond is not None:
            slope.masked_fill_(beyond, 0)
        ctx.save_for_backward((slope.T @ stored).mul_(scale / pairs.total))
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401  a context of torch's own kind
        (slope,) = ctx.saved_tensors
        return gradient * slope, None, None, None, None


def bank_likelihood(bank: Tensor, codes: Tensor, pairs: WeightedPairs, *, logit_range: float) -> Tensor:
    """Asymmetric negative log-likelihood of (B, K) tanh codes against (N, K) stored codes (PromptHash, affinity terms).

    The gradient flows through ``codes`` only. Logits are ``logit_range`` x cosine-like agreement u.h / K, so their
    span does not grow with the code length.
    """
    return stored_likelihood(bank, codes, pairs, scale=logit_range / codes.shape[1])


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
    return (theta_scale(theta, a.shape[1]) * a @ b.T).clamp(-THETA_LIMIT, THETA_LIMIT)


def theta_scale(theta: str, bits: int) -> float:
    """What a.b is multiplied with in ``half`` and ``len``."""
    return 0.5 if theta == "half" else 8 / bits


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

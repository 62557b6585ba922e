"""``cmhh-loss``: the pairwise exponential focal loss of CMHH, on trunks that all losses share.

Paper: Cross-Modal Hamming Hashing (ECCV 2018; Cao, Liu, Long, Wang). Map, as our specification has it: similarity
exp(-beta d) and focal loss on it -> ``exponential_focal``; quantisation -> ``losses.quantisation`` toward the code's
own signs; hash layers with tanh -> ``trunks``. Its towers (a CNN, an MLP over bags of words) are not built, so it is
named for its loss.

Evidence: [paper] the abstract: a focal loss on an exponential distribution, which punishes similar pairs outside a
small Hamming ball; [code] gamma 2, alpha 0.5, beta 0.5, no quantisation: torchcmh, a third party's
(WangGodder/deep-cross-modal-hashing, MIT, nothing is copied), which notes that the paper gives no values, and no code
of the authors was found; [ours] the rest, d first of all.

Known deviations:
- d = K / 2 (1 - cos), the Hamming distance of two codes of K bits wherever they are binary; torchcmh takes the root of
  the squared Euclidean one, which grows with the root of K;
- image and text learn jointly from the pairs of a batch; torchcmh updates one side at a time against stored codes of
  the whole training set;
- one run trains all lengths: the loss is a mean over them, and ``beta_bits`` gives each length a beta of its own: with
  one beta per bit, codes of most lengths end in a narrow cone, whose signs agree;
- an unlabelled item takes no part. Where no item has labels an item is like itself alone.

It is made for lookup within a small radius, not for a whole ranking: mAP is not what it maximises.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import normalize

from model.losses import quantisation
from model.methods.protocol import Features
from model.trunks import TrunkConfig, TrunkNetwork, TrunkObjective, mean_over_lengths

EPS = 1e-6  # keeps the logarithm and powers of a small probability finite


@dataclass(frozen=True, slots=True)
class Config(TrunkConfig):
    """The ``[config]`` table of a recipe."""

    beta: float = 0.5  # per bit of distance: how small the Hamming ball is
    beta_bits: int = 0  # the length that beta is meant for, K bits take beta * beta_bits / K; 0: beta at every length
    gamma: float = 2.0  # how little pairs count that are already right
    alpha: float = 0.5  # weight of similar pairs, 1 - alpha of the others
    quantisation: float = 0.0

    def __post_init__(self) -> None:
        TrunkConfig.__post_init__(self)
        if self.beta <= 0 or min(self.beta_bits, self.gamma, self.quantisation) < 0 or not 0 < self.alpha < 1:
            raise ValueError("expected beta > 0, beta_bits, gamma and quantisation of at least 0 and 0 < alpha < 1")


class Network(TrunkNetwork):
    """Of two trunks."""


class Objective(TrunkObjective):
    """The loss over the image-text pairs of a batch; it has no state."""

    def __init__(self, config: Config, network: Network, train: Features) -> None:
        super().__init__(config, network, train)
        self.config = config

    def terms(self, rows: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """Focal loss and quantisation; ``generator`` is not drawn from."""
        config, codes, shared = self.config, self.codes(rows), self.alike.shared(rows, rows)
        terms = {
            "focal": mean_over_lengths(codes, lambda image, text: exponential_focal(image, text, shared, config)),
        }
        if config.quantisation:
            terms["quantisation"] = config.quantisation * mean_over_lengths(
                codes, lambda image, text: (_to_signs(image) + _to_signs(text)) / 2
            )
        return terms


def exponential_focal(a: Tensor, b: Tensor, shared: Tensor, config: Config) -> Tensor:
    """Mean over pairs of (A, K) and (B, K) codes; ``shared`` (A, B) in {0, 1} says which are similar.

    With p = exp(-beta d) a similar pair costs -alpha (1 - p)^gamma log p, another -(1 - alpha) p^gamma log(1 - p).
    """
    bits = a.shape[1]
    beta = config.beta * (config.beta_bits / bits if config.beta_bits else 1)
    distance = bits / 2 * (1 - normalize(a, dim=1) @ normalize(b, dim=1).T).clamp(min=0)
    surprise = beta * distance  # -log p
    near, far = torch.exp(-surprise), -torch.expm1(-surprise).clamp(max=-EPS)
    similar = config.alpha * far**config.gamma * surprise
    other = (1 - config.alpha) * near**config.gamma * -far.log()
    return (shared * similar + (1 - shared) * other).mean()


def _to_signs(codes: Tensor) -> Tensor:
    return quantisation(codes, torch.where(codes > 0, 1.0, -1.0))

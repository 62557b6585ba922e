"""``dsph``: DSPH, learnable proxies of the classes and a repulsion of items that have none of them in common.

Paper: Deep Semantic-aware Proxy Hashing for Multi-label Cross-modal Retrieval (IEEE TCSVT 34(1), 2024; Huo, Qin et
al.). Map, by the equations of its released code (QinLab-WFU/DSPH, no licence stated: read for facts, nothing is
copied), as our specification has them: 1 - cos to the proxies of present classes, relu(cos - zeta) to those of absent
ones -> ``proxy_loss``; repulsion among items of several labels that share none, image-image, text-text and image-text
-> ``irrelevant_loss``; zeta -> ``zeta``; linear + tanh head of each modality -> ``trunks``.

Evidence: [code] the three terms, repulsion 0.8, proxies by SGD at 0.02, heads at 1e-3, batches of 64 to 128, 100
epochs; [inferred] each term is a mean over its own pairs; [ours] all that is said below. The paper's text was not at
hand.

Known deviations:
- zeta is computed (the released code looks it up by length and ceil(log2 C)): the cosine of two code words at the
  largest distance that the Griesmer bound allows among as many words as there are classes;
- the proxies learn by the optimiser of the run, at ``proxy_rate`` of its rate, not by an SGD of their own;
- the towers are frozen (released: tuned at 1e-5), and on the default ones an input layer leads to the head (``width``);
- one run trains all lengths: each has proxies of its own, and the loss is a mean over them;
- an unlabelled item takes no part. Without labels there are no classes, and training is refused.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from model.errors import RecipeError
from model.methods.protocol import Features, ParameterGroup
from model.trunks import TrunkConfig, TrunkNetwork, TrunkObjective, mean_over_lengths


@dataclass(frozen=True, slots=True)
class Config(TrunkConfig):
    """The ``[config]`` table of a recipe."""

    repulsion: float = 0.8
    proxy_rate: float = 1.0  # of the optimiser's, for the proxies

    def __post_init__(self) -> None:
        TrunkConfig.__post_init__(self)
        if min(self.repulsion, self.proxy_rate) < 0:
            raise ValueError(
                f"repulsion and proxy_rate: expected at least 0, found {self.repulsion} and {self.proxy_rate}"
            )


class Network(TrunkNetwork):
    """Of two trunks; the proxies are no part of it."""


class Objective(TrunkObjective):
    """The loss of a batch; the proxies are trained beside the network and are no part of what is served."""

    def __init__(self, config: Config, network: Network, train: Features) -> None:
        super().__init__(config, network, train)
        if train.labels is None:
            raise RecipeError(
                "dsph: expected training items with labels, whose classes have proxies, found none; train `baseline`, "
                "which also learns from pairs alone"
            )
        self.config, self._labels = config, (train.labels,)  # in a tuple: no part of this module's state
        classes = train.labels.shape[1]
        self.proxies = nn.ParameterDict({str(bits): nn.Parameter(torch.randn(classes, bits)) for bits in config.bits})

    def parameter_groups(self) -> list[ParameterGroup]:
        """The proxies learn at a rate of their own."""
        return [ParameterGroup(list(self.parameters()), self.config.proxy_rate)]

    def terms(self, rows: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """Proxies, and repulsion within images, within texts and across; ``generator`` is not drawn from."""
        codes, labels = self.codes(rows), self._labels[0][rows]

        def proxies(image: Tensor, text: Tensor) -> Tensor:
            own = self.proxies[str(image.shape[1])]
            return proxy_loss(image, own, labels) + proxy_loss(text, own, labels)

        def repulsion(image: Tensor, text: Tensor) -> Tensor:
            pairs = ((image, image), (text, text), (image, text))
            return torch.stack([irrelevant_loss(*pair, labels) for pair in pairs]).sum()

        return {
            "proxies": mean_over_lengths(codes, proxies),
            "repulsion": self.config.repulsion * mean_over_lengths(codes, repulsion),
        }


def proxy_loss(codes: Tensor, proxies: Tensor, labels: Tensor) -> Tensor:
    """Of (B, K) codes and (C, K) proxies: mean of 1 - cos over present classes, of relu(cos - zeta) over absent ones.

    ``labels`` (B, C) are in {0, 1}.
    """
    cosine, absent = normalize(codes, dim=1) @ normalize(proxies, dim=1).T, 1 - labels
    near = ((1 - cosine) * labels).sum() / labels.sum().clamp(min=1)
    far = (cosine - zeta(codes.shape[1], len(proxies))).relu() * absent
    return near + far.sum() / absent.sum().clamp(min=1)


def irrelevant_loss(a: Tensor, b: Tensor, labels: Tensor) -> Tensor:
    """Mean of relu(cos - zeta) over pairs of (B, K) codes whose items have several labels each, and none in common.

    ``labels`` (B, C) are those of the rows of both; 0 where there is no such pair.
    """
    several = labels.sum(1) > 1
    apart = (labels[several] @ labels[several].T == 0).float()
    cosine = normalize(a[several], dim=1) @ normalize(b[several], dim=1).T
    return ((cosine - zeta(a.shape[1], labels.shape[1])).relu() * apart).sum() / apart.sum().clamp(min=1)


def zeta(bits: int, classes: int) -> float:
    """1 - 2 d / bits: the cosine at the largest distance d that 2^k code words can keep, k = ceil(log2 classes).

    Griesmer: a linear code of dimension k and distance d has at least sum_(i<k) ceil(d / 2^i) bits.
    """
    dimension = max(1, math.ceil(math.log2(classes)))
    distance = max((d for d in range(1, bits + 1) if sum(-(-d // 2**i) for i in range(dimension)) <= bits), default=0)
    return 1 - 2 * distance / bits

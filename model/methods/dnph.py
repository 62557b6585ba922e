"""``dnph``: DNpH, quadratic spherical mutual information between codes and labels, on frozen towers.

Paper: Deep Neighborhood-preserving Hashing with Quadratic Spherical Mutual Information for Cross-modal Retrieval (IEEE
TMM 26, 2024, DOI 10.1109/TMM.2023.3349075; Qin, Huo et al.), not DNPH (TOMM, normalised proxies). Map, by the equations
of its released code (QinLab-WFU/DNpH, no licence stated: read for facts, nothing is copied), as our specification has
them: c = (1 + cos) / 2, D, M and the clamped loss -> ``spherical_information``; sum over image-image, text-text and
image-text -> ``Objective.terms``; linear + tanh head of each modality -> ``trunks``.

Evidence: [code] equations, head with dropout 0.2, BertAdam at 1e-3, decay 0.2, batch 128, 100 epochs; [ours] all that
is said below. The paper's text was not at hand.

Known deviations:
- the towers are frozen (released: tuned at 1e-5), and on the default ones an input layer leads to the head (``width``);
- each of the three sums is divided by n^2, so that the batch's size does not change the rate;
- one run trains all lengths: the loss is a mean over them;
- an unlabelled item takes no part. Where no item has labels an item is like itself alone.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import normalize

from model.methods.protocol import Features
from model.trunks import TrunkConfig, TrunkNetwork, TrunkObjective, mean_over_lengths


@dataclass(frozen=True, slots=True)
class Config(TrunkConfig):
    """The ``[config]`` table of a recipe."""

    repulsion: float = 1.0  # times c^2 / M, all that pushes items apart that share no label

    def __post_init__(self) -> None:
        TrunkConfig.__post_init__(self)
        if self.repulsion < 0:
            raise ValueError(f"repulsion: expected at least 0, found {self.repulsion}")


class Network(TrunkNetwork):
    """Of two trunks."""


class Objective(TrunkObjective):
    """The loss over the pairs of a batch; it has no state."""

    def __init__(self, config: Config, network: Network, train: Features) -> None:
        super().__init__(config, network, train)
        self.config = config

    def terms(self, rows: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """Within images, within texts and across; ``generator`` is not drawn from."""
        shared = self.alike.shared(rows, rows)

        def information(image: Tensor, text: Tensor) -> Tensor:
            pairs = ((image, image), (text, text), (image, text))
            return torch.stack([spherical_information(*pair, shared, self.config.repulsion) for pair in pairs]).sum()

        return {"information": mean_over_lengths(self.codes(rows), information)}


def spherical_information(a: Tensor, b: Tensor, shared: Tensor, repulsion: float) -> Tensor:
    """Mean of (D c - 1)^2 + repulsion c^2 / M over pairs of (A, K) and (B, K) codes; D is ``shared`` (A, B), in {0, 1}.

    M = pairs / pairs that share a label. (D c - 1)^2 is 1 wherever D = 0.
    """
    nearness = (1 + normalize(a, dim=1) @ normalize(b, dim=1).T) / 2  # c
    return ((shared * nearness - 1).square() + repulsion * shared.mean() * nearness.square()).mean()

"""``dhaph``: DHaPH, a self-paced contrast with many positives, beside a hierarchy of ancestors in hyperbolic space.

Paper: Deep Hierarchy-aware Proxy Hashing with Self-paced Learning for Cross-modal Retrieval (IEEE TKDE 36(11), 2024,
DOI 10.1109/TKDE.2024.3401050; Huo, Qin et al.). Map, by the equations of its released code (QinLab-WFU/DHaPH, no
licence stated: read for facts, nothing is copied), as our specification has them: (a) contrast over image-image,
text-text and image-text -> ``paced_contrast``; (b) Poincare ball -> ``poincare``; reciprocal triplets ->
``reciprocal_triplets``; learnable ancestors and their margin loss -> ``Hierarchy``; linear + tanh head of each
modality -> ``trunks``.

Evidence: [code] equations, head with dropout 0.2, temperature 0.3, 500 ancestors, margin 0.1, 15 neighbours, 50
triplets, curvature 0.1, clip 2.3, BertAdam at 1e-3 (ancestors 1e-5), decay 0.2, 100 epochs; [ours] all that is said
below. The paper's text was not at hand.

``detach``: in the released code (b) receives detached codes, so it trains its own ancestors and never the codes: (a)
alone is what that method is. With ``detach = false`` the hierarchy reaches the codes. ``hierarchy = 0`` leaves (b) out.

Known deviations:
- the towers are frozen (released: tuned at 1e-5), and on the default ones an input layer leads to the head (``width``);
- the weights of (a) grow item by item over ``pace_epochs``, not epoch by epoch over the first third of the run;
- (b): an anchor is not drawn as its own negative; the ancestors' own triplets, which no code enters, are drawn once for
  both modalities and count twice; distances have a closed form. AdamW clips the gradient as a whole, so a detached
  hierarchy still shortens steps; BertAdam's clipping by tensor does not;
- one run trains all lengths: each has ancestors of its own, and the loss is a mean over them;
- an unlabelled item takes no part. Where no item has labels an item is like itself alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import layer_norm, normalize

from model.methods.protocol import Features, ParameterGroup
from model.poincare import ball_distances, to_ball
from model.trunks import TrunkConfig, TrunkNetwork, TrunkObjective, mean_over_lengths

Triplets = tuple[Tensor, Tensor, Tensor]  # rows (T,) of anchors, of items near them, of items that are not


@dataclass(frozen=True, slots=True)
class Config(TrunkConfig):
    """The ``[config]`` table of a recipe."""

    temperature: float = 0.3
    self_paced: bool = True  # hard pairs weigh more, and the more so the longer the training
    pace_epochs: int = 10  # until the weights are grown: a third of the run
    hierarchy: float = 0.0  # weight of (b)
    detach: bool = True  # (b) trains its ancestors alone, as released
    ancestors: int = 500
    ancestor_rate: float = 0.01  # of the optimiser's
    margin: float = 0.1
    neighbours: int = 15
    triplets: int = 50  # of each anchor
    curvature: float = 0.1
    clip: float = 2.3  # norm of what is mapped into the ball
    ancestor_temperature: float = 0.1  # of the choice of an ancestor

    def __post_init__(self) -> None:
        TrunkConfig.__post_init__(self)
        if min(self.temperature, self.ancestor_temperature, self.curvature, self.clip) <= 0:
            raise ValueError("temperature, ancestor_temperature, curvature and clip: expected more than 0")
        if min(self.pace_epochs, self.hierarchy, self.margin, self.ancestor_rate) < 0:
            raise ValueError("pace_epochs, hierarchy, margin and ancestor_rate: expected at least 0")
        if self.ancestors < 2 or min(self.neighbours, self.triplets) < 1:
            raise ValueError("expected at least 2 ancestors, 1 neighbour and 1 triplet")


class Network(TrunkNetwork):
    """Of two trunks."""


class Objective(TrunkObjective):
    """Both parts; the ancestors are trained beside the network and are no part of what is served."""

    seen: Tensor  # () items so far

    def __init__(self, config: Config, network: Network, train: Features) -> None:
        super().__init__(config, network, train)
        self.config = config
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))
        labelled = self.alike.labelled(torch.arange(len(train), device=train.images.device))
        self._growth = config.pace_epochs * len(labelled)  # items until the weights are grown
        lengths = config.bits if config.hierarchy else ()
        self.hierarchies = nn.ModuleDict({str(bits): Hierarchy(bits, config) for bits in lengths})

    def parameter_groups(self) -> list[ParameterGroup]:
        """The ancestors learn slowly."""
        return [ParameterGroup(list(self.parameters()), self.config.ancestor_rate)]

    def terms(self, rows: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """(a) within images, within texts and across; (b) of the codes and of the ancestors."""
        config, codes, shared = self.config, self.codes(rows), self.alike.shared(rows, rows)
        self.seen += len(rows)

        def contrast(image: Tensor, text: Tensor) -> Tensor:
            pairs, pace = ((image, image), (text, text), (image, text)), self.pace
            return torch.stack([paced_contrast(*pair, shared, config.temperature, pace) for pair in pairs]).sum()

        def hierarchy(image: Tensor, text: Tensor) -> Tensor:
            sides = (image.detach(), text.detach()) if config.detach else (image, text)
            cost: Tensor = self.hierarchies[str(image.shape[1])](sides, shared, generator)
            return cost

        terms = {"contrast": mean_over_lengths(codes, contrast)}
        if config.hierarchy:
            terms["hierarchy"] = config.hierarchy * mean_over_lengths(codes, hierarchy)
        return terms

    @property
    def pace(self) -> float:
        """Delta of the self-paced weights: 0 without them, 1 where they are grown."""
        if not self.config.self_paced:
            return 0.0
        return min(1.0, int(self.seen) / self._growth) if self._growth else 1.0


def paced_contrast(a: Tensor, b: Tensor, shared: Tensor, temperature: float, pace: float) -> Tensor:
    """Mean over the rows of (A, K) codes of -log(P / (P + N)) among (B, K) codes; ``shared`` (A, B) in {0, 1}.

    P sums exp(s / temperature) exp(-1 - s)^(pace / 4) over the items that share a label, N exp(s / temperature)
    exp(-1 + s)^pace over the others; s is the cosine, and no gradient passes the second factors: far positives and
    near negatives weigh more. Every row needs an item that shares its label.
    """
    cosine = normalize(a, dim=1) @ normalize(b, dim=1).T
    fixed = cosine.detach()
    hard = torch.where(shared > 0, (-1 - fixed) * pace / 4, (fixed - 1) * pace)
    scores = cosine / temperature + hard
    alike = scores.masked_fill(shared == 0, -torch.inf)
    return (scores.logsumexp(1) - alike.logsumexp(1)).mean()


class Hierarchy(nn.Module):
    """Of one code length: codes in the ball, and ancestors that near codes have in common (b)."""

    def __init__(self, bits: int, config: Config) -> None:
        super().__init__()
        self.config = config
        self.project = nn.Linear(bits, bits)
        self.ancestors = nn.Parameter(0.9 * config.clip * torch.randn(config.ancestors, bits) / bits**0.5)

    def forward(self, sides: Sequence[Tensor], shared: Tensor, generator: torch.Generator) -> Tensor:
        """Sum over modalities of (B, K) codes, with that of the ancestors for each.

        ``shared`` (B, B) makes items of one label nearer than all others; ancestors are as near as they lie.
        """
        curvature, ancestors = self.config.curvature, self._to_ball(self.ancestors)
        apart = ball_distances(ancestors, ancestors, curvature)
        terms = [len(sides) * self._margins(apart, torch.exp(-apart).detach(), generator)]
        for codes in sides:
            points = self._to_ball(self.project(layer_norm(codes, codes.shape[1:])))
            likeness = torch.exp(-ball_distances(points, points, curvature)).detach() + shared
            terms.append(self._margins(ball_distances(points, ancestors, curvature), likeness, generator))
        return torch.stack(terms).sum()

    def _to_ball(self, vectors: Tensor) -> Tensor:
        return to_ball(vectors, self.config.curvature, self.config.clip)

    def _margins(self, distances: Tensor, likeness: Tensor, generator: torch.Generator) -> Tensor:
        """Mean over triplets of (N, N) ``likeness``: i and j lie nearer to their own ancestor than to the common one.

        ``distances`` (N, A) are those to the ancestors; a triplet whose two ancestors are one costs nothing.
        """
        config = self.config
        triplets = reciprocal_triplets(likeness, config.neighbours, config.triplets, generator)
        if not len(triplets[0]):
            return 0 * distances.sum()
        first, second, third = (distances[rows] for rows in triplets)  # (T, A) each
        of_two = torch.maximum(first, second)
        own = self._nearest(of_two, generator)
        common = self._nearest(torch.maximum(of_two, third), generator)
        terms = [((near * (own - common)).sum(1) + config.margin).relu() for near in (first, second)] + [
            ((third * (common - own)).sum(1) + config.margin).relu()
        ]
        apart = own.argmax(1) != common.argmax(1)
        return (torch.stack(terms).sum(0) * apart).mean()

    def _nearest(self, distances: Tensor, generator: torch.Generator) -> Tensor:
        """(T, A) -> (T, A), one ancestor a row drawn by Gumbel noise; the gradient is that of the soft choice."""
        noise = -torch.empty(distances.shape).exponential_(generator=generator).log().to(distances.device)
        soft = (noise - distances / self.config.ancestor_temperature).softmax(1)
        hard = torch.zeros_like(soft).scatter_(1, soft.argmax(1, keepdim=True), 1.0)
        return hard + soft - soft.detach()


def reciprocal_triplets(likeness: Tensor, neighbours: int, each: int, generator: torch.Generator) -> Triplets:
    """``each`` of every row of (N, N) with two reciprocal neighbours or more: it, one of them, and a row that is none.

    Two rows are reciprocal where each is among the ``neighbours`` most alike rows of the other, itself counted.
    """
    nearest = likeness.topk(min(neighbours, len(likeness)), dim=1).indices
    near = torch.zeros_like(likeness).scatter_(1, nearest, 1.0)
    both = (near * near.T).fill_diagonal_(0).cpu()
    none = (1 - both).fill_diagonal_(0)
    anchors = ((both.sum(1) > 1) & (none.sum(1) > 0)).nonzero().squeeze(1)
    if not len(anchors):
        return anchors, anchors, anchors
    drawn = [
        torch.multinomial(among[anchors], each, replacement=True, generator=generator).flatten()
        for among in (both, none)
    ]
    first, second, third = (rows.to(likeness.device) for rows in (anchors.repeat_interleave(each), *drawn))
    return first, second, third

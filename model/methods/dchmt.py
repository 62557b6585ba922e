"""``dchmt``: DCHMT, a choice of two for each bit, softmax in training and argmax in the code.

Paper: Differentiable Cross-modal Hashing via Multimodal Transformers (ACM MM 2022; Tu et al.; also written DCMHT). Map,
by the equations of its released code (kalenforn/DCHMT, MIT; nothing is copied), as our specification has them: the
select layer, 2 K outputs of which each pair passes a softmax -> ``Network.pairs``; argmax decode -> the logits of
``Network``, the difference of a pair, which is positive where its first is the larger; squared Euclidean distance of
similar items and squared hinge up to sqrt(2 K theta) of others, image-text, image-image and text-text ->
``distance_loss``.

Evidence: [code] select layer, distances, heads at 1e-3 (1e-4 in its README), BertAdam, decay 0.2, 100 epochs, batches
of 100 to 256; [inferred] theta 0.5 and plain means over the pairs; [ours] all that is said below. The paper's text was
not at hand.

Known deviations:
- distances are divided by 2 K, the square of the largest one, so that the loss does not grow with the length;
- ``max_positive_weight`` re-weights the few similar pairs; with 1 the mean over the pairs is plain, as released;
- the towers are frozen (released: tuned at 1e-5), and on the default ones an input layer leads to the head (``width``);
- one run trains all lengths: the loss is a mean over them;
- an unlabelled item takes no part. Where no item has labels an item is like itself alone.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from model.banks import Codes
from model.methods.protocol import Features
from model.trunks import Trunk, TrunkConfig, TrunkNetwork, TrunkObjective, mean_over_lengths

TINY = 1e-12  # squared distance: below it a root has no gradient


@dataclass(frozen=True, slots=True)
class Config(TrunkConfig):
    """The ``[config]`` table of a recipe."""

    theta: float = 0.5  # share of the largest squared distance up to which dissimilar items are pushed apart
    max_positive_weight: float = 1.0  # of similar pairs; 1: plain mean

    def __post_init__(self) -> None:
        TrunkConfig.__post_init__(self)
        if not 0 < self.theta <= 1 or self.max_positive_weight < 1:
            raise ValueError(
                "expected 0 < theta <= 1 and max_positive_weight of at least 1, found "
                f"{self.theta} and {self.max_positive_weight}"
            )


class Network(TrunkNetwork):
    """Of two trunks with two outputs for each bit: first those of all bits set, then those of all bits unset."""

    def __init__(self, config: Config, image_dim: int, text_dim: int) -> None:
        super().__init__(replace(config, bits=tuple(2 * bits for bits in config.bits)), image_dim, text_dim)
        self.lengths = config.bits

    def image_logits(self, features: Tensor, bits: int) -> Tensor:
        """(B, image_dim) -> (B, bits), set minus unset."""
        return _difference(super().image_logits(features, 2 * bits))

    def text_logits(self, features: Tensor, bits: int) -> Tensor:
        """(B, text_dim) -> (B, bits), set minus unset."""
        return _difference(super().text_logits(features, 2 * bits))

    def pairs(self, trunk: Trunk, features: Tensor) -> list[Tensor]:
        """Features of one modality, and its trunk -> (B, 2 bits) for each length, softmax over the two of each bit."""
        hidden = trunk.read(features)
        sides = [trunk.logits(hidden, 2 * bits).unflatten(1, (2, bits)) for bits in self.lengths]
        return [side.softmax(1).flatten(1) for side in sides]


class Objective(TrunkObjective):
    """The loss over the pairs of a batch; it has no state."""

    def __init__(self, config: Config, network: Network, train: Features) -> None:
        super().__init__(config, network, train)
        self.config, self._network = config, (network,)  # in a tuple: no part of this module's state

    def codes(self, rows: Tensor) -> Codes:
        """Pairs (B, 2 bits) of images and of texts, by length."""
        (network,), (_, train) = self._network, self._borrowed
        images, texts = network.pairs(network.image, train.images[rows]), network.pairs(network.text, train.texts[rows])
        return dict(zip(network.lengths, zip(images, texts, strict=True), strict=True))

    def terms(self, rows: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """Within images, within texts and across; ``generator`` is not drawn from."""
        codes, shared = self.codes(rows), self.alike.shared(rows, rows)

        def cost(a: Tensor, b: Tensor) -> Tensor:
            return distance_loss(a, b, shared, self.config.theta, self.config.max_positive_weight)

        return {
            "images": mean_over_lengths(codes, lambda image, text: cost(image, image)),
            "texts": mean_over_lengths(codes, lambda image, text: cost(text, text)),
            "across": mean_over_lengths(codes, lambda image, text: cost(image, text)),
        }


def distance_loss(a: Tensor, b: Tensor, shared: Tensor, theta: float, max_weight: float = 1.0) -> Tensor:
    """Mean of d^2 over similar and of relu(sqrt(theta) - d)^2 over other pairs of (A, 2K) and (B, 2K) softmax pairs.

    d is the Euclidean distance over sqrt(2 K), in [0, 1]; ``shared`` (A, B) in {0, 1} says which are similar.
    """
    squares = a.square().sum(1, keepdim=True) + b.square().sum(1) - 2 * a @ b.T
    squares = squares.clamp(min=0) / a.shape[1]
    hinge = (theta**0.5 - squares.clamp(min=TINY).sqrt()).relu().square()
    share = shared.mean().clamp(1e-6, 1 - 1e-6)
    weight = ((1 - share) / share).clamp(1, max_weight)
    loss: Tensor = (shared * weight * squares + (1 - shared) * hinge).mean()
    return loss


def _difference(pairs: Tensor) -> Tensor:
    chosen, other = pairs.chunk(2, dim=1)
    return chosen - other

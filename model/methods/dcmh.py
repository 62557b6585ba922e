"""``dcmh-loss``: the loss of DCMH against the stored outputs of all training rows, on trunks that all losses share.

Paper: Deep Cross-Modal Hashing (CVPR 2017, arXiv 1602.02255; Jiang, Li). With F and G the outputs for all n training
images and texts, B in {-1, +1} one code for both, S = 1 for items that share a label and Theta_ij = F_i.G_j / 2, it is

    sum_ij [log(1 + exp Theta_ij) - S_ij Theta_ij] + gamma (|B - F|^2 + |B - G|^2) + eta (|F 1|^2 + |G 1|^2).

Map: first term -> ``Objective._likelihood``, fresh outputs of one modality against the stored ones of the other; F, G
and B = sign(F + G) -> ``banks.CodeBanks``; gamma -> ``_quantisation``; eta, the balance of each bit -> ``_balance``.
Its towers (CNN-F, an MLP over bags of words) are not built, so it is named for its loss.

Evidence: [spec] half the inner product with stored codes, B = sign(F + G) at the end of an epoch, bit balance, SGD;
[recalled] the sum as it stands here, gamma = eta = 1, batches of 128, outputs without tanh; [ours] all that is said
below. Neither the paper's text nor its code (jiangqy/DCMH-CVPR2017, no licence stated) was at hand.

Known deviations:
- image and text learn in one step, each against what is stored of the other, where the paper alternates epoch by epoch
  with plain SGD; here it is Adam. A row's B is still that of the last epoch: it is read before the row is written anew;
- F and G are filled by a pass before the first step, and ``bank_rows`` of them are drawn for each step: an unbiased
  mean;
- the sum is divided by its number of pairs, which leaves the ratios of its terms as they are;
- balance is over the batch: the stored outputs of all rows lag by an epoch, and at Adam's rates bits would swing;
- ``theta = "len"`` gives Theta a span that does not grow with the length, and ``max_positive_weight`` re-weights the
  few similar pairs; with "half" and 1 the likelihood is the paper's;
- one run trains all lengths: the loss is a mean over them;
- an unlabelled item takes no part. Where no item has labels an item is like itself alone.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from model.banks import CodeBanks, Codes
from model.losses import THETA_LIMIT, WeightedPairs, balance, stored_likelihood, theta_scale
from model.methods.protocol import Features
from model.trunks import TrunkConfig, TrunkNetwork, TrunkObjective


@dataclass(frozen=True, slots=True)
class Config(TrunkConfig):
    """The ``[config]`` table of a recipe."""

    gamma: float = 1.0  # quantisation
    eta: float = 1.0  # bit balance
    theta: str = "half"  # or len
    max_positive_weight: float = 1.0  # of similar pairs in the likelihood; 1: plain
    tanh: bool = False  # of the outputs
    bank_rows: int = 1000  # drawn for each step

    def __post_init__(self) -> None:
        TrunkConfig.__post_init__(self)
        if min(self.gamma, self.eta) < 0 or self.max_positive_weight < 1 or self.bank_rows < 1:
            raise ValueError("expected gamma and eta of at least 0, max_positive_weight and bank_rows of at least 1")
        if self.theta not in ("half", "len"):
            raise ValueError(f"theta: expected half or len, found {self.theta!r}")


class Network(TrunkNetwork):
    """Of two trunks."""


class Objective(TrunkObjective):
    """The loss of a batch's outputs beside the stored ones of all training rows."""

    def __init__(self, config: Config, network: Network, train: Features) -> None:
        super().__init__(config, network, train)
        self.config = config
        self.banks = CodeBanks(len(train), config.bits)  # F and G

    def begin(self) -> None:
        """Fit the input scaling, and fill F and G with one pass."""
        super().begin()
        with torch.no_grad():
            self.banks.write(slice(None), self.outputs(self._all()))

    def terms(self, rows: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """Likelihood, quantisation and balance, each a mean over the lengths; then the rows are written anew."""
        outputs, known = self.outputs(rows), self.alike.labelled(self._all())
        drawn = torch.randperm(len(known), generator=generator)[: self.config.bank_rows]
        sample = known[drawn.to(known.device)]
        found = {
            "likelihood": self._likelihood(outputs, sample, self.alike.shared(sample, rows)),
            "quantisation": self.config.gamma * self._quantisation(outputs, rows) / len(known),
            "balance": self.config.eta * self._balance(outputs),
        }
        self.banks.write(rows, outputs)
        return found

    def outputs(self, rows: Tensor) -> Codes:
        """Of images and of texts (B, K), by length: F and G of these rows."""
        network, train = self._borrowed
        image, text = network.image.read(train.images[rows]), network.text.read(train.texts[rows])
        logits = {
            bits: (network.image.logits(image, bits), network.text.logits(text, bits)) for bits in network.lengths
        }
        return {bits: (f.tanh(), g.tanh()) for bits, (f, g) in logits.items()} if self.config.tanh else logits

    def _all(self) -> Tensor:
        train = self._borrowed[1]
        return torch.arange(len(train), device=train.images.device)

    def _likelihood(self, outputs: Codes, sample: Tensor, similar: Tensor) -> Tensor:
        """Mean over pairs of the ``sample`` (S,) of stored rows and the batch; ``similar`` (S, B)."""
        pairs = WeightedPairs.of(similar, least=1, most=self.config.max_positive_weight)
        terms = []
        for bits, (image, text) in outputs.items():
            stored_images, stored_texts = self.banks.of(bits)
            scale = theta_scale(self.config.theta, bits)
            for stored, fresh in ((stored_texts, image), (stored_images, text)):
                terms.append(stored_likelihood(stored[sample], fresh, pairs, scale=scale, limit=THETA_LIMIT))
        return 2 * torch.stack(terms).mean()

    def _quantisation(self, outputs: Codes, rows: Tensor) -> Tensor:
        """Mean over the batch of |B - F|^2 + |B - G|^2."""
        terms = []
        for bits, (image, text) in outputs.items():
            signs = self.banks.signs(rows, bits)
            terms.append(((image - signs).square() + (text - signs).square()).sum(1).mean())
        return torch.stack(terms).mean()

    def _balance(self, outputs: Codes) -> Tensor:
        """|mean F|^2 + |mean G|^2 over the batch."""
        terms = [bits * (balance(image) + balance(text)) for bits, (image, text) in outputs.items()]
        return torch.stack(terms).mean()

"""Code banks: the last tanh codes of every training row, for likelihoods against the whole training set.

Paper: PromptHash (CVPR 2025), the buffers of its asymmetric affinity terms: a batch's fresh codes against all stored
ones. A bank is sampled here, which gives an unbiased mean, and is filled by a pass before the first step.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from model.losses import WeightedPairs, bank_likelihood, quantisation, share_label

Codes = Mapping[int, tuple[Tensor, Tensor]]  # length -> tanh codes (B, length) of images and of texts


@dataclass(frozen=True, slots=True)
class Likelihood:
    """How fresh codes are compared with stored ones; see ``losses.bank_likelihood``."""

    rows: int  # drawn from the banks for each step
    logit_range: float
    max_positive_weight: float

    def pairs(self, sample: Tensor, batch: Tensor) -> WeightedPairs:
        """Of stored and fresh items, by their labels (N, C) and (B, C)."""
        return WeightedPairs.of(share_label(sample, batch), least=0, most=self.max_positive_weight)


class CodeBanks(nn.Module):
    """A bank for each length and modality; what is written carries no gradient."""

    def __init__(self, rows: int, lengths: Sequence[int]) -> None:
        super().__init__()
        self.lengths = tuple(lengths)
        for bits in lengths:
            self.register_buffer(f"image_{bits}", torch.zeros(rows, bits))
            self.register_buffer(f"text_{bits}", torch.zeros(rows, bits))

    def of(self, bits: int) -> tuple[Tensor, Tensor]:
        """(N, bits) of images and of texts."""
        return self.get_buffer(f"image_{bits}"), self.get_buffer(f"text_{bits}")

    def write(self, rows: Tensor | slice, codes: Codes) -> None:
        """Keep the codes of these rows."""
        for bits, sides in codes.items():
            for bank, side in zip(self.of(bits), sides, strict=True):
                bank[rows] = side.detach()

    def signs(self, rows: Tensor, bits: int) -> Tensor:
        """(B, bits) in {-1, +1}: the sign of the sum of both modalities' stored codes, B of the paper."""
        image, text = self.of(bits)
        return torch.where(image[rows] + text[rows] > 0, 1.0, -1.0)

    def quantisation(self, rows: Tensor, codes: Codes) -> Tensor:
        """Distance of both modalities to the sign of their sum, mean over the lengths (PromptHash, section 3.2)."""
        targets = {bits: self.signs(rows, bits) for bits in codes}
        terms = [quantisation(side, targets[bits]) for bits, sides in codes.items() for side in sides]
        return 2 * torch.stack(terms).mean()

    def likelihood(
        self, rows: Tensor, codes: Codes, labels: Tensor, generator: torch.Generator, how: Likelihood
    ) -> tuple[Tensor, Tensor] | None:
        """Mean across and within modalities (PromptHash, section 3.1); unlabelled items take no part on either side.

        ``labels`` are those of all rows (N, C). None where no row of the batch or of the sample has a label.
        """
        sample, known = labelled_sample(rows, labels, generator, how.rows)
        if not len(sample) or not known.any():
            return None
        pairs = how.pairs(labels[sample], labels[rows[known]])

        def term(bank: Tensor, side: Tensor) -> Tensor:
            return bank_likelihood(bank, side[known], pairs, logit_range=how.logit_range)

        inter, intra = [], []
        for bits, (image, text) in codes.items():
            images, texts = (bank[sample] for bank in self.of(bits))
            inter += [term(images, text), term(texts, image)]
            intra += [term(images, image), term(texts, text)]
        return torch.stack(inter).mean(), torch.stack(intra).mean()


class PairBank(nn.Module):
    """One bank for each length, of pair codes; what is written carries no gradient (PGHMH, section 3, level 3)."""

    def __init__(self, rows: int, lengths: Sequence[int]) -> None:
        super().__init__()
        self.lengths = tuple(lengths)
        for bits in lengths:
            self.register_buffer(f"pair_{bits}", torch.zeros(rows, bits))

    def of(self, bits: int) -> Tensor:
        """(N, bits)."""
        return self.get_buffer(f"pair_{bits}")

    def write(self, rows: Tensor, codes: Mapping[int, Tensor]) -> None:
        """Keep the codes of these rows."""
        for bits, own in codes.items():
            self.of(bits)[rows] = own.detach()

    def likelihood(
        self, rows: Tensor, codes: Mapping[int, Tensor], labels: Tensor, generator: torch.Generator, how: Likelihood
    ) -> dict[int, Tensor]:
        """Of fresh codes of any mask against the pairs of all rows, by length; as ``CodeBanks.likelihood`` otherwise.

        ``rows`` says whose the codes are. Empty where no row of the batch or of the sample has a label.
        """
        sample, known = labelled_sample(rows, labels, generator, how.rows)
        if not len(sample) or not known.any():
            return {}
        pairs = how.pairs(labels[sample], labels[rows[known]])
        return {
            bits: bank_likelihood(self.of(bits)[sample], own[known], pairs, logit_range=how.logit_range)
            for bits, own in codes.items()
        }


def labelled_sample(rows: Tensor, labels: Tensor, generator: torch.Generator, limit: int) -> tuple[Tensor, Tensor]:
    """Rows drawn from those with a label, and which of ``rows`` have one (B,)."""
    labelled = labels.any(1).nonzero().squeeze(1)
    sample = labelled[torch.randperm(len(labelled), generator=generator)[:limit].to(rows.device)]
    return sample, labels[rows].any(1)

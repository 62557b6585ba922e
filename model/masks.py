"""Items under presence masks: a training step sees some of them as pairs, some as images, some as texts.

Paper: PGHMH; section 5.5 of its specification. Codes of every mask lie in one Hamming space because the same contrast
acts on all of them, across masks and within each.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement

import torch
from torch import Tensor

from model.banks import PairBank
from model.hasher import Modality
from model.losses import Attraction, overlap_contrast, quantisation

MASKS = (Modality.PAIR, Modality.IMAGE, Modality.TEXT)
Overlap = Callable[[Tensor, Tensor], Tensor]  # rows (A,) and (B,) -> (A, B), how alike their items should be


@dataclass(frozen=True, slots=True)
class Look:
    """What the network makes of B inputs of one mask; (B, width) each but for the guess."""

    fused: Tensor  # f
    image: Tensor | None  # vh
    text: Tensor | None  # th
    anchor: Tensor | None  # p
    guess: Tensor | None  # (B, C) class logits, where they are learned here

    @property
    def sides(self) -> tuple[Tensor | None, ...]:
        """All of it."""
        return self.fused, self.image, self.text, self.anchor, self.guess

    def joined(self) -> Tensor:
        """What is there in one tensor (B, ...)."""
        return torch.cat([side for side in self.sides if side is not None], dim=1)

    def parted(self, joined: Tensor) -> "Look":
        """``joined`` taken apart again, for other rows of the same mask."""
        parts = iter(joined.split([side.shape[1] for side in self.sides if side is not None], dim=1))
        return Look(next(parts), *(None if side is None else next(parts) for side in self.sides[1:]))


@dataclass(frozen=True, slots=True)
class MaskedCodes:
    """Tanh codes of some items under one mask."""

    mask: Modality
    rows: Tensor  # (M,) of the training set
    codes: Mapping[int, Tensor]  # length -> (M, length)


def draw_masks(rows: Tensor, shares: Sequence[float], generator: torch.Generator) -> dict[Modality, Tensor]:
    """Modality dropout: each of the rows (B,) under one mask, drawn by the shares of ``MASKS``; no mask is empty."""
    drawn = torch.tensor(shares).multinomial(len(rows), replacement=True, generator=generator).to(rows.device)
    found = {mask: rows[drawn == place] for place, mask in enumerate(MASKS)}
    return {mask: own for mask, own in found.items() if len(own)}


def contrast_masks(masked: Sequence[MaskedCodes], overlap: Overlap, temperature: float, within: float) -> Tensor:
    """Overlap contrast of codes: mean across masks, plus mean within each, where both sides count, times ``within``."""
    across: list[Tensor] = []
    inside: list[Tensor] = []
    for one, other in combinations_with_replacement(masked, 2):
        alike = Attraction.of(overlap(one.rows, other.rows))
        terms = [overlap_contrast(own, other.codes[bits], alike, temperature) for bits, own in one.codes.items()]
        (inside if one is other else across).extend(terms)
    found = 2 * within * torch.stack(inside).mean()
    return found + torch.stack(across).mean() if across else found


def partial_consistency(masked: Sequence[MaskedCodes], bank: PairBank) -> Tensor | None:
    """Mean squared distance of partial codes to the last code of their pair, which gets no gradient; None if none."""
    partial = [one for one in masked if one.mask is not Modality.PAIR]
    terms = [quantisation(own, bank.of(bits)[one.rows]) for one in partial for bits, own in one.codes.items()]
    return torch.stack(terms).mean() if terms else None

"""What a teacher makes of its training rows, kept once it is frozen: a student learns from it (SODA, section 3.2)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True, slots=True)
class Side:
    """What one branch makes of some items."""

    reads: Tensor  # (B, width)
    logits: Mapping[int, Tensor]  # length -> (B, length)
    codes: Mapping[int, Tensor]  # their tanh: f, g or h

    @classmethod
    def of(cls, reads: Tensor, logits: Mapping[int, Tensor]) -> "Side":
        """With the codes that follow."""
        return cls(reads, logits, {bits: own.tanh() for bits, own in logits.items()})


class TeacherBank(nn.Module):
    """Shared features and logits of each length for every training row; exact, as the teacher does not learn on."""

    reads: Tensor  # (N, width)

    def __init__(self, rows: int, width: int, lengths: Sequence[int]) -> None:
        super().__init__()
        self.lengths = tuple(lengths)
        self.register_buffer("reads", torch.zeros(rows, width))
        for bits in lengths:
            self.register_buffer(f"logits_{bits}", torch.zeros(rows, bits))

    def write(self, rows: Tensor, side: Side) -> None:
        """Keep what these rows became."""
        self.reads[rows] = side.reads.detach()
        for bits in self.lengths:
            self.get_buffer(f"logits_{bits}")[rows] = side.logits[bits].detach()

    def of(self, rows: Tensor) -> Side:
        """Of some rows."""
        return Side.of(self.reads[rows], {bits: self.get_buffer(f"logits_{bits}")[rows] for bits in self.lengths})


def signs(codes: Tensor) -> Tensor:
    """In {-1, +1}, without gradient; 0 counts as +1."""
    return torch.where(codes.detach() >= 0, 1.0, -1.0)

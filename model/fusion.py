"""Modules that fuse two vectors of one item, for methods that look at more than one side of it.

Paper of ``GatedFusion``: PromptHash (CVPR 2025), adaptive gated selection fusion (AGSF); the step numbers are those of
the dataflow F(a, b) -> (a', b') in its released code: gated scan over a selective state space, then a transformer
layer over both sides. The released code re-views a batch so that both run *along the batch*, and a code depends on
the company of its item; ``across="batch"`` does that, for the oracle protocol alone. ``across="item"`` has the same
parameters and keeps to one item: its two sides are the sequence that is scanned.

Paper of ``LengthOneFusion`` and ``TokenFusion``: PGHMH. Every attention of its released fusion runs over a sequence of
one, where the softmax is 1: the map is what is left, step by step as in section 2.5 of its specification, and no
attention. ``TokenFusion`` is attention over the tokens of one item (section 6.2, step 5), ``ItemGate`` the weight of
its sides that the paper's abstract promises and its code lacks (section 8, 23).
"""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity, normalize, silu

from model.ssm import Mamba

Across = Literal["item", "batch"]
Sides = tuple[Tensor, Tensor]  # of image and text, (B, width) each


class Affine(nn.Module):
    """(1 + gamma) x + beta for each channel, the identity at the start.

    What the released "global response normalisation" comes to: its norm is divided by its own mean over an axis that
    is reduced already, which gives 1.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.zeros(width))
        self.beta = nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        """(..., width) -> (..., width)."""
        return (1 + self.gamma) * x + self.beta


class GatedFusion(nn.Module):
    """F(a, b) -> (a', b'): (B, width) twice -> (B, width) twice, the halves of a unit vector of 2 x width."""

    def __init__(
        self, width: int, *, across: Across = "item", heads: int = 4, hidden: int = 2048, dropout: float = 0.1
    ) -> None:
        super().__init__()
        self.across = across
        self.enter = nn.Linear(width, width)  # step 1, shared by both sides
        self.first, self.first_affine = nn.Linear(width, width), Affine(width)  # step 2
        self.mamba = Mamba(width)  # step 4, one for all four passes
        self.scan_gain = nn.Parameter(torch.randn(()).abs())
        self.gain = nn.Parameter(torch.randn(()).abs())  # step 5
        self.second, self.second_affine = nn.Linear(width, width), Affine(width)  # step 6
        self.leave_affine, self.leave = Affine(width), nn.Linear(width, width)  # step 7
        self.joint_affine = Affine(2 * width)  # step 8
        self.mix = nn.TransformerEncoderLayer(2 * width, heads, hidden, dropout, batch_first=True)  # post-norm, ReLU

    def forward(self, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        """(B, width), (B, width) -> (B, width), (B, width)."""
        entered = self.enter(torch.stack([a, b]))  # (2, B, width)
        rough = silu(self.first_affine(self.first(entered)))
        selected = self._select(rough, self.scan_gain * self._scan(rough))
        smooth = silu(self.second_affine(self.second(selected)))
        left = 0.5 * self.leave(self.leave_affine(smooth)) + 0.5 * entered
        joint = self.joint_affine(torch.cat([left[0], left[1]], dim=1))  # (B, 2 width)
        # a two-dimensional input is one sequence of B items: attention across the batch
        mixed = self.mix(joint) if self.across == "batch" else self.mix(joint.unsqueeze(1)).squeeze(1)
        fused_a, fused_b = normalize(mixed, dim=1).chunk(2, dim=1)  # step 9
        return fused_a, fused_b

    def _scan(self, x: Tensor) -> Tensor:
        """Steps 3 and 4: (2, B, width) scanned plain, channels flipped, sequence flipped, and both, summed."""
        sequences = x.transpose(0, 1) if self.across == "item" else _scramble(x)  # (B, 2, width) or (2, B, width)
        flips: tuple[tuple[int, ...], ...] = ((), (2,), (1,), (1, 2))
        scanned = self.mamba(torch.cat([sequences.flip(axes) for axes in flips])).chunk(len(flips))
        summed = torch.stack([part.flip(axes) for part, axes in zip(scanned, flips, strict=True)]).sum(0)
        return summed.transpose(0, 1) if self.across == "item" else _unscramble(summed)

    def _select(self, rough: Tensor, scanned: Tensor) -> Tensor:
        """Step 5: one gate for each item, by how alike the two are on both of its sides."""
        gate = cosine_similarity(scanned, rough, dim=-1).mean(0).sigmoid().unsqueeze(-1)  # (B, 1)
        return self.gain * gate * scanned + (1 - gate) * rough


class LengthOneFusion(nn.Module):
    """F(a, b) -> (a', b'): (B, width) twice -> (B, width) twice, the halves of a unit vector of 2 x width.

    The exact form of the released module in evaluation mode; in training its dropout falls on the same places. The
    query and key weights of the release, which get no gradient, are left out.
    """

    def __init__(self, width: int, *, heads: int = 4, hidden: int = 2048, dropout: float = 0.1) -> None:
        super().__init__()
        self.heads = heads
        self.enter, self.leave = nn.Linear(width, width), nn.Linear(width, width)  # shared by both sides
        self.value, self.attended = nn.Linear(width, width), nn.Linear(width, width)  # W_v and W_o, both ways
        self.affine, self.joint_affine = Affine(width), Affine(2 * width)
        self.joint_value, self.joint_attended = nn.Linear(2 * width, 2 * width), nn.Linear(2 * width, 2 * width)
        self.joint_hidden, self.joint_leave = nn.Linear(2 * width, hidden), nn.Linear(hidden, 2 * width)
        self.attended_norm, self.joint_norm = nn.LayerNorm(2 * width), nn.LayerNorm(2 * width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        """(B, width), (B, width) -> (B, width), (B, width)."""
        sides = torch.stack([a, b])  # (2, B, width)
        attended = self.attended(self._one_weight(self.value(sides))).flip(0)  # step 2: for a it is that of b
        mixed = 0.5 * self.leave(self.affine(attended)) + 0.5 * self.enter(sides)  # steps 1, 3 and 4
        joint = self.joint_affine(torch.cat([mixed[0], mixed[1]], dim=1))  # step 5, (B, 2 width)
        seen = self.joint_attended(self._one_weight(self.joint_value(joint)))
        joint = self.attended_norm(joint + self.dropout(seen))
        hidden = self.dropout(self.joint_hidden(joint).relu())
        joint = self.joint_norm(joint + self.dropout(self.joint_leave(hidden)))
        fused_a, fused_b = normalize(joint, dim=1).chunk(2, dim=1)  # step 6
        return fused_a, fused_b

    def _one_weight(self, values: Tensor) -> Tensor:
        """Values (..., width) under the attention weights: a 1 for each head, which dropout falls on."""
        weights: Tensor = self.dropout(torch.ones_like(values[..., : self.heads]))
        return weights.repeat_interleave(values.shape[-1] // self.heads, dim=-1) * values


class MapFusion(nn.Module):
    """The released order of fusion (section 2.6) with ``LengthOneFusion``; what F gives is normalised first."""

    def __init__(self, width: int, *, hidden: int = 2048, dropout: float = 0.1) -> None:
        super().__init__()
        self.map = LengthOneFusion(width, hidden=hidden, dropout=dropout)
        self.norm = nn.LayerNorm(width)

    def forward(self, sides: Sides, present: tuple[bool, bool], anchor: Tensor | None) -> Sides:
        """v and t (B, width), learned vectors in place of an absent one, and perhaps p -> vh and th."""
        (image, text), (fused_image, fused_text) = sides, map(self.norm, self.map(*sides))
        if anchor is not None:
            fused_image = self.norm(self.map(fused_image, anchor)[0])
        return 0.5 * (image + fused_image), 0.5 * (text + fused_text)


class TokenFusion(nn.Module):
    """One pre-norm transformer layer over the few tokens of one item; a token that is absent is not there at all."""

    def __init__(self, width: int, *, heads: int = 8, hidden: int = 2048, dropout: float = 0.1) -> None:
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(width, heads, hidden, dropout, batch_first=True, norm_first=True)

    def forward(self, sides: Sides, present: tuple[bool, bool], anchor: Tensor | None) -> Sides:
        """As ``MapFusion``; an absent side comes back as it was given."""
        tokens = [side for side, there in zip(sides, present, strict=True) if there]
        fused = self.layer(torch.stack(tokens if anchor is None else [*tokens, anchor], dim=1)).unbind(1)
        if all(present):
            return fused[0], fused[1]
        return (fused[0], sides[1]) if present[0] else (sides[0], fused[0])


class ItemGate(nn.Module):
    """How much each side of a pair counts, by what both of them say: half and half at the start."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weigh = nn.Linear(2 * width, 1)
        nn.init.zeros_(self.weigh.weight)
        nn.init.zeros_(self.weigh.bias)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """(B, width), (B, width) -> (B, width) between the two."""
        share: Tensor = self.weigh(torch.cat([a, b], dim=1)).sigmoid()  # (B, 1)
        return share * a + (1 - share) * b


def _scramble(x: Tensor) -> Tensor:
    """Step 3: each side's (B, width), read row by row, laid out again column by column: U[t, c] = v[c B + t]."""
    sides, batch, width = x.shape
    return x.reshape(sides, width, batch).transpose(1, 2)


def _unscramble(x: Tensor) -> Tensor:
    sides, batch, width = x.shape
    return x.transpose(1, 2).reshape(sides, batch, width)

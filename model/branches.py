"""Hash heads that stand apart: a branch for each modality, and one for label prompts.

Paper: SODA (arXiv 2510.09664), section 2 of its specification: H_v, H_t and H_l are separate, so that the image side
can be frozen while another learns toward it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from encoders.towers import Tail
from model.heads import InputLayer, MultiLengthHeads, ResidualMLP
from model.label_prompts import TrainingPrompts, mean_prompt


@dataclass(frozen=True, slots=True)
class Sizes:
    """Of a branch."""

    lengths: Sequence[int]
    width: int
    hidden: int  # of the residual block
    layers: int  # residual blocks
    dropout: float
    linear: bool  # one linear map, factored through ``width``, in place of input layer and residual blocks


class Branch(nn.Module):
    """(Tuned blocks of a tower,) input layer, residual blocks, a linear head for each length."""

    def __init__(self, dim: int, sizes: Sizes, blocks: Tail | None = None) -> None:
        super().__init__()
        self.blocks = blocks
        self.input = InputLayer(dim, sizes.width, sizes.dropout)
        self.mlp = None if sizes.linear else ResidualMLP(sizes.width, sizes.hidden, sizes.layers, sizes.dropout)
        self.heads = MultiLengthHeads(sizes.width, sizes.lengths)

    def forward(self, inputs: Tensor, tokens: Tensor | None = None) -> Tensor:
        """(B, dim) features, or states and, of a text, its ids (B, L) -> (B, width)."""
        return self.read(inputs if self.blocks is None else self.blocks(inputs, tokens).features)

    def read(self, features: Tensor) -> Tensor:
        """(B, dim) features behind the tower -> (B, width)."""
        if self.mlp is None:
            linear: Tensor = self.input.linear(self.input.scaling(features))
            return linear
        shared: Tensor = self.mlp(self.input(features))
        return shared

    def start_from(self, other: "Branch") -> None:
        """Take over the layers of another branch, where shapes agree; scaling and tuned blocks stay."""
        theirs = dict(other.named_parameters())
        with torch.no_grad():
            for name, own in self.named_parameters():
                if not name.startswith("blocks.") and theirs[name].shape == own.shape:
                    own.copy_(theirs[name])


class LabelBranch(nn.Module):
    """H_l over label prompts, by layers of its own or by those of another branch; classes may have learned vectors."""

    def __init__(self, own: Branch | None, shared: Branch | None, classes: Tensor | None) -> None:
        """One of ``own`` and ``shared``; ``classes`` (C, text_dim) are what their vectors start from."""
        super().__init__()
        self.own = own
        self._shared = (shared,)  # in a tuple: no part of this module
        self.classes = None if classes is None else nn.Parameter(classes)

    @property
    def branch(self) -> Branch:
        """The layers that a prompt passes."""
        branch = self._shared[0] if self.own is None else self.own
        if branch is None:
            raise ValueError("expected layers for label prompts, found neither own nor shared ones")
        return branch

    def prompts(self, prompts: TrainingPrompts, rows: Tensor) -> Tensor:
        """What the prompts of training rows (B,) say, (B, text_dim)."""
        if self.classes is not None:
            return mean_prompt(prompts.sets[prompts.set_of[rows]], self.classes)
        told: Tensor = prompts(rows, None if self.branch.blocks is None else self.leave)
        return told

    def leave(self, states: Tensor, tokens: Tensor) -> Tensor:
        """Through the tuned blocks: (T, L, W) and ids (T, L) -> (T, text_dim)."""
        blocks = self.branch.blocks
        if blocks is None:
            raise ValueError("expected a branch with tuned blocks, found one on features")
        features: Tensor = blocks(states, tokens).features
        return features

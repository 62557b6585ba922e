"""Inside a tower: its states token by token, the point where it splits, and a copy of its last blocks to tune.

A tower is ``enter``, then its blocks one after another, then ``tokens``, ``pool`` and ``join``. ``prefix`` runs it up
to its last n blocks, and a ``Tail`` of n blocks goes on from there: together they are the whole forward, bit for bit.
"""

import copy
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


@dataclass(frozen=True, slots=True)
class TowerOutput:
    """What a tower makes of a batch."""

    features: Tensor  # (B, D), those of the backbone's ``image_features`` or ``text_features``
    pooled: Tensor  # (B, P) before any normalisation: the image and text features of the papers
    tokens: Tensor  # (B, T, W) after the tower's last norm; for a text, padded positions hold anything


class Tower(ABC):
    """One frozen tower of a backbone. ``inputs`` are pixels (B, 3, H, W), or token ids (B, L), 0 where padded."""

    width: int  # W of the token states
    pooled_dim: int  # P

    @property
    @abstractmethod
    def blocks(self) -> Sequence[nn.Module]:
        """What may be tuned, first to last."""

    @abstractmethod
    def enter(self, inputs: Tensor) -> Tensor:
        """State before the first block."""

    @abstractmethod
    def attention(self, inputs: Tensor) -> Tensor | None:
        """What ``step`` takes as the mask of these inputs; None where every position sees every other."""

    @abstractmethod
    def step(self, block: nn.Module, state: Tensor, attention: Tensor | None) -> Tensor:
        """State after one block."""

    @abstractmethod
    def tokens(self, state: Tensor) -> Tensor:
        """State after the last block -> (B, T, W)."""

    @abstractmethod
    def pool(self, tokens: Tensor, inputs: Tensor) -> Tensor:
        """(B, T, W) -> (B, P), read where this tower reads."""

    @abstractmethod
    def join(self, pooled: Tensor) -> Tensor:
        """(B, P) -> (B, D) features."""

    def leave(self, state: Tensor, inputs: Tensor) -> TowerOutput:
        """What follows the last block; never tuned."""
        tokens = self.tokens(state)
        pooled = self.pool(tokens, inputs)
        return TowerOutput(self.join(pooled), pooled, tokens)

    def prefix(self, inputs: Tensor, tail: int) -> Tensor:
        """State before the last ``tail`` blocks; with 0, after all of them.

        Raises:
            ValueError: the tower has fewer blocks.
        """
        state, attention = self.enter(inputs), self.attention(inputs)
        for block in self.blocks[: self._split(tail)]:
            state = self.step(block, state, attention)
        return state

    def whole(self, inputs: Tensor) -> TowerOutput:
        """The frozen tower from end to end."""
        return self.leave(self.prefix(inputs, 0), inputs)

    def tail(self, blocks: int, *, checkpointing: bool = False) -> "Tail":
        """A trainable copy of the last blocks, on the tower's device.

        Raises:
            ValueError: the tower has fewer blocks.
        """
        return Tail(self, self.blocks[self._split(blocks) :], checkpointing=checkpointing)

    def _split(self, tail: int) -> int:
        if not 0 <= tail <= len(self.blocks):
            raise ValueError(f"expected 0 to {len(self.blocks)} blocks of this tower, found {tail}")
        return len(self.blocks) - tail

    def __deepcopy__(self, memo: dict[int, object]) -> Self:
        return self  # frozen: copies of a tail share what comes before and after it


class TextTower(Tower):
    """A tower over token ids."""

    @abstractmethod
    def words(self, tokens: Tensor) -> Tensor:
        """(B, L) ids -> (B, L, W) word embeddings, without positions: what prompts are made of."""

    @abstractmethod
    def read(self, tokens: Tensor, inputs: Tensor) -> Tensor:
        """(B, L, W) and ids (B, L) -> (B, W): the state of a whole text, read where this tower reads one."""

    @abstractmethod
    def project(self, read: Tensor) -> Tensor:
        """(B, W) -> (B, P'): the matrix that leads from the state of a text into the joint space."""

    @abstractmethod
    def sees(self, visible: Tensor, state: Tensor) -> Tensor | None:
        """(B, L) bool -> what ``step`` takes where every position may look at the visible ones, later ones included."""

    @staticmethod
    def visible(tokens: Tensor) -> Tensor:
        """(B, L) bool: False where padded, behind the last id that is not 0: a vocabulary may give 0 to a token."""
        return tokens.flip(1).cumsum(1).flip(1) > 0


class Tail(nn.Module):
    """The last blocks of a tower, copied to be tuned; its parameters are the tuned ones and nothing else.

    Normalisations by batch statistics are folded into their convolutions, so tuning never moves statistics. With
    ``checkpointing``, a block's activations are computed again in the backward pass instead of kept. Where gradients
    flow, torch takes another attention kernel than the frozen tower does: equal to it but for rounding.
    """

    def __init__(self, tower: Tower, blocks: Sequence[nn.Module], *, checkpointing: bool) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(copy.deepcopy(list(blocks))).requires_grad_(True)
        self.checkpointing = checkpointing
        self._tower = tower

    def run(self, state: Tensor, attention: Tensor | None) -> Tensor:
        """The blocks alone, for states that may hold positions of the method's own, under a mask of its choice."""
        for block in self.blocks:
            if self.checkpointing and torch.is_grad_enabled():
                state = checkpoint(self._tower.step, block, state, attention, use_reentrant=False)
            else:
                state = self._tower.step(block, state, attention)
        return state

    def forward(self, state: Tensor, inputs: Tensor | None = None) -> TowerOutput:
        """From the state of ``Tower.prefix`` to the tower's output.

        A text needs its token ids here as well; an image is in its state, which may have come from a cache.
        """
        inputs = state if inputs is None else inputs
        return self._tower.leave(self.run(state, self._tower.attention(inputs)), inputs)

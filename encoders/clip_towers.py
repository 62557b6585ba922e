"""The two transformers of a CLIP, block by block. Equal to open_clip's own forward; see there for the architecture."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from encoders.towers import TextTower, Tower


class ClipImageTower(Tower):
    """A vision transformer pooled by its class token."""

    def __init__(self, visual: Any) -> None:  # noqa: ANN401  open_clip is imported in one file alone
        self._net = visual
        self.width = int(visual.transformer.width)
        self.pooled_dim = int(visual.output_dim)

    @property
    def blocks(self) -> Sequence[nn.Module]:
        """Transformer blocks."""
        return list(self._net.transformer.resblocks)

    def enter(self, inputs: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, 1 + patches, W)."""
        state: Tensor = self._net._embeds(inputs)
        return state

    def attention(self, inputs: Tensor) -> None:
        """Every patch sees every patch."""

    def step(self, block: nn.Module, state: Tensor, attention: Tensor | None) -> Tensor:
        """(B, T, W) -> (B, T, W)."""
        states: Tensor = block(state)
        return states

    def tokens(self, state: Tensor) -> Tensor:
        """(B, T, W) after the last norm; the class token comes first."""
        states: Tensor = self._net.ln_post(state)
        return states

    def pool(self, tokens: Tensor, inputs: Tensor) -> Tensor:
        """The class token, projected: (B, T, W) -> (B, D)."""
        pooled = tokens[:, 0] if self._net.proj is None else tokens[:, 0] @ self._net.proj
        return pooled

    def join(self, pooled: Tensor) -> Tensor:
        """Unit vectors."""
        return normalize(pooled, dim=1)


class ClipTextTower(TextTower):
    """A causal transformer pooled at the end of the text."""

    def __init__(self, model: Any) -> None:  # noqa: ANN401  open_clip is imported in one file alone
        self._net = model
        self.width = int(model.transformer.width)
        self._heads = int(model.transformer.resblocks[0].attn.num_heads)
        projection = model.text_projection
        self.pooled_dim = self.width if projection is None else _output_dim(projection)

    @property
    def blocks(self) -> Sequence[nn.Module]:
        """Transformer blocks."""
        return list(self._net.transformer.resblocks)

    def enter(self, inputs: Tensor) -> Tensor:
        """(B, L) -> (B, L, W), positions included."""
        words = self.words(inputs)
        positions: Tensor = self._net.positional_embedding[: words.shape[1]]
        return words + positions

    def attention(self, inputs: Tensor) -> Tensor:
        """Later tokens are not seen, and with them no padding."""
        length = min(inputs.shape[1], self._net.context_length)
        mask: Tensor = self._net.attn_mask[:length, :length]
        return mask

    def sees(self, visible: Tensor, state: Tensor) -> Tensor:
        """(B, L) bool -> additive (B x heads, L, L)."""
        hidden = torch.zeros_like(visible, dtype=state.dtype).masked_fill(~visible, float("-inf"))
        return hidden[:, None, :].expand(-1, visible.shape[1], -1).repeat_interleave(self._heads, 0)

    def step(self, block: nn.Module, state: Tensor, attention: Tensor | None) -> Tensor:
        """(B, L, W) -> (B, L, W)."""
        states: Tensor = block(state, attn_mask=attention)
        return states

    def tokens(self, state: Tensor) -> Tensor:
        """(B, L, W) after the final norm."""
        states: Tensor = self._net.ln_final(state)
        return states

    def pool(self, tokens: Tensor, inputs: Tensor) -> Tensor:
        """The state at the end of the text, projected: (B, L, W) -> (B, D)."""
        return self.project(self.read(tokens, inputs))

    def read(self, tokens: Tensor, inputs: Tensor) -> Tensor:
        """The state at the end of the text: (B, L, W) -> (B, W)."""
        ends = inputs == self._net.text_eos_id if self._net.text_pool_type == "eos" else inputs
        return tokens[torch.arange(len(tokens), device=tokens.device), ends.int().argmax(dim=1)]

    def project(self, read: Tensor) -> Tensor:
        """CLIP's text projection: (B, W) -> (B, D)."""
        projection = self._net.text_projection
        if projection is None:
            return read
        projected: Tensor = projection(read) if isinstance(projection, nn.Linear) else read @ projection
        return projected

    def join(self, pooled: Tensor) -> Tensor:
        """Unit vectors."""
        return normalize(pooled, dim=1)

    def words(self, tokens: Tensor) -> Tensor:
        """(B, L) ids -> (B, L, W); padding beyond the context is left out."""
        vectors: Tensor = self._net.token_embedding(tokens[:, : self._net.context_length])
        return vectors


def _output_dim(projection: nn.Linear | Tensor) -> int:
    return projection.out_features if isinstance(projection, nn.Linear) else int(projection.shape[1])

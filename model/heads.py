"""Small trainable parts that several methods share."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class InputScaling(nn.Module):
    """Per-dimension standardisation with frozen training statistics, clipped; the identity until ``fit``."""

    mean: Tensor
    inverse_std: Tensor

    def __init__(self, dim: int, limit: float = 6.0) -> None:
        super().__init__()
        self.limit = limit  # standard deviations
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("inverse_std", torch.ones(dim))

    def fit(self, features: Tensor) -> None:
        """Take mean and deviation from the (N, D) features of the training rows; columns beyond D stay as they are."""
        columns = features.shape[1]
        self.mean[:columns] = features.mean(0)
        if len(features) > 1:  # one row has no deviation
            self.inverse_std[:columns] = 1 / features.std(0).clamp_min(1e-6)

    def forward(self, features: Tensor) -> Tensor:
        """(B, dim) -> (B, dim)."""
        return ((features - self.mean) * self.inverse_std).clamp(-self.limit, self.limit)


class InputLayer(nn.Module):
    """Scaling, linear, ReLU, dropout: one modality's features into the shared width."""

    def __init__(self, dim: int, width: int, dropout: float) -> None:
        super().__init__()
        self.scaling = InputScaling(dim)
        self.linear = nn.Linear(dim, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, features: Tensor) -> Tensor:
        """(B, dim) -> (B, width)."""
        hidden: Tensor = self.dropout(torch.relu(self.linear(self.scaling(features))))
        return hidden


class ResidualMLP(nn.Module):
    """``layers`` times x + W_b Drop(GELU(W_a LN(x))), width -> hidden -> width (PromptHash, section 2.5)."""

    def __init__(self, width: int, hidden: int, layers: int, dropout: float) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.Sequential(
                nn.LayerNorm(width), nn.Linear(width, hidden), nn.GELU(), nn.Dropout(dropout), nn.Linear(hidden, width)
            )
            for _ in range(layers)
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, width) -> (B, width)."""
        for layer in self.layers:
            x = x + layer(x)
        return x


class MultiLengthHeads(nn.Module):
    """One linear hash head for each code length, on shared features: one run trains every length."""

    def __init__(self, width: int, lengths: Sequence[int]) -> None:
        super().__init__()
        self.width = width
        self.heads = nn.ModuleDict({str(bits): nn.Linear(width, bits) for bits in lengths})

    def forward(self, features: Tensor, bits: int) -> Tensor:
        """(B, width) -> (B, bits) logits."""
        logits: Tensor = self.heads[str(bits)](features)
        return logits


class Decoders(nn.Module):
    """From each code but the long one to that one's signs: D_K of PGHMH, section 2.7."""

    def __init__(self, lengths: Sequence[int], long: int) -> None:
        super().__init__()
        self.lengths = tuple(bits for bits in lengths if bits != long)
        self.decoders = nn.ModuleDict(
            {
                str(bits): nn.Sequential(nn.Linear(bits, long), nn.ReLU(), nn.Linear(long, long), nn.Tanh())
                for bits in self.lengths
            }
        )

    def forward(self, codes: Tensor, bits: int) -> Tensor:
        """(B, bits) tanh codes -> (B, long)."""
        decoded: Tensor = self.decoders[str(bits)](codes)
        return decoded

"""Features and labels that have to do with each other, or not, for what guesses classes."""

import torch
from torch import Tensor

DIM, CLASSES = 32, 3


def noise(rows: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Features and labels, one class a row, that have nothing to do with each other."""
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(rows, DIM, generator=generator)
    return features, torch.eye(CLASSES)[torch.randint(CLASSES, (rows,), generator=generator)]


def learnable(rows: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Features that the labels move."""
    features, labels = noise(rows, seed)
    return features + 4 * labels @ torch.randn(CLASSES, DIM, generator=torch.Generator().manual_seed(99)), labels


def accuracy(predicted: Tensor, labels: Tensor) -> float:
    """Share of rows whose likeliest class is theirs."""
    return float((predicted.argmax(1) == labels.argmax(1)).float().mean())

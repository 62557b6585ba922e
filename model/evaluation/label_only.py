"""``label-only``: codes made from true labels alone. Not a retrieval method, and never servable: a control.

It bounds from above what codes of a length can reach on a data set's relevance rule, and it is what the leak alarm
must sound on. A small network maps the label vector to logits and learns label-overlap contrast: scores cos(a, b) / tau
are fitted to the Jaccard overlap of the label sets, normalised by row, with a pull of tanh codes to their signs.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

HIDDEN, STEPS, BATCH, RATE, TEMPERATURE, QUANTISATION = 256, 200, 256, 1e-2, 0.2, 0.1


@dataclass(frozen=True, slots=True)
class LabelCoder:
    """Codes of one length from label vectors."""

    network: nn.Module

    def encode(self, labels: NDArray[np.integer | np.bool_]) -> NDArray[np.uint8]:
        """(N, C) multi-hot labels -> (N, bits / 8) packed codes."""
        with torch.inference_mode():
            logits = self.network(_tensor(labels)).numpy()
        return np.packbits(logits > 0, axis=1, bitorder="little")


def fit_label_coder(labels: NDArray[np.integer | np.bool_], bits: int, seed: int = 0) -> LabelCoder:
    """Learn a coder from the (N, C) multi-hot labels of the training items; N and C at least 1."""
    rows = _tensor(labels)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = nn.Sequential(nn.Linear(rows.shape[1], HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, bits))
    generator = torch.Generator().manual_seed(seed)
    optimiser = torch.optim.Adam(network.parameters(), lr=RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, STEPS)
    for _ in range(STEPS):
        batch = rows[torch.randint(len(rows), (min(BATCH, len(rows)),), generator=generator)]
        codes = network(batch).tanh()
        loss = _contrast(codes, batch) + QUANTISATION * (codes.abs() - 1).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    return LabelCoder(network.eval())


def _contrast(codes: Tensor, labels: Tensor) -> Tensor:
    shared = labels @ labels.T  # (B, B)
    count = labels.sum(1)
    overlap = shared / (count[:, None] + count - shared).clamp(min=1)
    target = overlap / overlap.sum(1, keepdim=True).clamp(min=1e-6)
    unit = nn.functional.normalize(codes, dim=1)
    return -(target * (unit @ unit.T / TEMPERATURE).log_softmax(1)).sum(1).mean()


def _tensor(labels: NDArray[np.integer | np.bool_]) -> Tensor:
    return torch.from_numpy((labels > 0).astype(np.float32))

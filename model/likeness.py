"""How alike training items should be: what labels say in a loss, and all that they say there."""

from dataclasses import dataclass

import torch
from torch import Tensor

from model.losses import label_overlap, share_label


@dataclass(frozen=True, slots=True)
class Likeness:
    """Between two lists of training rows; an item is like itself, and without labels like nothing else."""

    labels: Tensor | None  # (N, C) multi-hot float; a row of zeros is an unlabelled item

    def labelled(self, rows: Tensor) -> Tensor:
        """Those of the rows (B,) that have a label; all of them where there are no labels."""
        return rows if self.labels is None else rows[self.labels[rows].any(1)]

    def shared(self, a: Tensor, b: Tensor) -> Tensor:
        """(A, B) in {0, 1}: whether two items share a label."""
        own = a[:, None] == b
        return (own if self.labels is None else share_label(self.labels[a], self.labels[b]) | own).float()

    def overlap(self, a: Tensor, b: Tensor) -> Tensor:
        """(A, B) in [0, 1]: shared labels over all labels of the two (Jaccard)."""
        own = (a[:, None] == b).float()
        return own if self.labels is None else torch.maximum(label_overlap(self.labels[a], self.labels[b]), own)

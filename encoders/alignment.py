"""How two towers that never met share one space: ConSE, corrected by a small alignment head.

ConSE (Norouzi et al. 2014, "Zero-Shot Learning by Convex Combination of Semantic Embeddings"): an image's vector is the
sum over ImageNet classes of p(class | image) x text vector(class name). The head adds a learned correction that starts
at zero, and a text matrix that starts at the identity, so an untrained head is plain ConSE.
"""

from importlib.resources import files
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.functional import normalize

HIDDEN = 256


def asset(name: str) -> Path:
    """Path of a file shipped in ``encoders/assets``."""
    return Path(str(files("encoders") / "assets" / name))


def class_names() -> list[str]:
    """The 1,000 ImageNet class names in the order of the tower's logits."""
    return asset("imagenet_classes.txt").read_text(encoding="utf-8").splitlines()


def conse(logits: Tensor, class_vectors: Tensor) -> Tensor:
    """(B, C) logits and (C, D) unit class vectors -> (B, D) unit vectors."""
    return normalize(logits.softmax(dim=1) @ class_vectors, dim=1)


class AlignmentHead(nn.Module):
    """Maps both towers' features into one joint space of unit vectors."""

    def __init__(self, pooled_dim: int, joint_dim: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(pooled_dim + joint_dim, HIDDEN)
        self.correction = nn.Linear(HIDDEN, joint_dim)
        self.text = nn.Linear(joint_dim, joint_dim, bias=False)
        nn.init.zeros_(self.correction.weight)
        nn.init.zeros_(self.correction.bias)
        nn.init.eye_(self.text.weight)

    def align_images(self, pooled: Tensor, conse_vector: Tensor) -> Tensor:
        """(B, pooled_dim) pooled of norm 4 and (B, joint_dim) ConSE -> (B, joint_dim) unit vectors."""
        hidden = torch.relu(self.hidden(torch.cat([pooled, conse_vector], dim=1)))
        return normalize(conse_vector + self.correction(hidden), dim=1)

    def align_texts(self, vectors: Tensor) -> Tensor:
        """(B, joint_dim) -> (B, joint_dim) unit vectors."""
        return normalize(self.text(vectors), dim=1)


def load_alignment(head: AlignmentHead, path: Path) -> None:
    """Load a trained head into this one, in place."""
    head.load_state_dict(load_file(path))

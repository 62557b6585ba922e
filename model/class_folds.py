"""Classes predicted from a modality's own features, for prompts that no label may make.

Each of a few small classifiers learns from all training rows but its own fold. A training row then gets its
prediction from the one that did not see it, as good or bad as a new input gets from the mean of all.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from model.heads import InputLayer

FOLDS, EPOCHS, BATCH, RATE, HIDDEN, DROPOUT = 3, 20, 256, 3e-3, 512, 0.3


class ClassFolds(nn.Module):
    """(B, dim) features -> (B, C) probabilities; frozen after ``fit``."""

    def __init__(self, dim: int, classes: int) -> None:
        super().__init__()
        self.members = nn.ModuleList(
            nn.Sequential(InputLayer(dim, HIDDEN, DROPOUT), nn.Linear(HIDDEN, classes)) for _ in range(FOLDS)
        )
        self.requires_grad_(False)

    def forward(self, features: Tensor) -> Tensor:
        """The mean of the members: what an input gets that none of them learned from."""
        return torch.stack([member(features).sigmoid() for member in self.members]).mean(0)

    def fit(self, features: Tensor, labels: Tensor, seed: int) -> Tensor:
        """Learn from (N, dim) features and (N, C) multi-hot labels -> (N, C) out-of-fold probabilities.

        A row without labels teaches nothing and is predicted all the same.
        """
        predicted = torch.zeros_like(labels)
        generator = torch.Generator().manual_seed(seed)
        fold = (torch.randperm(len(labels), generator=generator) % FOLDS).to(labels.device)
        for number, member in enumerate(self.members):
            own = fold == number
            rows = (~own & labels.any(1)).nonzero().squeeze(1)
            if len(rows) < 2:  # nothing to learn from: this member predicts what it starts with
                continue
            with torch.random.fork_rng(devices=[features.device] if features.is_cuda else []), torch.enable_grad():
                torch.manual_seed(seed * FOLDS + number)  # dropout draws from the default generator
                _learn(member, features[rows], labels[rows], generator)
        with torch.no_grad():
            for number, member in enumerate(self.members):
                predicted[fold == number] = member(features[fold == number]).sigmoid()
        return predicted


def _learn(member: nn.Module, features: Tensor, labels: Tensor, generator: torch.Generator) -> None:
    scaling = member.get_submodule("0.scaling")
    scaling.fit(features)  # type: ignore[operator]  # of an InputLayer
    member.requires_grad_(True).train()
    optimiser = torch.optim.AdamW(member.parameters(), lr=RATE, betas=(0.9, 0.98), weight_decay=0.02)
    steps = EPOCHS * -(-len(features) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, total_steps=steps + 1, pct_start=0.05)
    for _ in range(EPOCHS):
        for batch in torch.randperm(len(features), generator=generator).split(BATCH):
            rows = batch.to(features.device)
            loss = binary_cross_entropy_with_logits(member(features[rows]), labels[rows])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
    member.requires_grad_(False).eval()

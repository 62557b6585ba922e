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

    def __init__(self, dim: int, classes: int, rounds: int = 1) -> None:
        """``rounds``: how often the rows are dealt into folds anew, each with a member for every fold."""
        super().__init__()
        self.members = nn.ModuleList(
            nn.Sequential(InputLayer(dim, HIDDEN, DROPOUT), nn.Linear(HIDDEN, classes)) for _ in range(rounds * FOLDS)
        )
        self.requires_grad_(False)

    def forward(self, features: Tensor) -> Tensor:
        """The mean of the members: what an input gets that none of them learned from."""
        return torch.stack([member(features).sigmoid() for member in self.members]).mean(0)

    def fit(self, features: Tensor, labels: Tensor, seed: int, epochs: int = EPOCHS) -> Tensor:
        """Learn from (N, dim) features and (N, C) multi-hot labels -> (N, C) out-of-fold probabilities.

        Of several rounds a row gets the mean. A row without labels teaches nothing and is predicted all the same.
        """
        predicted = torch.zeros_like(labels)
        generator = torch.Generator().manual_seed(seed)
        rounds = len(self.members) // FOLDS
        for start in range(0, len(self.members), FOLDS):
            fold = (torch.randperm(len(labels), generator=generator) % FOLDS).to(labels.device)
            for number in range(FOLDS):
                member, own = self.members[start + number], fold == number
                rows = (~own & labels.any(1)).nonzero().squeeze(1)
                if len(rows) > 1:  # else nothing to learn from: this member predicts what it starts with
                    with torch.random.fork_rng(devices=[features.device] if features.is_cuda else []):
                        torch.manual_seed(seed * len(self.members) + start + number)  # for dropout
                        with torch.enable_grad():
                            _learn(member, features[rows], labels[rows], generator, epochs)
                with torch.no_grad():
                    predicted[own] += member(features[own]).sigmoid() / rounds
        return predicted


def _learn(member: nn.Module, features: Tensor, labels: Tensor, generator: torch.Generator, epochs: int) -> None:
    scaling = member.get_submodule("0.scaling")
    scaling.fit(features)  # type: ignore[operator]  # of an InputLayer
    member.requires_grad_(True).train()
    optimiser = torch.optim.AdamW(member.parameters(), lr=RATE, betas=(0.9, 0.98), weight_decay=0.02)
    steps = epochs * -(-len(features) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, total_steps=steps + 1, pct_start=0.05)
    for _ in range(epochs):
        for batch in torch.randperm(len(features), generator=generator).split(BATCH):
            rows = batch.to(features.device)
            loss = binary_cross_entropy_with_logits(member(features[rows]), labels[rows])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
    member.requires_grad_(False).eval()

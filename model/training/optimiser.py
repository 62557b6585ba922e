"""The optimisers of a run, with a rate of its own for each group of parameters.

``adamw``: torch's, the gradient clipped as a whole. ``bertadam``: what PromptHash and PGHMH train with (section 4 of
their released code): no bias correction, decoupled weight decay, each tensor's gradient clipped on its own, and a
cosine over all steps that the warm-up cuts into.
"""

import math
from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from model.methods.protocol import Network, Objective
from model.training.recipe import Optimiser

BERTADAM_EPS = 1e-6


class BertAdam(torch.optim.Optimizer):
    """m and v without bias correction; p -= rate (m / (sqrt(v) + eps) + decay p)."""

    def __init__(self, groups: Iterable[dict[str, object]], lr: float, betas: tuple[float, float]) -> None:
        super().__init__(groups, {"lr": lr, "betas": betas, "weight_decay": 0.0})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]  # no closure is used
        """Update every parameter that has a gradient."""
        for group in self.param_groups:
            beta1, beta2 = group["betas"]
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                if not state:
                    state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(parameter), torch.zeros_like(parameter)
                mean, square, rate = state["exp_avg"], state["exp_avg_sq"], group["lr"]
                mean.lerp_(parameter.grad, 1 - beta1)
                square.mul_(beta2).addcmul_(parameter.grad, parameter.grad, value=1 - beta2)
                # in place, in few passes: in small batches memory traffic here is a quarter of a step
                parameter.mul_(1 - rate * group["weight_decay"])
                parameter.addcdiv_(mean, square.sqrt().add_(BERTADAM_EPS), value=-rate)


def make_optimiser(recipe: Optimiser, network: Network, objective: Objective) -> torch.optim.Optimizer:
    """An optimiser over the network's groups and whatever the objective trains beside it."""
    groups = [group for part in (network, objective) for group in part.parameter_groups() if group.parameters]
    parts: list[dict[str, object]] = [
        {
            "params": list(group.parameters),
            "factor": group.rate,
            "stages": tuple(group.stages),
            "weight_decay": recipe.weight_decay if group.decays else 0.0,
        }
        for group in groups
    ]
    betas = (recipe.beta1, recipe.beta2)
    if recipe.algorithm == "bertadam":
        return BertAdam(parts, recipe.rate, betas)
    return torch.optim.AdamW(parts, lr=recipe.rate, betas=betas, fused=True)


def set_rate(optimiser: torch.optim.Optimizer, rate: float, stage: int = 0) -> None:
    """Give each group its share of the rate of this step."""
    for group in optimiser.param_groups:
        group["lr"] = rate * group["factor"] * (group["stages"][stage] if group["stages"] else 1.0)


def gradients(optimiser: torch.optim.Optimizer) -> list[Tensor]:
    """Those of the last backward pass, in the order of the groups."""
    return [p.grad for group in optimiser.param_groups for p in group["params"] if p.grad is not None]


def clip(recipe: Optimiser, optimiser: torch.optim.Optimizer) -> Tensor:
    """Clip the gradients to ``clip_norm``, as a whole or tensor by tensor -> the largest norm before, a scalar."""
    parameters = [p for group in optimiser.param_groups for p in group["params"] if p.grad is not None]
    if recipe.algorithm == "bertadam":
        return torch.stack([nn.utils.clip_grad_norm_(p, recipe.clip_norm) for p in parameters]).max()
    return nn.utils.clip_grad_norm_(parameters, recipe.clip_norm)


def learning_rate(optimiser: Optimiser, step: int, steps: int) -> float:
    """Rate of step 0..steps-1: linear warm-up to the peak, then half a cosine to zero."""
    if optimiser.algorithm == "bertadam":
        done = step / steps
        return optimiser.rate * (
            done / optimiser.warmup if done < optimiser.warmup else (1 + math.cos(math.pi * done)) / 2
        )
    warmup = max(1, round(optimiser.warmup * steps))
    if step < warmup:
        return optimiser.rate * (step + 1) / warmup
    return optimiser.rate * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup))) / 2

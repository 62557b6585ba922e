"""The training loop: seeded, checkpointed after every epoch, resumable after a kill, best epoch kept."""

import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from model.durable import replacing
from model.errors import RecipeError
from model.methods.protocol import Features, Network
from model.registry import method_module
from model.training.checkpoint import Progress, TrainingState
from model.training.recipe import Optimiser, Recipe
from model.training.validation import ValidationScore, validate


@dataclass(frozen=True, slots=True)
class EpochReport:
    """What one epoch did; a line of ``metrics.jsonl``."""

    epoch: int
    losses: Mapping[str, float]  # mean of each term over the epoch's steps
    rate: float  # learning rate of the last step
    seconds: float
    items_per_s: float  # training rows, validation not counted
    validation: ValidationScore | None

    @property
    def validation_map(self) -> float | None:
        """What selects the epoch; None where it was not validated."""
        return None if self.validation is None else self.validation.mean


@dataclass(frozen=True, slots=True)
class Trained:
    """A finished run: the network, of its best epoch where it has epochs, on the CPU, ready for an artifact."""

    network: Network
    best_epoch: int | None  # None where there were no epochs
    best_score: float | None  # lone validation mAP; None where nothing was validated
    seconds: float  # of learning from cached features, over all sittings of the run


def train(
    recipe: Recipe,
    run_dir: Path,
    train_rows: Features,
    validation_rows: Features,
    *,
    identity: Mapping[str, Any],
    device: torch.device,
    report: Callable[[EpochReport], None] = lambda report: None,
) -> Trained:
    """Train, or go on with the run in ``run_dir``: a killed run ends with the same weights as one that was not.

    ``identity`` (JSON values) tells the rows apart from those of another data set or backbone.

    Raises:
        RecipeError: ``run_dir`` holds a run of another recipe or identity.
    """
    claim_run(recipe, run_dir, identity)
    state = _new_state(recipe, train_rows.to(device), device)
    checkpoint = run_dir / "checkpoint" / "state.safetensors"
    if checkpoint.is_file():
        state.load(checkpoint)
    validation_rows, train_rows = validation_rows.to(device), train_rows.to(device)
    for epoch in range(state.progress.epoch + 1, recipe.optimiser.epochs + 1):
        started = time.perf_counter()
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(_epoch_seed(recipe, epoch))  # dropout draws from the default generator
            losses, rate = _run_epoch(recipe, state, epoch, len(train_rows))
        items_per_s = len(train_rows) / (time.perf_counter() - started)
        score = _validate(recipe, state, epoch, validation_rows, train_rows)
        seconds = time.perf_counter() - started
        state.progress.epoch, state.progress.seconds = epoch, state.progress.seconds + seconds
        state.save(checkpoint)
        outcome = EpochReport(epoch, losses, rate, seconds, items_per_s, score)
        _log(run_dir / "metrics.jsonl", outcome)
        report(outcome)
    state.network.load_state_dict(state.best)
    progress = state.progress
    return Trained(state.network.cpu().eval(), progress.best_epoch, progress.best_score, progress.seconds)


def claim_run(recipe: Recipe, run_dir: Path, identity: Mapping[str, Any]) -> None:
    """Write what a new run is of, or check that the run there is of the same.

    Raises:
        RecipeError: ``run_dir`` holds a run of another recipe or identity.
    """
    _claim(run_dir / "data.json", json.dumps(identity, indent=2, sort_keys=True) + "\n")
    _claim(run_dir / "recipe.toml", recipe.to_toml())


def learning_rate(optimiser: Optimiser, step: int, steps: int) -> float:
    """Rate of step 0..steps-1: linear warm-up to the peak, then half a cosine to zero."""
    warmup = max(1, round(optimiser.warmup * steps))
    if step < warmup:
        return optimiser.rate * (step + 1) / warmup
    return optimiser.rate * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup))) / 2


def _claim(path: Path, text: str) -> None:
    if not path.is_file():
        with replacing(path) as temporary:
            temporary.write_text(text, encoding="utf-8")
    elif path.read_text(encoding="utf-8") != text:
        raise RecipeError(
            f"{path} is of another run; give this one another --name, or remove {path.parent} to train anew"
        )


def _new_state(recipe: Recipe, rows: Features, device: torch.device) -> TrainingState:
    module = method_module(recipe.method)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        network = module.Network(recipe.config, rows.images.shape[1], rows.texts.shape[1]).to(device)
    objective = module.Objective(recipe.config, network.eval(), rows).to(device)
    objective.begin()  # in evaluation mode: dropout would draw from the ambient generator
    optimiser = torch.optim.AdamW(
        network.parameters(),
        lr=recipe.optimiser.rate,
        betas=(recipe.optimiser.beta1, recipe.optimiser.beta2),
        weight_decay=recipe.optimiser.weight_decay,
    )
    return TrainingState(network, objective, optimiser, Progress(), {})


def _run_epoch(recipe: Recipe, state: TrainingState, epoch: int, rows: int) -> tuple[dict[str, float], float]:
    generator = torch.Generator().manual_seed(_epoch_seed(recipe, epoch))
    order = torch.randperm(rows, generator=generator)
    batches = [batch for batch in order.split(recipe.optimiser.batch) if len(batch) > 1]  # InfoNCE needs two pairs
    steps = len(batches) * recipe.optimiser.epochs
    sums: dict[str, float] = {}
    rate = 0.0
    state.network.train()
    for index, batch in enumerate(batches):
        rate = learning_rate(recipe.optimiser, (epoch - 1) * len(batches) + index, steps)
        terms = _step(recipe, state, batch, rate, generator)
        for name, value in terms.items():
            sums[name] = sums.get(name, 0.0) + value.item()
    state.network.eval()
    return {name: value / len(batches) for name, value in sums.items()}, rate


def _step(
    recipe: Recipe, state: TrainingState, batch: Tensor, rate: float, generator: torch.Generator
) -> Mapping[str, Tensor]:
    for group in state.optimiser.param_groups:
        group["lr"] = rate
    terms: Mapping[str, Tensor] = state.objective.losses(batch, generator)
    state.optimiser.zero_grad()
    torch.stack(list(terms.values())).sum().backward()
    nn.utils.clip_grad_norm_(state.network.parameters(), recipe.optimiser.clip_norm)
    state.optimiser.step()
    return terms


def _validate(
    recipe: Recipe, state: TrainingState, epoch: int, validation_rows: Features, train_rows: Features
) -> ValidationScore | None:
    """Score the epoch where one is due, and keep the network if it is the best so far."""
    if epoch % recipe.selection.every and epoch != recipe.optimiser.epochs:
        return None
    score = validate(state.network, validation_rows, train_rows, recipe.selection.bits)
    if score.mean > state.progress.best_score:
        state.progress.best_epoch, state.progress.best_score = epoch, score.mean
        state.best.update({name: value.detach().clone() for name, value in state.network.state_dict().items()})
    return score


def _epoch_seed(recipe: Recipe, epoch: int) -> int:
    return recipe.seed * 1_000_003 + epoch


def _log(path: Path, report: EpochReport) -> None:
    validation = (
        None if report.validation is None else {"seen": report.validation.seen, "unseen": report.validation.unseen}
    )
    line = {
        "epoch": report.epoch,
        "losses": dict(report.losses),
        "rate": report.rate,
        "seconds": round(report.seconds, 3),
        "validation": validation,
    }
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line, sort_keys=True) + "\n")

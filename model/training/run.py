"""The training loop: seeded, checkpointed after every epoch, resumable after a kill, best epoch kept.

Several ranks go through it in step, and the first one writes. Each validates: their weights are the same.
"""

import dataclasses
import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from encoders.protocol import Backbone
from model import ranks
from model.durable import replacing
from model.errors import RecipeError, TrainingDiverged
from model.methods.protocol import Features, Network, Objective
from model.training.checkpoint import Progress, TrainingState
from model.training.methods import trained_module
from model.training.optimiser import clip, gradients, learning_rate, make_optimiser, set_rate
from model.training.recipe import Recipe
from model.training.threads import training_threads
from model.training.validation import ValidationScore, validate

LISTED = 20  # items in a message


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
    best_score: float | None  # validation mAP; None where nothing was validated
    seconds: float  # of learning from cached features, over all sittings of the run


@training_threads()
def train(
    recipe: Recipe,
    run_dir: Path,
    network: Network,
    train_rows: Features,
    validation_rows: Features,
    *,
    identity: Mapping[str, Any],
    device: torch.device,
    report: Callable[[EpochReport], None] = lambda report: None,
    advance: Callable[[float], None] = lambda epochs: None,
) -> Trained:
    """Train ``new_network``, or go on with the run in ``run_dir``: a killed run ends like one that was not.

    ``identity`` (JSON values) tells the rows apart from those of another data set or backbone. ``advance`` hears after
    every step how many epochs are done. Of several ranks (``model.ranks``) all call this, with the same arguments.

    Raises:
        RecipeError: ``run_dir`` holds a run of another recipe or identity, or each rank sees another ``run_dir``.
        TrainingDiverged: a term of the loss, or its gradient, is not finite.
    """
    _check_finite(train_rows)
    started = time.perf_counter()
    state = _new_state(recipe, network, train_rows.to(device), device)
    begun_s = time.perf_counter() - started
    stages = stages_of(state.objective, recipe.optimiser.epochs)
    claim_run(recipe, run_dir, identity)  # nothing is written of a run that cannot begin
    checkpoint = run_dir / "checkpoint" / "state.safetensors"
    if checkpoint.is_file():
        state.load(checkpoint)
    state.progress.seconds += begun_s  # some methods learn there: classifiers, anchors, a teacher's bank
    _agree(state, run_dir)
    if ranks.rank() == 0:
        _forget(run_dir / "metrics.jsonl", state.progress.epoch)
    validation_rows, train_rows = (state.network.prepared(rows.to(device)) for rows in (validation_rows, train_rows))
    for epoch in range(state.progress.epoch + 1, recipe.optimiser.epochs + 1):
        started = time.perf_counter()
        stage = next(one for one in stages if epoch <= one.last)
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(_epoch_seed(recipe, epoch))  # dropout draws from the default generator
            if stage.number and epoch == stage.first:
                state.objective.begin_stage(stage.number)
            losses, rate = _run_epoch(recipe, state, stage, epoch, train_rows, advance)
        items_per_s = len(train_rows) / (time.perf_counter() - started)
        score = _validate(recipe, state, epoch, validation_rows, train_rows) if stage is stages[-1] else None
        seconds = time.perf_counter() - started
        state.progress.epoch, state.progress.seconds = epoch, state.progress.seconds + seconds
        outcome = EpochReport(epoch, losses, rate, seconds, items_per_s, score)
        if ranks.rank() == 0:
            _log(run_dir / "metrics.jsonl", outcome)
            state.save(checkpoint)
        report(outcome)
    state.network.load_state_dict(state.best)
    progress = state.progress
    return Trained(state.network.cpu().eval(), progress.best_epoch, progress.best_score, progress.seconds)


def _agree(state: TrainingState, run_dir: Path) -> None:
    """All ranks start from the first one's state."""
    if ranks.differ(state.progress.epoch):
        raise RecipeError(
            f"expected the same checkpoint in {run_dir} for every process, found several; give all of them one "
            "CROSSBIT_HOME, on a folder that their machines share"
        )
    ranks.agree([*state.network.state_dict().values(), *state.objective.state_dict().values()])


def claim_run(recipe: Recipe, run_dir: Path, identity: Mapping[str, Any]) -> None:
    """Check that the run there is of the same recipe and identity; the first rank writes what a new run is of.

    Raises:
        RecipeError: ``run_dir`` holds a run of another recipe or identity.
    """
    _claim(run_dir / "data.json", json.dumps(identity, indent=2, sort_keys=True) + "\n")
    _claim(run_dir / "recipe.toml", recipe.to_toml())


def _claim(path: Path, text: str) -> None:
    if not path.is_file():
        if ranks.rank() == 0:
            with replacing(path) as temporary:
                temporary.write_text(text, encoding="utf-8")
    elif path.read_text(encoding="utf-8") != text:
        raise RecipeError(
            f"{path} is of another run; give this one another --name, or remove {path.parent} to train anew"
        )


def new_network(recipe: Recipe, backbone: Backbone, names: Sequence[str]) -> Network:
    """The network of a recipe before its first step, the same for the same seed; ``names`` are those of the classes.

    Raises:
        RecipeError: the backbone has not what the recipe asks for.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        try:
            network: Network = trained_module(recipe.method).Network.build(recipe.config, backbone, names)
        except ValueError as error:
            raise RecipeError(f"[config] does not fit the backbone {recipe.backbone}: {error}") from error
        return network


def _new_state(recipe: Recipe, network: Network, rows: Features, device: torch.device) -> TrainingState:
    network = network.to(device)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        objective: Objective = trained_module(recipe.method).Objective(recipe.config, network.eval(), rows).to(device)
        objective.begin()  # in evaluation mode, so that no dropout draws
    return TrainingState(network, objective, make_optimiser(recipe.optimiser, network, objective), Progress(), {})


@dataclass(frozen=True, slots=True)
class Stage:
    """Some epochs in a row, counted from 1, with a schedule of the rate of their own."""

    number: int  # from 0
    first: int
    last: int


def stages_of(objective: Objective, epochs: int) -> list[Stage]:
    """The stages of a run, in order; they hold all epochs."""
    found, first = [], 1
    for number, count in enumerate(objective.stages(epochs)):
        found.append(Stage(number, first, first + count - 1))
        first += count
    return found


def _run_epoch(
    recipe: Recipe, state: TrainingState, stage: Stage, epoch: int, rows: Features, advance: Callable[[float], None]
) -> tuple[dict[str, float], float]:
    generator = torch.Generator().manual_seed(_epoch_seed(recipe, epoch))
    order = torch.randperm(len(rows), generator=generator)
    batches = [batch for batch in order.split(recipe.optimiser.batch) if len(batch) > 1]  # InfoNCE needs two pairs
    steps = len(batches) * (stage.last - stage.first + 1)
    sums: dict[str, float] = {}
    rate = 0.0
    state.network.train()
    for index, batch in enumerate(batches):
        step = (epoch - 1) * len(batches) + index
        rate = learning_rate(recipe.optimiser, step - (stage.first - 1) * len(batches), steps)
        set_rate(state.optimiser, rate, stage.number)
        place = _Place(epoch, step, rows.ids)
        for name, value in _step(recipe, state, batch.to(rows.images.device), generator, place).items():
            sums[name] = sums.get(name, 0.0) + value
        advance(epoch - 1 + (index + 1) / len(batches))
    state.network.eval()
    return {name: value / len(batches) for name, value in sums.items()}, rate


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a step is, for the message of one that fails."""

    epoch: int
    step: int
    ids: Sequence[str]

    def failed(self, what: str, batch: Tensor) -> TrainingDiverged:
        items = ", ".join(self.ids[row] for row in batch.tolist()) if self.ids else f"rows {batch.tolist()}"
        return TrainingDiverged(
            f"step {self.step} (epoch {self.epoch}): expected a finite loss, found {what}; look at these items, or "
            f"lower optimiser.rate. The batch: {items}"
        )


def _step(
    recipe: Recipe, state: TrainingState, batch: Tensor, generator: torch.Generator, place: _Place
) -> dict[str, float]:
    terms: Mapping[str, Tensor] = state.objective.losses(batch, generator)
    values = {name: term.item() for name, term in terms.items()}
    for name, value in values.items():
        if not math.isfinite(value):
            raise place.failed(f"{name} = {value}", batch)
    state.optimiser.zero_grad()
    torch.stack(list(terms.values())).sum().backward()
    ranks.average(gradients(state.optimiser))
    norm = clip(recipe.optimiser, state.optimiser).item()
    if not math.isfinite(norm):
        raise place.failed(f"a gradient of norm {norm} of {' + '.join(values)}", batch)
    state.optimiser.step()
    return values


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


def _check_finite(rows: Features) -> None:
    """A feature that is no number would spoil the scaling and the banks, and with them every batch."""
    finite = rows.images.isfinite().all(1) & rows.texts.isfinite().all(1)
    if not finite.all():
        bad = (~finite).nonzero().squeeze(1).tolist()
        names = ", ".join(rows.ids[row] if rows.ids else f"row {row}" for row in bad[:LISTED])
        raise TrainingDiverged(
            f"expected finite features of every training item, found {len(bad)} without: {names}; remove var/cache, "
            "which may be damaged, or leave these items out"
        )


def _forget(path: Path, epochs: int) -> None:
    """Drop the lines of epochs that were logged but not checkpointed: they are run again."""
    if path.is_file():
        lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line.endswith("}")]
        kept = [line for line in lines if json.loads(line)["epoch"] <= epochs]
        with replacing(path) as temporary:
            temporary.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")


def _log(path: Path, report: EpochReport) -> None:
    validation = None if report.validation is None else dataclasses.asdict(report.validation)
    line = {
        "epoch": report.epoch,
        "losses": dict(report.losses),
        "rate": report.rate,
        "seconds": round(report.seconds, 3),
        "validation": validation,
        "world_size": ranks.size(),
    }
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line, sort_keys=True) + "\n")

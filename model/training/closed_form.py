"""Runs of methods that are solved instead of trained epoch by epoch: nothing to select, nothing to resume."""

import dataclasses
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from model.methods.protocol import Features, Fit
from model.training.recipe import Recipe
from model.training.run import Trained, claim_run
from model.training.threads import training_threads
from model.training.validation import validate


@training_threads()
def solve(
    fit: Fit,
    recipe: Recipe,
    run_dir: Path,
    train_rows: Features,
    validation_rows: Features,
    *,
    identity: Mapping[str, Any],
) -> Trained:
    """Solve the network from the training rows without their labels, and score it where there are validation rows.

    Raises:
        RecipeError: the rows cannot give what the recipe asks for, or ``run_dir`` holds another run.
    """
    claim_run(recipe, run_dir, identity)
    started = time.perf_counter()
    network = fit(recipe.config, dataclasses.replace(train_rows, labels=None), recipe.seed).eval()
    seconds = time.perf_counter() - started
    if not len(validation_rows):
        return Trained(network, None, None, seconds)
    score = validate(network, validation_rows, train_rows, validation_bits(recipe)).mean
    return Trained(network, None, score, seconds)


def validation_bits(recipe: Recipe) -> int:
    """The length that is validated: the recipe's, or the longest where a closed form does not serve that one."""
    return recipe.selection.bits if recipe.selection.bits in recipe.config.bits else max(recipe.config.bits)

"""Training for a comparison: every method from the same features, split, captions and epochs, each seed once."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from encoders.encode import VERSION
from model.errors import RecipeError
from model.items import ItemArchive
from model.manifest import MANIFEST, read_manifest
from model.registry import METHODS
from model.training.features import Progress
from model.training.pipeline import Folders, train_artifact
from model.training.recipe import DEFAULT_BACKBONE, Recipe, load_recipe, shipped_recipes
from model.training.run import EpochReport

FLOORS = ("random", "lsh", "itq")  # in every comparison


def competitors(*, tuned: bool = False) -> list[str]:
    """The shipped recipes that can be compared: of methods that are served, on the default backbone.

    Those that tune blocks of its towers take an hour where others take a minute, and only join if ``tuned``.
    """
    recipes = [load_recipe(name) for name in shipped_recipes()]
    return [
        recipe.name
        for recipe in recipes
        if recipe.method in METHODS
        and recipe.backbone == DEFAULT_BACKBONE
        and (tuned or not getattr(recipe.config, "tuned_blocks", 0))
    ]


def contest_recipe(method: str, seed: int, captions: str, epochs: int, bits: tuple[int, ...]) -> Recipe:
    """The shipped recipe of a method under the conditions that all methods share.

    Raises:
        RecipeError: no such recipe, or it does not serve one of the lengths.
    """
    recipe = load_recipe(method, [f"seed={seed}", f"captions={captions}", f"backbone={DEFAULT_BACKBONE}"])
    missing = [length for length in bits if length not in recipe.config.bits]
    if missing:
        raise RecipeError(f"{method}: expected codes of {missing[0]} bits, found lengths {list(recipe.config.bits)}")
    return recipe if recipe.closed_form else replace(recipe, optimiser=replace(recipe.optimiser, epochs=epochs))


def entry_name(recipe: Recipe, archive: ItemArchive) -> str:
    """Names a training by all that decides it, so that a finished one is found again and no other is taken for it."""
    info = archive.info
    decisive = json.dumps([info.name, info.revision, info.split_hash, recipe.to_toml(), VERSION])
    return f"{recipe.name[:32]}-seed-{recipe.seed}-{hashlib.sha256(decisive.encode()).hexdigest()[:12]}"


def train_entry(
    recipe: Recipe,
    archive: ItemArchive,
    folders: Folders,
    *,
    device: str,
    progress: Progress | None,
    report: Callable[[EpochReport], None],
    advance: Callable[[float], None],
) -> Path:
    """The artifact's folder, trained now, finished now, or finished before."""
    name = entry_name(recipe, archive)
    folder = folders.artifacts / name
    if (folder / MANIFEST).is_file():
        read_manifest(folder)
    else:
        train_artifact(recipe, archive, name, folders, device=device, progress=progress, report=report, advance=advance)
    return folder

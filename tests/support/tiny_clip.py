"""Trainings of a second or two: the 200-item fixture through a CLIP of two small layers with random weights."""

from pathlib import Path

from model.items import ItemArchive
from model.manifest import Manifest
from model.training.pipeline import Folders, train_artifact
from model.training.recipe import load_recipe

BACKBONE = "clip:crossbit-tiny:random"
SHARED = (
    f"backbone={BACKBONE}",
    "config.bits=[16, 64]",
    "config.auxiliary_bits=64",
    "config.hidden=32",
    "config.layers=1",
    "config.bank_rows=50",
    "optimiser.batch=50",
    "optimiser.epochs=2",
    "selection.bits=16",
    "selection.every=1",
)
SERVED = (*SHARED, "config.width=32", "config.fusion_hidden=32", "config.context=2")


def folders_in(home: Path) -> Folders:
    """Where a training reads and writes below ``home``."""
    return Folders(home / "runs", home / "artifacts", home / "cache")


def train_tiny(archive: ItemArchive, recipe: str, overrides: tuple[str, ...], name: str, folders: Folders) -> Manifest:
    """A small training of a shipped recipe."""
    return train_artifact(load_recipe(recipe, overrides), archive, name, folders, device="cpu")

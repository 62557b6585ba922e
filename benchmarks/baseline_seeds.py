"""Retrieval quality of a recipe over several seeds: ``python benchmarks/baseline_seeds.py [RECIPE] [--seeds N]``.

Trains each seed under ``var/`` (features are cached there), evaluates the artifact through its hasher on the test
queries, and prints lone tie-aware mAP@all at every length with mean and standard deviation over the seeds.
"""

import argparse
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from app.training_progress import watch_training
from model.artifact import load_hasher
from model.evaluation.codes import encode_codes
from model.evaluation.results import Result, evaluate_codes
from model.items import ItemArchive, find_archive
from model.training.pipeline import Folders, train_artifact
from model.training.recipe import load_recipe


def train_and_evaluate(recipe_name: str, seed: int, home: Path, data: str) -> list[Result]:
    """One seed: a result for each code length, ascending."""
    recipe = load_recipe(recipe_name, [f"seed={seed}"])
    archive = ItemArchive.open(find_archive(data, home / "data"))
    folders = Folders(home / "runs", home / "artifacts", home / "cache")
    name = f"{recipe.name}-seed-{seed}"
    with watch_training(recipe.optimiser.epochs) as watcher:
        manifest = train_artifact(
            recipe,
            archive,
            name,
            folders,
            progress=watcher.features,
            report=lambda one: watcher.epoch(one.epoch, one.losses, one.items_per_s, one.validation_map),
        )
    hashers = (load_hasher(folders.artifacts / name, bits, cache_dir=folders.cache) for bits in manifest.lengths)
    return [evaluate_codes(encode_codes(hasher, archive)) for hasher in hashers]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", nargs="?", default="baseline")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--home", type=Path, default=Path("var"))
    parser.add_argument("--data", default="openclipart")
    options = parser.parse_args()
    runs = [train_and_evaluate(options.recipe, seed, options.home, options.data) for seed in range(options.seeds)]
    table = Table("bits", "I2T whole", "T2I whole", "mean whole", "I2T unseen", "T2I unseen", "mean unseen")
    for results in zip(*runs, strict=True):
        columns = [
            [side[direction].map_all.expected for direction in ("image_to_text", "text_to_image")] + [mean]
            for result in results
            for side, mean in zip((result.whole, result.unseen), result.mean, strict=True)
        ]
        figures = np.array(columns).reshape(len(results), 6)  # (seeds, figures)
        cells = [f"{mean:.3f} ± {spread:.3f}" for mean, spread in zip(figures.mean(0), figures.std(0), strict=True)]
        table.add_row(str(results[0].bits), *cells)
    Console(width=120).print(
        f"{options.recipe} on {options.data}, {options.seeds} seeds, lone tie-aware mAP@all", table
    )


if __name__ == "__main__":
    main()

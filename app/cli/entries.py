"""What `crossbit compare` and `crossbit ablate` share: an entry is one training, found again or made now."""

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from app.show import note, progress

if TYPE_CHECKING:
    from app.settings import Settings
    from model.evaluation.compare import Outcome
    from model.items import ItemArchive
    from model.training.recipe import Recipe


def lone_outcomes(
    settings: "Settings", archive: "ItemArchive", recipe: "Recipe", lengths: tuple[int, ...]
) -> "list[Outcome]":
    """Lone codes of one training, measured at every length: stored ones where they are, measured ones otherwise."""
    from model.evaluation.codes import evaluated_items
    from model.evaluation.compare import measure, read_outcome
    from model.training.contest import entry_name

    name, folder = entry_name(recipe, archive), entries_folder(settings, archive) / "outcomes"
    paths = {length: folder / f"{name}-{length}.json" for length in lengths}
    found = {length: outcome for length, path in paths.items() if (outcome := read_outcome(path)) is not None}
    missing = [length for length in lengths if length not in found]
    if missing:
        artifact = trained_entry(settings, archive, recipe)
        total = sum(map(len, evaluated_items(archive, recipe.captions)))
        listed = ", ".join(map(str, missing))
        with progress(f"{recipe.name}, seed {recipe.seed}: codes of {listed} bits", total) as advance:
            measured = measure(
                artifact,
                archive,
                missing,
                recipe.seed,
                recipe.captions,
                device=settings.device,
                cache=settings.home / "cache",
                advance=advance,
            )
        for outcome in measured:
            outcome.write(paths[outcome.bits])
            found[outcome.bits] = outcome
    return [found[length] for length in lengths]


def trained_entry(settings: "Settings", archive: "ItemArchive", recipe: "Recipe") -> Path:
    """The folder of a finished training's artifact."""
    from app.training_progress import watch_training
    from model.training.contest import train_entry
    from model.training.pipeline import Folders

    folder = entries_folder(settings, archive)
    note(f"{recipe.name}, seed {recipe.seed}")
    with watch_training(0 if recipe.closed_form else recipe.optimiser.epochs) as watcher:
        return train_entry(
            recipe,
            archive,
            Folders(folder / "runs", folder / "artifacts", settings.home / "cache"),
            device=settings.device,
            progress=watcher.features,
            report=lambda one: watcher.epoch(one.epoch, one.losses, one.items_per_s, one.validation_map),
            advance=watcher.advance,
        )


def entries_folder(settings: "Settings", archive: "ItemArchive") -> Path:
    """Where the trainings and measurements on a data set are kept."""
    return settings.home / "runs" / "compare" / archive.info.name


def parse_lengths(text: str) -> tuple[int, ...]:
    """The code lengths of ``--bits``."""
    try:
        lengths = tuple(dict.fromkeys(int(part) for part in text.split(",")))
    except ValueError as error:
        raise typer.BadParameter(f"--bits: expected lengths such as 16,32,64, found {text!r}") from error
    if any(length < 8 or length % 8 for length in lengths):
        raise typer.BadParameter(f"--bits: expected positive multiples of 8, found {text!r}")
    return lengths

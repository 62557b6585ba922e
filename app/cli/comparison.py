"""`crossbit compare`: methods under the same conditions, side by side, into a leaderboard."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from app.cli.options import DATA_AND_MODELS, open_settings
from app.show import note, progress, show_table

if TYPE_CHECKING:
    from app.settings import Settings
    from model.evaluation.compare import Outcome
    from model.items import ItemArchive
    from model.training.recipe import Recipe

cli = typer.Typer()


@cli.command(rich_help_panel=DATA_AND_MODELS)
def compare(
    data_set: Annotated[str, typer.Option("--data", help="Name of the data set.")] = "openclipart",
    methods: Annotated[str, typer.Option(help="Shipped recipes, separated by commas; the floors always join.")] = "",
    every: Annotated[bool, typer.Option("--all", help="Every shipped recipe.")] = False,
    bits: Annotated[str, typer.Option(help="Code lengths, separated by commas.")] = "16,32,64",
    seeds: Annotated[int, typer.Option(min=1, max=100, help="Training seeds for each method: 0 to N - 1.")] = 3,
    epochs: Annotated[int, typer.Option(min=1, help="Of each method that is trained epoch by epoch.")] = 30,
    captions: Annotated[str | None, typer.Option(help="Caption variant; the headline one if left out.")] = None,
    out: Annotated[Path, typer.Option(help="Folder of the leaderboard, which keeps other methods' rows.")] = Path(
        "docs/results"
    ),
) -> None:
    """Train and evaluate methods on the same features, split and epochs; an interrupted comparison goes on."""
    from model.evaluation.leaderboard import CONTROL, FILE, merge, neighbours, read_rows, rows_of
    from model.evaluation.leaderboard_page import board_table, write_board
    from model.items import ItemArchive, find_archive
    from model.training.contest import FLOORS, contest_recipe
    from model.training.recipe import shipped_recipes

    lengths = _lengths(bits)
    settings = open_settings()
    archive = ItemArchive.open(find_archive(data_set, settings.data_dir))
    variant = captions or archive.info.captions[0]
    known = read_rows(out / FILE)  # before hours of training: a file that cannot be read is not overwritten
    chosen = [name.strip() for name in methods.split(",") if name.strip()]
    entered = list(dict.fromkeys([*FLOORS, *chosen, *(shipped_recipes() if every else [])]))
    recipes = [contest_recipe(name, seed, variant, epochs, lengths) for name in entered for seed in range(seeds)]
    outcomes = {CONTROL: _control(archive, variant, lengths, seeds)}
    for recipe in recipes:
        outcomes.setdefault(recipe.name, []).extend(_outcomes(settings, archive, recipe, lengths))
    new = [row for method, found in outcomes.items() for row in rows_of(data_set, variant, method, found)]
    rows = merge(known, new)
    p_values = neighbours([row for row in rows if (row.data, row.captions) == (data_set, variant)], outcomes)
    write_board(out, rows, {(data_set, variant, *pair): p for pair, p in p_values.items()})
    show_table(*board_table(new))
    note(f"{out / 'leaderboard.html'} shows these rows and those of other comparisons")


def _outcomes(
    settings: "Settings", archive: "ItemArchive", recipe: "Recipe", lengths: tuple[int, ...]
) -> "list[Outcome]":
    """Of one training at every length: stored ones where they are, measured ones otherwise."""
    from model.evaluation.codes import evaluated_items
    from model.evaluation.compare import measure, read_outcome
    from model.training.contest import entry_name

    name = entry_name(recipe, archive)
    found = []
    for length in lengths:
        path = _folder(settings, archive) / "outcomes" / f"{name}-{length}.json"
        outcome = read_outcome(path)
        if outcome is None:
            artifact = _train(settings, archive, recipe)
            total = sum(map(len, evaluated_items(archive, recipe.captions)))
            with progress(f"{recipe.name}, seed {recipe.seed}: codes of {length} bits", total) as advance:
                outcome = measure(
                    artifact,
                    archive,
                    length,
                    recipe.seed,
                    recipe.captions,
                    device=settings.device,
                    cache=settings.home / "cache",
                    advance=advance,
                )
            outcome.write(path)
        found.append(outcome)
    return found


def _train(settings: "Settings", archive: "ItemArchive", recipe: "Recipe") -> Path:
    from app.training_progress import watch_training
    from model.training.contest import train_entry
    from model.training.pipeline import Folders

    folder = _folder(settings, archive)
    note(f"{recipe.name}, seed {recipe.seed}")
    with watch_training(0 if recipe.closed_form else recipe.optimiser.epochs) as watcher:
        return train_entry(
            recipe,
            archive,
            Folders(folder / "runs", folder / "artifacts", settings.home / "cache"),
            device=settings.device,
            progress=watcher.features,
            report=lambda one: watcher.epoch(one.epoch, one.losses, one.items_per_s, one.validation_map),
        )


def _control(archive: "ItemArchive", captions: str, lengths: tuple[int, ...], seeds: int) -> "list[Outcome]":
    from model.evaluation.compare import measure_label_only

    with progress("label-only", len(lengths) * seeds) as advance:
        found = []
        for length in lengths:
            for seed in range(seeds):
                found.append(measure_label_only(archive, length, seed, captions))
                advance(1)
    return found


def _folder(settings: "Settings", archive: "ItemArchive") -> Path:
    return settings.home / "runs" / "compare" / archive.info.name


def _lengths(text: str) -> tuple[int, ...]:
    try:
        lengths = tuple(dict.fromkeys(int(part) for part in text.split(",")))
    except ValueError as error:
        raise typer.BadParameter(f"--bits: expected lengths such as 16,32,64, found {text!r}") from error
    if any(length < 8 or length % 8 for length in lengths):
        raise typer.BadParameter(f"--bits: expected positive multiples of 8, found {text!r}")
    return lengths

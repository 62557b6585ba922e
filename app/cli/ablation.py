"""`crossbit ablate`: the ablation of a method, as served and as released, side by side."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from app.cli.entries import parse_lengths, trained_entry
from app.cli.options import DATA_AND_MODELS, open_settings
from app.show import note, progress, show_table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from app.settings import Settings
    from model.evaluation.ablation import Cell, Mode
    from model.items import ItemArchive
    from model.training.recipe import Recipe

cli = typer.Typer()


@cli.command(rich_help_panel=DATA_AND_MODELS)
def ablate(
    method: Annotated[str, typer.Argument(help="A method with an ablation: prompthash, pghmh, soda, crossbit.")],
    data_set: Annotated[
        str, typer.Option("--data", "--dataset", help="Name of the data set; it needs labels.")
    ] = "openclipart",
    seeds: Annotated[int, typer.Option(min=1, max=100, help="Training seeds of each row: 0 to N - 1.")] = 3,
    bits: Annotated[str, typer.Option(help="Code lengths, separated by commas.")] = "16,32,64",
    epochs: Annotated[int, typer.Option(min=1, help="Of every training; the last one is kept.")] = 30,
    rows: Annotated[str, typer.Option(help="Rows, separated by commas; all if left out.")] = "",
    overrides: Annotated[
        list[str] | None, typer.Option("--set", help="key=value of the recipes of both builds; repeatable.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder of the tables and the picture.")] = Path("docs/results"),
) -> None:
    """Train every row of a method's ablation, without labels and as published; an interrupted ablation goes on."""
    from model.evaluation.ablation import merged, read_cells
    from model.evaluation.ablation_page import ablation_table, modes_table, write_ablation
    from model.items import ItemArchive, find_archive
    from model.training.ablation import ablation_of

    ablation, lengths = ablation_of(method), parse_lengths(bits)
    chosen = [name.strip() for name in rows.split(",") if name.strip()] or list(ablation.rows)
    if unknown := [name for name in chosen if name not in ablation.rows]:
        raise typer.BadParameter(f"--rows: expected some of {', '.join(ablation.rows)}, found {unknown[0]!r}")
    settings = open_settings()
    archive = ItemArchive.open(find_archive(data_set, settings.data_dir))
    # validated once, at the end: half of the time would go into epochs that nothing selects
    shared = [f"captions={archive.info.captions[0]}", f"optimiser.epochs={epochs}", f"selection.every={epochs}"]
    shared += overrides or []
    known = out / f"ablation-{method}.json"
    cells = read_cells(known)  # before hours of training: a file that cannot be read is not overwritten
    caption = ablation.caption.format(data=data_set)
    for row in chosen:
        for seed in range(seeds):
            for mode, recipe in ablation.recipes(row, [f"seed={seed}", *shared]):
                cell = _cell(settings, archive, row, mode, recipe, lengths, cells)
                if cell not in cells:
                    cells = merged(cells, cell, list(ablation.rows))
                    write_ablation(out, method, caption, cells)
    page = write_ablation(out, method, caption, cells)
    for database in ("whole", "unseen"):
        note(f"{database} database:")
        show_table(*ablation_table(cells, database))
    show_table(*modes_table(cells))
    note(f"{page} holds these tables, with a picture and the JSON beside it")


def _cell(
    settings: "Settings",
    archive: "ItemArchive",
    row: str,
    mode: "Mode",
    recipe: "Recipe",
    lengths: tuple[int, ...],
    known: "Sequence[Cell]",
) -> "Cell":
    """The known measurement, or one of a training that is found, finished or made now."""
    from model.evaluation.ablation import Mode, Places, measure_published, measure_served
    from model.evaluation.codes import evaluated_items
    from model.training.contest import entry_name

    name = entry_name(recipe, archive)
    for cell in known:
        if (cell.entry, cell.row, cell.mode) == (name, row, mode) and {one.bits for one in cell.figures} == {*lengths}:
            return cell
    artifact = trained_entry(settings, archive, recipe)
    rounds = 1 if mode is Mode.SERVED else len(lengths)
    total = rounds * sum(map(len, evaluated_items(archive, recipe.captions)))
    with progress(f"{row}, seed {recipe.seed}: {mode} codes", total) as advance:
        places = Places(settings.device, settings.home / "cache")
        if mode is Mode.SERVED:
            return measure_served(row, artifact, archive, lengths, places, advance)
        return measure_published(row, mode, artifact, archive, lengths, places, advance)

"""`crossbit compare`: methods under the same conditions, side by side, into a leaderboard."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from app.cli.entries import lone_outcomes, parse_lengths
from app.cli.options import DATA_AND_MODELS, open_settings
from app.show import note, progress, show_table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from app.settings import Settings
    from model.evaluation.compare import Outcome
    from model.items import ItemArchive
    from model.training.recipe import Recipe

cli = typer.Typer()


@cli.command(rich_help_panel=DATA_AND_MODELS)
def compare(
    data_sets: Annotated[
        str,
        typer.Option("--data", help="Name of the data set; or several splits of one, separated by commas, to pool."),
    ] = "openclipart",
    methods: Annotated[str, typer.Option(help="Shipped recipes, separated by commas; the floors always join.")] = "",
    every: Annotated[
        bool, typer.Option("--all", help="Every shipped recipe that learns from cached features.")
    ] = False,
    bits: Annotated[str, typer.Option(help="Code lengths, separated by commas.")] = "16,32,64",
    seeds: Annotated[int, typer.Option(min=1, max=100, help="Training seeds for each method: 0 to N - 1.")] = 3,
    against: Annotated[
        str | None,
        typer.Option(help="Method that the others are compared with, and which joins; baseline if left out."),
    ] = None,
    epochs: Annotated[int, typer.Option(min=1, help="Of each method that is trained epoch by epoch.")] = 30,
    captions: Annotated[str | None, typer.Option(help="Caption variant; the headline one if left out.")] = None,
    out: Annotated[Path, typer.Option(help="Folder of the leaderboard, which keeps other methods' rows.")] = Path(
        "docs/results"
    ),
) -> None:
    """Train and evaluate methods on the same features, split and epochs; an interrupted comparison goes on.

    Rows of more seeds than this comparison has are kept.
    """
    from model.evaluation.difference import DIFFERENCES, REFERENCE, Difference, differences_of
    from model.evaluation.leaderboard import FILE, Row, counted, merge, neighbours, read_rows, rows_of
    from model.evaluation.leaderboard_page import board_table, difference_table, write_board
    from model.training.contest import FLOORS, competitors, contest_recipe
    from model.training.trials import trials_of

    lengths = parse_lengths(bits)
    settings = open_settings()
    archives = _archives(settings, data_sets)
    variant = captions or archives[0].info.captions[0]
    known = read_rows(out / FILE, Row)  # before hours of training: a file that cannot be read is not overwritten
    known_differences = read_rows(out / DIFFERENCES, Difference)
    chosen = [name.strip() for name in methods.split(",") if name.strip()] + (competitors() if every else [])
    entered = dict.fromkeys([*FLOORS, *chosen])
    recipes = [contest_recipe(name, seed, variant, epochs, lengths) for name in entered for seed in range(seeds)]
    reference = against or (REFERENCE if chosen else None)  # the floors alone are compared with nothing
    if reference is not None and reference not in {recipe.name for recipe in recipes}:
        name = _shipped(reference)
        recipes += [contest_recipe(name, seed, variant, epochs, lengths) for seed in range(seeds)]
    new: list[Row] = []
    differences: list[Difference] = []
    p_values: dict[tuple[str, str, str, str], float] = {}
    for name, outcomes in _outcomes(settings, archives, recipes, lengths, seeds).items():
        own = [row for method, found in outcomes.items() for row in rows_of(name, variant, method, found)]
        new += own
        beside = [row for row in merge(known, own) if (row.data, row.captions) == (name, variant)]
        p_values |= {(name, variant, *pair): p for pair, p in neighbours(beside, outcomes).items()}
        differences += differences_of(name, variant, reference, outcomes) if reference else []
    rows = [counted(row, trials_of) for row in merge(known, new)]
    write_board(out, rows, p_values, merge(known_differences, differences))
    shown = new[-1].data  # of several splits, what they are together
    show_table(*board_table([row for row in new if row.data == shown]))
    if differences:
        show_table(*difference_table([one for one in differences if one.data == shown]))
    note(f"{out / 'leaderboard.html'} shows these rows and those of other comparisons")


def _archives(settings: "Settings", names: str) -> "list[ItemArchive]":
    from model.items import ItemArchive, find_archive

    wanted = dict.fromkeys(name.strip() for name in names.split(",") if name.strip())
    archives = [ItemArchive.open(find_archive(name, settings.data_dir)) for name in wanted]
    if not archives:
        raise typer.BadParameter(f"--data: expected a data set, found {names!r}")
    if len({(archive.info.revision, archive.info.class_names, len(archive.items)) for archive in archives}) > 1:
        raise typer.BadParameter(f"--data: expected splits of one data set to pool, found different ones in {names!r}")
    return archives


def _outcomes(
    settings: "Settings",
    archives: "Sequence[ItemArchive]",
    recipes: "Sequence[Recipe]",
    lengths: tuple[int, ...],
    seeds: int,
) -> "dict[str, dict[str, list[Outcome]]]":
    """By data set, and last for several together: method -> its outcomes at every length and seed."""
    from model.evaluation.codes import evaluated_items
    from model.evaluation.leaderboard import CONTROL
    from model.evaluation.pooling import POOLED, pool

    captions = recipes[0].captions
    found: dict[str, dict[str, list[Outcome]]] = {}
    for archive in archives:
        mine = found[archive.info.name] = {CONTROL: _control(archive, captions, lengths, seeds)}
        for recipe in recipes:
            mine.setdefault(recipe.name, []).extend(lone_outcomes(settings, archive, recipe, lengths))
    if len(archives) > 1:
        ids = [[item.id for item in evaluated_items(archive, captions)[0]] for archive in archives]
        splits = list(found.values())
        found[POOLED.join(found)] = {method: pool(ids, [split[method] for split in splits]) for method in splits[0]}
    return found


def _shipped(reference: str) -> str:
    from model.training.contest import competitors

    known = competitors(tuned=True)
    if reference not in known:
        raise typer.BadParameter(
            f"--against: expected one of --methods or a shipped recipe ({', '.join(known)}), found {reference!r}"
        )
    return reference


def _control(archive: "ItemArchive", captions: str, lengths: tuple[int, ...], seeds: int) -> "list[Outcome]":
    from model.evaluation.compare import measure_label_only

    with progress("label-only", len(lengths) * seeds) as advance:
        found = []
        for length in lengths:
            for seed in range(seeds):
                found.append(measure_label_only(archive, length, seed, captions))
                advance(1)
    return found

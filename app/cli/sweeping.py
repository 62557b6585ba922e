"""`crossbit sweep`: a recipe's hyper-parameters, tried on the validation queries."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from app.cli.options import DATA_AND_MODELS, open_settings
from app.show import note, progress, show_table

if TYPE_CHECKING:
    from model.training.sweep import Setting

SHOWN = 10
cli = typer.Typer()


@cli.command(rich_help_panel=DATA_AND_MODELS)
def sweep(
    recipe: Annotated[str, typer.Argument(help="A shipped recipe, such as dhaph, or a .toml file.")],
    data_set: Annotated[str, typer.Option("--data", help="Name of the data set; it needs labels.")] = "openclipart",
    trials: Annotated[int, typer.Option(min=1, max=10_000, help="Settings; the first is the recipe itself.")] = 100,
    bits: Annotated[int, typer.Option(min=8, max=1024, help="Code length of the trials.")] = 32,
    epochs: Annotated[int, typer.Option(min=1, help="Of a setting's first trial; finalists get the recipe's.")] = 10,
    finalists: Annotated[
        int, typer.Option(min=0, max=1000, help="Best settings that are tried in full, beside the recipe itself.")
    ] = 5,
    seeds: Annotated[int, typer.Option(min=1, max=100, help="Seeds of each finalist: 0 to N - 1.")] = 3,
    space: Annotated[Path | None, typer.Option(help="TOML file of a space; that of the method if left out.")] = None,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", help="key=value of the recipe in every trial; repeatable.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder of the trials' JSON file.")] = Path("docs/results/trials"),
) -> None:
    """Try settings of a recipe and rank them by validation mAP, test queries unread; an interrupted sweep goes on."""
    from model.items import ItemArchive, find_archive
    from model.training.pipeline import prepare
    from model.training.recipe import load_recipe
    from model.training.sweep import Sweep, TrialLog, ranking, read_space, settings_of, write_trials

    home = open_settings()
    parsed = load_recipe(recipe, overrides or [])
    settings = list(settings_of(read_space(parsed, space), trials))
    archive = ItemArchive.open(find_archive(data_set, home.data_dir))
    note(f"{parsed.name} on {archive.info.name}: reading features")
    ready = prepare(parsed, archive, home.home / "cache", device=home.device)
    log = TrialLog(home.home / "runs" / "sweep" / f"{archive.info.name}-{parsed.name}.jsonl")
    trying = Sweep(parsed, bits, archive, ready, log)
    done = []
    with progress(f"{parsed.name}: settings, {epochs} epochs each", trials) as advance:
        for values in settings:
            done.append(trying.trial(values, 0, epochs))
            advance(1)
    others = [setting.values for setting in ranking(done) if setting.values]
    best = [settings[0], *others[:finalists]]
    with progress(f"{parsed.name}: finalists, {parsed.optimiser.epochs} epochs each", len(best) * seeds) as advance:
        for values in best:
            for seed in range(seeds):
                done.append(trying.trial(values, seed, parsed.optimiser.epochs))
                advance(1)
    ranked = ranking(done)
    path = out / f"{archive.info.name}-{parsed.name}.json"
    write_trials(path, ranked)
    columns = ["rank", "validation mAP", "seeds", "seen", "unseen", "values"]
    show_table(columns, [_row(rank, setting) for rank, setting in enumerate(ranked[:SHOWN], start=1)])
    note(f"{path} holds all {len(ranked)} settings")


def _row(rank: int, setting: "Setting") -> list[object]:
    values = " ".join(f"{key}={value}" for key, value in setting.values.items()) or "the recipe itself"
    figures = [f"{figure:.4f}" for figure in (setting.score, setting.seen, setting.unseen)]
    return [rank, figures[0], len(setting.trials), *figures[1:], values]

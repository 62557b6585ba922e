"""`crossbit evaluate`."""

from typing import Annotated

import typer

from app.cli.options import DATA_AND_MODELS, AsJson, open_settings
from app.show import progress, show_json, show_table

cli = typer.Typer()


@cli.command(rich_help_panel=DATA_AND_MODELS)
def evaluate(
    artifact: Annotated[str, typer.Argument(help="Name of the artifact.")],
    data_set: Annotated[
        str | None, typer.Option("--data", help="Name of the data set; the one it was trained on if left out.")
    ] = None,
    bits: Annotated[list[int] | None, typer.Option(help="Code length; repeatable; 64 if left out.")] = None,
    captions: Annotated[str | None, typer.Option(help="Caption variant; the headline one if left out.")] = None,
    as_json: AsJson = False,
) -> None:
    """Measure retrieval: lone tie-aware mAP@all of the test queries, for the whole and for the unseen database."""
    from model.artifact import load_hasher
    from model.evaluation.lone import as_json as results_as_json
    from model.evaluation.lone import as_table, evaluate_lone, evaluated_items
    from model.items import ItemArchive, find_archive
    from model.manifest import read_manifest

    settings = open_settings()
    folder = settings.artifacts_dir / artifact
    archive = ItemArchive.open(find_archive(data_set or read_manifest(folder).data["name"], settings.data_dir))
    evaluated = sum(map(len, evaluated_items(archive, captions or archive.info.captions[0])))
    results = []
    for length in bits or [64]:
        hasher = load_hasher(folder, length, settings.device, settings.home / "cache")
        with progress(f"codes of {length} bits", evaluated) as advance:
            results.append(evaluate_lone(hasher, archive, captions=captions, advance=advance))
    if as_json:
        show_json(results_as_json(results))
    else:
        show_table(*as_table(results))

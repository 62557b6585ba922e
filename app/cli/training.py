"""`crossbit train` and `crossbit models`."""

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from app.cli.options import DATA_AND_MODELS, AsJson, open_settings
from app.show import note, note_skipped, show_entries, show_entry, show_json

cli = typer.Typer()


@cli.command(rich_help_panel=DATA_AND_MODELS)
def train(
    recipe: Annotated[str, typer.Argument(help="A shipped recipe, such as baseline or itq, or a .toml file.")],
    data_set: Annotated[str, typer.Option("--data", help="Name of the data set.")] = "openclipart",
    name: Annotated[
        str | None, typer.Option(help="Name of the artifact and its run; the recipe's if left out.")
    ] = None,
    overrides: Annotated[list[str] | None, typer.Option("--set", help="key=value of the recipe; repeatable.")] = None,
    weights: Annotated[
        Path | None,
        typer.Option(help="File with the weights of the recipe's CLIP backbone: .safetensors, .pt or .bin."),
    ] = None,
    accept_licence: Annotated[
        bool, typer.Option("--accept-licence", help="Accept that the weights' licence forbids commercial use.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Train a model and write its artifact; an interrupted run goes on where it was.

    On several processes: torchrun --nproc-per-node N --no-python crossbit train RECIPE.
    """
    from app.training_progress import Silent, watch_training
    from model import ranks
    from model.items import ItemArchive, find_archive
    from model.licences import require_licence, with_file
    from model.training.choice import choose_items
    from model.training.pipeline import Folders, train_artifact
    from model.training.recipe import load_recipe

    settings = open_settings()
    parsed = load_recipe(recipe, overrides or [])
    if weights is not None:
        parsed = replace(parsed, backbone=with_file(parsed.backbone, weights))
    if not accept_licence:
        require_licence(parsed.backbone, settings.accept_licences)
    archive = ItemArchive.open(find_archive(data_set, settings.data_dir))
    choice = choose_items(parsed, archive)
    folders = Folders(settings.home / "runs", settings.home / "artifacts", settings.home / "cache")
    epochs = 0 if parsed.closed_form else parsed.optimiser.epochs
    with ranks.joined(settings.device) as device:
        first = ranks.rank() == 0  # the others say nothing but errors
        if first and not archive.info.class_names and not parsed.closed_form:
            note(f"{data_set} has no labels: {len(choice.train):,} image-text pairs alone teach the model")
        with watch_training(epochs) if first else nullcontext(Silent()) as watcher:
            manifest = train_artifact(
                parsed,
                archive,
                name or parsed.name,
                folders,
                device=device,
                progress=watcher.features,
                report=lambda one: watcher.epoch(one.epoch, one.losses, one.items_per_s, one.validation_map),
                advance=watcher.advance,
                skip=note_skipped if first else lambda skipped: None,
            )
    if not first:
        return
    facts = {key: manifest.training[key] for key in ("best_epoch", "supervision", "validation_map")}
    trained = {"artifact": manifest.name, "bits": ", ".join(map(str, manifest.lengths)), **facts}
    show_entry({key: value for key, value in trained.items() if value is not None}, as_json=as_json)


@cli.command(rich_help_panel=DATA_AND_MODELS)
def models(as_json: AsJson = False) -> None:
    """List the artifacts, and the backbones to train on with the licences of their weights."""
    settings = open_settings()
    from model.licences import list_presets
    from model.manifest import list_artifacts, read_manifest

    directory = settings.artifacts_dir
    manifests = [read_manifest(directory / name) for name in list_artifacts(directory)]
    entries = [
        {
            "name": manifest.name,
            "method": manifest.method,
            "backbone": manifest.backbone,
            "bits": ", ".join(map(str, manifest.lengths)),
            "data": manifest.data.get("name", ""),
            "licences": ", ".join(sorted(set(manifest.licences.values()))),
        }
        for manifest in manifests
    ]
    if as_json:
        show_json({"models": entries, "backbones": list_presets()})
        return
    show_entries("models", entries, as_json=False)
    show_entries("backbones", list_presets(), as_json=False)

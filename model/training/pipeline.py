"""From a recipe and a data archive to an artifact: what ``crossbit train`` does."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from encoders.encode import FeatureEncoder
from encoders.prefix import PrefixCache
from encoders.protocol import Backbone
from encoders.registry import load_backbone
from model import ranks
from model.artifact import save_artifact
from model.errors import ArchiveError, RecipeError
from model.items import ItemArchive
from model.manifest import Manifest, read_manifest
from model.methods.protocol import Features, Network
from model.names import check_name
from model.skipped import Skipped
from model.training.card import write_card
from model.training.choice import Choice, choose_items
from model.training.closed_form import solve, validation_bits
from model.training.features import Inside, Progress, ReadFeatures, fill_cache, read_features
from model.training.methods import trained_module
from model.training.recipe import Recipe
from model.training.run import EpochReport, Trained, new_network, train
from model.training.threads import train_threads


@dataclass(frozen=True, slots=True)
class Folders:
    """Where a training reads and writes."""

    runs: Path
    artifacts: Path
    cache: Path  # of features


def train_artifact(
    recipe: Recipe,
    archive: ItemArchive,
    name: str,
    folders: Folders,
    *,
    device: str = "auto",
    workers: int = 2,
    progress: Progress | None = None,
    report: Callable[[EpochReport], None] = lambda report: None,
    advance: Callable[[float], None] = lambda epochs: None,
    skip: Callable[[Sequence[Skipped]], None] = lambda skipped: None,
) -> Manifest:
    """Train ``name``, or finish its interrupted run, and write its artifact.

    Items without an image or without a text are left out; without labels the pairs alone teach. ``skip`` hears which
    items have an image that cannot be read. Of several ranks (``model.ranks``) all call this, and the first one writes.

    Raises:
        ArchiveError: there is too little to train on; the message says what is missing.
        RecipeError: the caption variant does not exist, ``name`` is no name, a run of another recipe or data set, or
            the ranks cannot share the batch.
    """
    check_name("artifact", name, RecipeError)
    _check_batch(recipe)
    ready = prepare(recipe, archive, folders.cache, device=device, workers=workers, progress=progress)
    skip(ready.skipped)
    data = _data(archive, ready)
    run_dir, identity = folders.runs / name, {"data": data, "encoder": ready.fingerprint}
    if ready.network is None:
        fit = trained_module(recipe.method).fit
        trained = solve(fit, recipe, run_dir, ready.train, ready.validation, identity=identity)
    else:
        trained = train(
            recipe,
            run_dir,
            ready.network,
            ready.train,
            ready.validation,
            identity=identity,
            device=ready.backbone.device,
            report=report,
            advance=advance,
        )
    folder = folders.artifacts / name
    if ranks.rank() == 0:
        manifest = _manifest(name, recipe, archive, ready.backbone, data, trained)
        save_artifact(folder, manifest, trained.network, ready.fingerprint, write_card)
    ranks.wait()
    return read_manifest(folder)


@dataclass(frozen=True, slots=True)
class Prepared:
    """What a training starts from: the rows that teach and those that select, and a network before its first step."""

    captions: str
    backbone: Backbone
    fingerprint: str  # of the encoder that read the features
    network: Network | None  # None of a method that is solved in closed form
    train: Features
    validation: Features
    skipped: Sequence[Skipped]


def prepare(
    recipe: Recipe,
    archive: ItemArchive,
    cache: Path,
    *,
    device: str = "auto",
    workers: int = 2,
    progress: Progress | None = None,
) -> Prepared:
    """Read the features of a recipe's rows, from the cache where they are there.

    Raises:
        ArchiveError: there is too little to train on.
        RecipeError: the caption variant does not exist, or the backbone has not what the recipe asks for.
    """
    choice = choose_items(recipe, archive)
    backbone = load_backbone(recipe.backbone, device)
    network = None if recipe.closed_form else new_network(recipe, backbone, archive.info.class_names)
    items = [*choice.train, *choice.validation]
    if ranks.size() > 1:
        fill_cache(
            archive,
            items,
            FeatureEncoder(backbone, cache),
            captions=choice.captions,
            inside=_inside(network, backbone, cache),
            workers=workers,
            progress=progress,
        )
    encoder = FeatureEncoder(backbone, cache)
    read = read_features(
        archive,
        items,
        encoder,
        captions=choice.captions,
        inside=_inside(network, backbone, cache),
        workers=workers,
        progress=progress,
    )
    train_rows, validation_rows = _parts(read, choice, archive.info.name)
    return Prepared(choice.captions, backbone, encoder.fingerprint, network, train_rows, validation_rows, read.skipped)


def _manifest(
    name: str, recipe: Recipe, archive: ItemArchive, backbone: Backbone, data: Mapping[str, Any], trained: Trained
) -> Manifest:
    """All but the fingerprints."""
    return Manifest(
        name=name,
        method=recipe.method,
        config=dataclasses.asdict(recipe.config),
        backbone=recipe.backbone,
        image_dim=backbone.image_dim,
        text_dim=backbone.text_dim,
        fingerprints={},
        licences=dict(backbone.licences),
        data=data,
        training={
            "recipe": recipe.to_toml(),
            "supervision": _supervision(recipe, archive),
            "best_epoch": trained.best_epoch,
            "validation_bits": validation_bits(recipe),
            "validation_map": trained.best_score,
            "validation_directions": [f"{query}_to_{target}" for query, target in trained.network.selects],
            "device": backbone.device.type,
            "threads": train_threads(),
            "seconds": round(trained.seconds, 3),
        },
    )


def _data(archive: ItemArchive, ready: Prepared) -> dict[str, Any]:
    """What a manifest says of the data."""
    return {
        "name": archive.info.name,
        "revision": archive.info.revision,
        "licence": archive.info.licence,
        "split_hash": archive.info.split_hash,
        "captions": ready.captions,
        "class_names": list(archive.info.class_names),
        "train": len(ready.train),
        "validation": len(ready.validation),
    }


def _check_batch(recipe: Recipe) -> None:
    batch, count = recipe.optimiser.batch, ranks.size()
    if not recipe.closed_form and batch % count:
        raise RecipeError(
            f"optimiser.batch: expected a multiple of {count}, the number of processes, found {batch}, the items of "
            "one step over all of them; set another batch, or start another number"
        )


def _inside(network: Network | None, backbone: Backbone, cache: Path) -> Inside | None:
    """What a network reads inside the towers; None where it takes their features."""
    if network is None or (network.image_tail is None and network.text_tail is None):
        return None
    prefix = PrefixCache(backbone, cache, image_tail=network.image_tail or 0, text_tail=network.text_tail or 0)
    return Inside(prefix, network.image_tail is not None, network.image_views)


def _parts(read: ReadFeatures, choice: Choice, name: str) -> tuple[Features, Features]:
    """Features of training and validation."""
    train = int(read.kept[: len(choice.train)].sum())
    rows = read.features.part(slice(0, train)), read.features.part(slice(train, None))
    if train < 2 or (choice.validation and not len(rows[1])):
        raise ArchiveError(
            f"{name}: expected images that can be read in training and validation, found {train} and {len(rows[1])}; "
            f"the first that cannot, {read.skipped[0].id}: {read.skipped[0].reason}"
        )
    return rows


def _supervision(recipe: Recipe, archive: ItemArchive) -> str:
    if recipe.closed_form:
        return "none: neither labels nor which image belongs to which text"
    return "labels of the training items" if archive.info.class_names else "image-text pairs alone, no labels"

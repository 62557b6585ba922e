"""From a recipe and a data archive to an artifact: what ``crossbit train`` does."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from encoders.encode import FeatureEncoder
from encoders.registry import load_backbone
from model.artifact import save_artifact
from model.errors import ArchiveError, RecipeError
from model.items import ItemArchive
from model.manifest import Manifest
from model.methods.protocol import Features
from model.training.card import write_card
from model.training.features import Progress, read_features
from model.training.recipe import Recipe
from model.training.run import EpochReport, train


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
) -> Manifest:
    """Train ``name``, or finish its interrupted run, and write its artifact. Without labels it trains on pairs alone.

    Raises:
        ArchiveError: the data set has no train and validation split, or an item lacks its image or text.
        RecipeError: the caption variant does not exist, or ``name`` is a run of another recipe or data set.
    """
    captions = recipe.captions or archive.info.captions[0]
    if captions not in archive.info.captions:
        raise RecipeError(f"captions: expected one of {', '.join(archive.info.captions)}, found {captions!r}")
    backbone = load_backbone(recipe.backbone, device)
    encoder = FeatureEncoder(backbone, folders.cache)
    train_rows, validation_rows = _rows(archive, encoder, captions, workers, progress)
    data = {
        "name": archive.info.name,
        "revision": archive.info.revision,
        "licence": archive.info.licence,
        "split_hash": archive.info.split_hash,
        "captions": captions,
        "class_names": list(archive.info.class_names),
        "train": len(train_rows),
        "validation": len(validation_rows),
    }
    trained = train(
        recipe,
        folders.runs / name,
        train_rows,
        validation_rows,
        identity={"data": data, "encoder": encoder.fingerprint},
        device=backbone.device,
        report=report,
    )
    manifest = Manifest(
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
            "best_epoch": trained.best_epoch,
            "validation_map": trained.best_score,
            "device": backbone.device.type,
        },
    )
    return save_artifact(folders.artifacts / name, manifest, trained.network, write_card)


def _rows(
    archive: ItemArchive, encoder: FeatureEncoder, captions: str, workers: int, progress: Progress | None
) -> tuple[Features, Features]:
    train_items, validation_items = archive.select(("train",)), archive.select(("validation",))
    if len(train_items) < 2 or not validation_items:
        raise ArchiveError(
            f"{archive.info.name}: expected a train and a validation split, found {len(train_items)} and "
            f"{len(validation_items)} items; build the data set with a split"
        )
    items = [*train_items, *validation_items]
    rows = read_features(archive, items, encoder, captions=captions, workers=workers, progress=progress)
    return rows.part(slice(0, len(train_items))), rows.part(slice(len(train_items), None))

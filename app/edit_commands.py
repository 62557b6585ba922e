"""What `crossbit index append`, `delete` and `compact` do."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from app.building import SHARD_ITEMS, Builder, Texts
from app.jobs import Skipped
from app.lookup import find_artifact, find_index
from app.rebuild_steps import LoadHasher
from app.settings import Settings
from app.show import note_skipped, progress
from index.compaction import compact as merge
from index.editing import NewItem, editing
from index.errors import ModelMismatch
from index.item_file import JSON
from index.snapshot import Snapshot
from index.writer import IndexedItem
from model.items import Item, ItemArchive


def append(settings: Settings, name: str, archive: ItemArchive, load_hasher: LoadHasher) -> dict[str, Any]:  # Any: JSON
    """Add the items of an archive, encoded by the model that built the index; ids that it has are replaced."""
    index_dir = find_index(settings, name)
    with Snapshot.open(index_dir, engine="numpy", verify=False) as snapshot:
        manifest = snapshot.manifest
    artifact = find_artifact(settings, manifest.artifact)
    hasher = load_hasher(settings.artifacts_dir / artifact, manifest.bits, settings.device)
    if hasher.fingerprint != manifest.fingerprint:
        raise ModelMismatch(manifest.fingerprint, hasher.fingerprint)
    builder = Builder(archive, hasher, texts=Texts(manifest.texts))
    with progress("appending", len(archive.items)) as advance:
        position, skipped = append_items(index_dir, builder, archive.items, advance)
    note_skipped(skipped)
    return {"index": name, "appended": len(archive.items) - len(skipped), "skipped": len(skipped), "position": position}


def append_items(
    index_dir: Path, builder: Builder, items: Sequence[Item], progress: Callable[[int], None]
) -> tuple[int, list[Skipped]]:
    """Encode and append in shards, each durable before the next; returns the log's position and what was left out."""
    skipped: list[Skipped] = []
    position = 0
    for start in range(0, len(items), SHARD_ITEMS):
        some = tuple(items[start : start + SHARD_ITEMS])
        shard = builder.encode(some, progress=progress)
        skipped += shard.skipped
        by_id = {item.id: item for item in some}
        new = [_new(indexed, by_id[indexed.id], builder.archive) for indexed in shard.items]
        with editing(index_dir) as editor:
            position = editor.append(new, fingerprint=builder.hasher.fingerprint)
    return position, skipped


def delete(settings: Settings, name: str, ids: Sequence[str]) -> dict[str, Any]:  # Any: JSON
    """Delete items by their ids: all of them, or none where one is not there."""
    with editing(find_index(settings, name)) as editor:
        position = editor.delete(ids)
    return {"index": name, "deleted": len(set(ids)), "position": position}


def compact(settings: Settings, name: str) -> dict[str, Any]:  # Any: JSON
    """Merge what was appended and deleted into a new generation."""
    index_dir = find_index(settings, name)
    with Snapshot.open(index_dir, engine="numpy", verify=False) as snapshot:
        edits, total, generation = snapshot.edits, snapshot.item_count, snapshot.generation
    with progress("merging", total) as advance:
        manifest = merge(index_dir, keep=settings.keep_generations, progress=advance)
    merged = {"index": name, "generation": generation, "items": total, "merged": 0}
    return (
        merged
        if manifest is None
        else merged | {"generation": manifest.generation, "items": manifest.items, "merged": edits}
    )


def _new(indexed: IndexedItem, item: Item, archive: ItemArchive) -> NewItem:
    document: dict[str, JSON] = {
        "texts": {variant: list(texts) for variant, texts in item.texts.items()},
        "labels": list(item.labels),
        "metadata": item.metadata,
    }
    return NewItem(indexed, None if item.image is None else archive.read_image(item), document)

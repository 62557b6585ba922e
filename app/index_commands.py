"""What `crossbit index …` does."""

from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from app.building import check_skipped
from app.disk_space import check_room
from app.jobs import Skipped
from app.lookup import find_artifact, find_index
from app.rebuild_steps import LoadHasher, RebuildSteps, Request
from app.settings import Settings
from app.show import note, note_skipped, progress
from index.generations import IndexDirectory, list_indexes
from index.manifest import ITEMS, PAIR, GenerationManifest, codes_file
from index.snapshot import Snapshot, verify_index


def build(settings: Settings, request: Request, load_hasher: LoadHasher) -> GenerationManifest:
    """Build a generation and make it the one that serves; nothing is left behind when that fails."""
    find_artifact(settings, request.artifact)
    check_room(request, settings)
    settings.jobs_dir.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix="build-", dir=settings.jobs_dir) as work_dir:
        steps = RebuildSteps(request, Path(work_dir), settings, load_hasher)
        try:
            generation = _run(steps, settings.max_bad_share)
        except BaseException:
            steps.discard()
            raise
        finally:
            steps.close()
    return IndexDirectory(settings.indexes_dir / request.index).manifest(generation)


def _run(steps: RebuildSteps, max_bad_share: float) -> int:
    plan = steps.plan()
    skipped: list[Skipped] = []
    with progress("encoding", plan.total) as advance:
        for number in range(plan.shards):
            skipped += steps.encode_shard(plan, number, progress=advance).skipped
            check_skipped(skipped, plan.total, max_share=max_bad_share)
    note_skipped(skipped)
    if steps.left_out:
        note(f"{steps.left_out:,} query and validation items are kept out for evaluation; --split all takes them in")
    note("writing and checking the generation")
    steps.write(plan)
    steps.verify(plan, items=plan.total - len(skipped))
    steps.catch_up(plan, progress=lambda _: None)
    steps.swap(plan)
    steps.prune()
    return plan.generation


def verify(settings: Settings, name: str | None, generation: int | None) -> dict[str, Any]:  # Any: JSON
    """Read a whole generation and say what was checked."""
    return asdict(verify_index(find_index(settings, name), generation))


def rollback(settings: Settings, name: str, generation: int | None) -> dict[str, Any]:  # Any: JSON
    """Make an earlier generation the one that serves."""
    directory = IndexDirectory(find_index(settings, name))
    return {"index": directory.name, **asdict(directory.rollback(generation))}


def show(settings: Settings, name: str | None) -> dict[str, Any]:  # Any: JSON
    """The generation that serves, how good its codes are, and the generations there are."""
    path = find_index(settings, name)
    with Snapshot.open(path, engine="numpy", verify=False) as snapshot:
        manifest = asdict(snapshot.manifest)
        codes = {column: asdict(snapshot.diagnostics(column)) for column in snapshot.manifest.columns}
        if PAIR in codes:
            codes[PAIR]["presence"] = asdict(snapshot.presence_counts())
        edits = {
            "items": snapshot.item_count,
            "position": snapshot.position,
            "edits": snapshot.edits,
            "not_encoded": len(snapshot.pending),
        }
        sizes = {"bytes_per_item": bytes_per_item(snapshot)}
    for key in ("files", "columns", "format", "log_position", "thumbnail_bytes"):
        del manifest[key]
    manifest["fields"] = {field: str(kind) for field, kind in manifest["fields"].items()}
    return manifest | edits | sizes | {"codes": codes, "generations": IndexDirectory(path).generations()}


def bytes_per_item(snapshot: Snapshot) -> dict[str, float]:
    """Bytes on disk for an item of the generation: its codes, what finds an item by its code, metadata, thumbnail."""
    manifest, thumbnails = snapshot.manifest, snapshot.thumbnail_bytes()
    sizes = {name: entry.size_bytes for name, entry in manifest.files.items()}
    codes = sum(sizes[codes_file(modality)] for modality in manifest.columns)
    metadata = sizes[ITEMS] - thumbnails
    parts = {"codes": codes, "lookup": sum(sizes.values()) - sizes[ITEMS] - codes}
    parts |= {"metadata": metadata, "thumbnails": thumbnails}
    return {name: round(size / max(1, manifest.items), 1) for name, size in parts.items()}


def overview(settings: Settings) -> list[dict[str, Any]]:  # Any: JSON
    """One entry an index."""
    entries = [show(settings, name) for name in list_indexes(settings.indexes_dir)]
    kept = ("index", "generation", "items", "bits", "artifact", "source", "created")
    return [{key: entry[key] for key in kept} for entry in entries]

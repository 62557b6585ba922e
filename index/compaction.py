"""Merging the edits of the log into a new generation; who reads or writes meanwhile is not held up."""

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

from index.edit_log import EditLog
from index.errors import IndexMoved, ItemsNotEncoded
from index.generations import IndexDirectory
from index.lock import writing
from index.manifest import GenerationManifest
from index.originals import Originals
from index.snapshot import Snapshot
from index.staging import IndexedItem
from index.writer import GenerationSpec, write_generation


def compact(
    index_dir: Path, *, keep: int = 2, progress: Callable[[int], None] = lambda count: None
) -> GenerationManifest | None:
    """Write the items of an index as a new generation and make it the one that serves; none if there is no edit.

    Edits made meanwhile come on top of the new generation as they did of the old one. Afterwards the log keeps the
    last record of each item ever appended or deleted, and ``items`` what those name, so that any other generation
    that is activated later has the same edits. The newest ``keep`` generations stay. ``progress`` hears of every item
    written.

    Raises:
        ItemsNotEncoded: some items have no codes of the generation's model.
        InvalidItem: the generation is of format 2 and does not say what its pair codes were made from.
        IndexMoved: another generation was activated meanwhile; nothing changed.
        IndexNotFound, IndexCorrupt, IndexFormatUnsupported: the index does not open.
        OSError: the disk is full or fails; the index is as it was, or merged.
    """
    directory = IndexDirectory(index_dir)
    with _state_to_merge(index_dir) as snapshot:
        if snapshot.position == snapshot.manifest.log_position:
            return None
        old = snapshot.generation
        with closing(snapshot.all_items()) as items:
            manifest = write_generation(index_dir, _spec(snapshot), _counted(items, progress))
    with writing(index_dir):
        current = directory.current()
        if current is None or current.generation != old:
            directory.discard(manifest.generation)
            raise IndexMoved(
                f"expected generation {old} of index {directory.name!r} to serve until it was merged, found another "
                "one; compact again"
            )
        directory.point_to(manifest.generation)
        log = EditLog(index_dir)
        log.condense()
        Originals(index_dir).collect(log.blobs())
        directory.prune(keep=keep)
    return manifest


def _state_to_merge(index_dir: Path) -> Snapshot:
    """The index as it is, behind which a new segment of the log starts if there is anything to merge."""
    with writing(index_dir):
        snapshot = Snapshot.open(index_dir, engine="numpy", verify=False)
        try:
            if snapshot.pending:
                raise ItemsNotEncoded(
                    f"expected codes of the index's model for every item, found {len(snapshot.pending):,} without, "
                    f"such as {snapshot.pending[0].id!r:.200}; rebuild the index, or append them again"
                )
            if snapshot.position > snapshot.manifest.log_position:
                EditLog(index_dir).rotate(snapshot.end)
        except BaseException:
            snapshot.close()
            raise
        return snapshot


def _spec(snapshot: Snapshot) -> GenerationSpec:
    manifest = snapshot.manifest
    return GenerationSpec(
        index=snapshot.index,
        bits=manifest.bits,
        artifact=manifest.artifact,
        fingerprint=manifest.fingerprint,
        device_kind=manifest.device_kind,
        source=manifest.source,
        texts=manifest.texts,
        columns=tuple(manifest.columns),
        log_position=snapshot.position,
    )


def _counted(items: Iterator[IndexedItem], progress: Callable[[int], None]) -> Iterator[IndexedItem]:
    for item in items:
        yield item
        progress(1)

"""What `crossbit index export` and `import` do: a generation to or from Milvus or a file, compared by checksum."""

import heapq
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing
from itertools import groupby
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np

from app.engines import Engines
from app.lookup import find_index
from app.settings import Settings
from app.show import progress
from index.errors import IndexCorrupt, InvalidItem, ItemNotFound
from index.generations import IndexDirectory, check_index_name
from index.manifest import PAIR, GenerationManifest
from index.presence import Presence
from index.snapshot import Snapshot
from index.transfer import checksum, checksums, pack, receive, unpack
from index.writer import GenerationSpec, IndexedItem

if TYPE_CHECKING:
    from index.milvus.contents import Description
    from index.milvus.server import MilvusServer

MILVUS = "milvus"


def export(settings: Settings, name: str, to: str) -> dict[str, Any]:  # Any: JSON
    """Copy the generation that serves to Milvus or into a file, and compare what is read back.

    Raises:
        InvalidItem: edits wait to be merged.
        IndexCorrupt: the copy is another.
    """
    index_dir = find_index(settings, name)
    with Snapshot.open(index_dir, engine="numpy") as snapshot:
        _check_merged(snapshot)
        expected = checksums(snapshot.written)
        if to == MILVUS:
            found = _to_milvus(Engines(settings).milvus, snapshot, index_dir)
        else:
            found = _to_file(snapshot, Path(to))
        if found != expected:
            raise IndexCorrupt(f"{to}: expected (id, code) of checksums {expected}, read back {found}; export again")
        told = {"index": snapshot.index, "generation": snapshot.generation, "items": snapshot.item_count}
    return told | {"bits": snapshot.bits, "to": to, "checksums": found}


def import_index(settings: Settings, name: str, source: str) -> dict[str, Any]:  # Any: JSON
    """A new generation of an index from Milvus or a file, made the one that serves.

    Raises:
        ModelMismatch, InvalidItem: the index is there with another model or code length.
        IndexCorrupt: the source is damaged, or what was written is not what it holds.
        IndexNotFound: Milvus does not hold the index.
    """
    index_dir = settings.indexes_dir / check_index_name(name)
    if source == MILVUS:
        manifest = _from_milvus(Engines(settings).milvus, index_dir)
    else:
        manifest = _from_file(Path(source), index_dir)
    told = {"index": name, "generation": manifest.generation, "items": manifest.items, "bits": manifest.bits}
    return told | {"from": source}


def _check_merged(snapshot: Snapshot) -> None:
    if snapshot.edits:
        raise InvalidItem(
            f"expected index {snapshot.index!r} without edits since its generation was written, found "
            f"{snapshot.edits:,}; run `crossbit index compact {snapshot.index}` first"
        )


def _to_milvus(server: "MilvusServer", snapshot: Snapshot, index_dir: Path) -> dict[str, str]:
    generation = snapshot.written
    for modality, column in generation.columns.items():
        with progress(f"sending {modality}", len(column.codes)) as advance:
            server.publish(generation, modality, advance)
    server.activate(generation, IndexDirectory(index_dir).generations())
    return {modality: _read_back(server, snapshot.index, modality) for modality in generation.columns}


def _read_back(server: "MilvusServer", index: str, modality: str) -> str:
    with progress(f"comparing {modality}", server.current(index)[modality].count) as advance:
        return checksum(server.read(index, modality, advance))


def _to_file(snapshot: Snapshot, target: Path) -> dict[str, str]:
    pack(snapshot.written, target)
    with (
        TemporaryDirectory(prefix="crossbit-export-", dir=target.absolute().parent) as folder,
        unpack(target, Path(folder)) as copy,
    ):
        return checksums(copy.written)


def _from_file(source: Path, index_dir: Path) -> GenerationManifest:
    with (
        TemporaryDirectory(prefix="crossbit-import-") as folder,
        unpack(source, Path(folder)) as copy,
        closing(copy.all_items()) as items,
        progress("importing", copy.item_count) as advance,
    ):
        spec = _spec(index_dir, copy.manifest, tuple(copy.manifest.columns))
        return receive(index_dir, spec, _counted(items, advance), checksums(copy.written))


def _from_milvus(server: "MilvusServer", index_dir: Path) -> GenerationManifest:
    columns = server.current(index_dir.name)
    first = next(iter(columns.values()))
    for other in columns.values():
        if (other.fingerprint, other.generation) != (first.fingerprint, first.generation):
            raise IndexCorrupt(
                f"the columns of index {index_dir.name!r} in Milvus are of several generations; export again"
            )
    with ExitStack() as stack:
        known = None
        if IndexDirectory(index_dir).current() is not None:
            known = stack.enter_context(Snapshot.open(index_dir, engine="numpy", verify=False))
        advance = stack.enter_context(progress("importing", sum(column.count for column in columns.values())))
        items = _items(server, index_dir.name, columns, known, advance)
        expected = {modality: column.checksum for modality, column in columns.items()}
        return receive(index_dir, _spec(index_dir, first, tuple(columns)), items, expected)


def _items(
    server: "MilvusServer",
    index: str,
    columns: Mapping[str, "Description"],
    known: Snapshot | None,
    advance: Callable[[int], None],
) -> Iterator[IndexedItem]:
    """The items of Milvus, with text, metadata and thumbnail of the index's own where it has them."""

    def stream(modality: str) -> Iterator[tuple[str, str, bytes]]:
        return ((item_id, modality, code) for item_id, code in server.read(index, modality, advance))

    merged = heapq.merge(*map(stream, sorted(columns)), key=lambda entry: entry[:2])
    for item_id, entries in groupby(merged, key=lambda entry: entry[0]):
        packed: dict[str, bytes] = {}
        for _, modality, code in entries:
            packed[modality] = packed.get(modality, b"") + code
        codes = {
            modality: np.frombuffer(joined, dtype=np.uint8).reshape(-1, columns[modality].bits // 8)
            for modality, joined in packed.items()
        }
        yield _item(item_id, codes, known)


def _item(item_id: str, codes: dict[str, Any], known: Snapshot | None) -> IndexedItem:  # Any: arrays
    try:
        stored = None if known is None else known.item(item_id)
    except ItemNotFound:
        stored = None
    if known is None or stored is None:
        if PAIR in codes:
            raise InvalidItem(
                f"item {item_id!r:.200}: Milvus does not say what a pair code was made from, and the index here does "
                "not have the item; import it from a file"
            )
        return IndexedItem(item_id, "", None, {}, None, codes)
    thumbnail = known.thumbnail(item_id) if stored.has_thumbnail else None
    presence = stored.presence if PAIR in codes else Presence.NONE
    return IndexedItem(item_id, stored.content_hash, stored.text, stored.metadata, thumbnail, codes, presence)


def _spec(index_dir: Path, made: "GenerationManifest | Description", columns: tuple[str, ...]) -> GenerationSpec:
    return GenerationSpec(
        index=index_dir.name,
        bits=made.bits,
        artifact=made.artifact,
        fingerprint=made.fingerprint,
        device_kind=made.device_kind,
        source=made.source,
        texts=made.texts,
        columns=columns,
    )


def _counted(items: Iterator[IndexedItem], advance: Callable[[int], None]) -> Iterator[IndexedItem]:
    for item in items:
        yield item
        advance(1)

"""Moving a generation: to and from a file, and from any source of items; copies are compared by a checksum."""

import hashlib
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TypeAlias

from index.durable import LEFTOVER, publish, sync
from index.errors import IndexCorrupt, InvalidItem, ModelMismatch
from index.generation import Generation
from index.generations import IndexDirectory
from index.manifest import MANIFEST, GenerationManifest
from index.snapshot import Snapshot
from index.staging import IndexedItem
from index.writer import GenerationSpec, write_generation

IdAndCode: TypeAlias = tuple[str, bytes]


def ids_and_codes(generation: Generation, modality: str) -> Iterator[IdAndCode]:
    """Every code of a column with the id of its item, in id order; an item's codes keep their order."""
    column = generation.columns[modality]
    ids = generation.items.ids()
    row, item_id = -1, ""
    for owner, code in zip(column.rows.tolist(), column.codes, strict=True):
        while row < owner:
            row, item_id = next(ids)
        yield item_id, code.tobytes()


def checksum(pairs: Iterable[IdAndCode]) -> str:
    """SHA-256 (hex) over the pairs in the order given: length of the id in UTF-8 as 4 bytes (little), id, code."""
    digest = hashlib.sha256()
    for item_id, code in pairs:
        encoded = item_id.encode()
        digest.update(len(encoded).to_bytes(4, "little") + encoded + code)
    return digest.hexdigest()


def checksums(generation: Generation) -> dict[str, str]:
    """The checksum of every column, by modality."""
    return {modality: checksum(ids_and_codes(generation, modality)) for modality in generation.columns}


def pack(generation: Generation, target: Path) -> None:
    """Write the files of a generation into one file, a tar archive, which appears when it is whole.

    Raises:
        OSError: the disk is full or fails.
    """
    unfinished = target.with_name(target.name + LEFTOVER)
    with tarfile.open(unfinished, "w") as archive:
        for name in (MANIFEST, *sorted(generation.manifest.files)):
            archive.add(generation.path / name, arcname=name)
    sync(unfinished)
    publish(unfinished, target)


def unpack(source: Path, folder: Path) -> Snapshot:
    """Open the generation in a file that ``pack`` wrote, taken out into an empty folder, every checksum compared.

    Raises:
        IndexCorrupt, IndexFormatUnsupported: it is not such a file, is damaged, or of a newer version.
    """
    directory, unpacked = IndexDirectory(folder / "unpacked"), folder / "files"
    try:
        with tarfile.open(source, "r:") as archive:
            archive.extractall(unpacked, filter="data")
    except (OSError, tarfile.TarError) as error:
        raise IndexCorrupt(f"{source} is not a file that `crossbit index export` wrote: {error}") from error
    number = GenerationManifest.load(unpacked / MANIFEST).generation
    directory.path.mkdir()
    unpacked.rename(directory.generation_path(number))
    return Snapshot.open(directory.path, number, engine="numpy", edits=False)


def receive(
    index_dir: Path, spec: GenerationSpec, items: Iterable[IndexedItem], expected: Mapping[str, str]
) -> GenerationManifest:
    """Write items as a new generation, compare the checksums of its columns, and make it the one that serves.

    What was ever appended to the index here, or deleted from it, stays so, as after a rollback.

    Raises:
        ModelMismatch, InvalidItem: the index is there with another model or code length.
        IndexCorrupt: what was written is not what was expected.
    """
    directory = IndexDirectory(index_dir)
    if directory.current() is not None:
        _check_same(directory.current_manifest(), spec)
    manifest = write_generation(index_dir, spec, items)
    with Snapshot.open(index_dir, manifest.generation, engine="numpy", verify=False, edits=False) as snapshot:
        found = checksums(snapshot.written)
    if found != dict(expected):
        directory.discard(manifest.generation)
        raise IndexCorrupt(f"expected (id, code) of checksums {dict(expected)}, found {found}; export it again")
    directory.activate(manifest.generation)
    return manifest


def _check_same(manifest: GenerationManifest, spec: GenerationSpec) -> None:
    if spec.bits != manifest.bits:
        raise InvalidItem(f"expected codes of {manifest.bits} bits as index {spec.index!r} has, found {spec.bits}")
    if spec.fingerprint != manifest.fingerprint:
        raise ModelMismatch(manifest.fingerprint, spec.fingerprint)

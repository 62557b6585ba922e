"""Writing one generation: into an unfinished directory, verified, then renamed. The CURRENT pointer is not touched."""

import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from index.codes import check_bits
from index.durable import sync
from index.errors import GenerationExists, InvalidItem
from index.files import describe, map_codes
from index.generation import Generation
from index.generations import IndexDirectory
from index.manifest import (
    FORMAT,
    ITEMS,
    MANIFEST,
    MODALITIES,
    PAIR,
    PRESENCE,
    ColumnManifest,
    GenerationManifest,
    codes_file,
    rows_file,
    structures_file,
)
from index.search import prepared
from index.search.distinct import group
from index.staging import IndexedItem, Staging

__all__ = ["GenerationSpec", "IndexedItem", "write_generation"]

CHUNK = 65_536  # codes unpacked at a time


@dataclass(frozen=True, slots=True)
class GenerationSpec:
    """What a new generation says about itself, beyond its items."""

    index: str
    bits: int
    artifact: str
    fingerprint: str
    device_kind: str
    source: str
    texts: str  # "first" or "all"
    number: int | None = None  # one that ``IndexDirectory.reserve`` gave; a resumed job overwrites its own leftovers
    columns: tuple[str, ...] = ()  # modalities to have even if no item has a code of them
    log_position: int = 0  # of the last edit that the items hold; 0: none, all that were ever made come on top


def write_generation(
    index_dir: Path, spec: GenerationSpec, items: Iterable[IndexedItem], *, verify: bool = True
) -> GenerationManifest:
    """Write items, in any order, as a new generation; ``verify`` reads it back before it gets its name.

    If anything fails, or the process dies, no generation of that number appears.

    Raises:
        InvalidItem: an item cannot be written.
        GenerationExists: the number is taken.
        IndexCorrupt: what was read back is not what was written.
        OSError: the disk is full or fails.
    """
    directory = IndexDirectory(index_dir)
    _check_spec(directory, spec)
    number = directory.reserve() if spec.number is None else spec.number
    with _unfinished(directory, number) as path:
        manifest = _write_files(path, spec, number, items)
        if verify:
            generation = Generation(path, manifest, engine="numpy", verify=True)
            try:
                generation.verify()
            finally:
                generation.release()
        directory.publish(number)
    return manifest


def _check_spec(directory: IndexDirectory, spec: GenerationSpec) -> None:
    check_bits(spec.bits)
    if spec.index != directory.name:
        raise InvalidItem(f"expected a generation of index {directory.name!r}, found one of {spec.index!r}")
    unknown = sorted(set(spec.columns) - set(MODALITIES))
    if unknown:
        raise InvalidItem(f"expected columns among {', '.join(MODALITIES)}, found {', '.join(unknown)}")
    if spec.number is not None and directory.generation_path(spec.number).exists():
        raise GenerationExists(f"index {spec.index!r} has a generation {spec.number} already; reserve a new number")


@contextmanager
def _unfinished(directory: IndexDirectory, number: int) -> Iterator[Path]:
    """An empty directory for the generation's files, removed if the block fails."""
    path = directory.fresh(number)
    try:
        yield path
    except BaseException:
        shutil.rmtree(path, ignore_errors=True)
        raise


def _write_files(path: Path, spec: GenerationSpec, number: int, items: Iterable[IndexedItem]) -> GenerationManifest:
    with Staging(path / ITEMS, spec.bits) as staging:
        for item in items:
            staging.add(item)
        fields = staging.lay_out()
        names = sorted(staging.modalities | set(spec.columns))
        columns = {name: _write_column(path, name, spec.bits, staging) for name in names}
        count, thumbnail_bytes = staging.items, staging.thumbnail_bytes
    files = sorted(path.iterdir())
    for file in files:
        sync(file)
    manifest = GenerationManifest(
        format=FORMAT,
        index=spec.index,
        generation=number,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        bits=spec.bits,
        artifact=spec.artifact,
        fingerprint=spec.fingerprint,
        device_kind=spec.device_kind,
        source=spec.source,
        texts=spec.texts,
        items=count,
        columns=columns,
        fields=fields,
        files={file.name: describe(file) for file in files},
        thumbnail_bytes=thumbnail_bytes,
        log_position=spec.log_position,
    )
    manifest.save(path / MANIFEST)
    return manifest


def _write_column(path: Path, modality: str, bits: int, staging: Staging) -> ColumnManifest:
    count = items = max_per_item = 0
    presence = bytearray()
    with (path / codes_file(modality)).open("wb") as codes, (path / rows_file(modality)).open("wb") as rows:
        for row, blob, kind in staging.codes(modality):
            n = len(blob) * 8 // bits
            codes.write(blob)
            rows.write(row.to_bytes(8, "little") * n)
            presence += bytes((kind,)) * n
            count, items, max_per_item = count + n, items + 1, max(max_per_item, n)
    if modality == PAIR:
        (path / PRESENCE).write_bytes(presence)
    written = map_codes(path / codes_file(modality), count, bits)
    distinct, largest = _sort(path / structures_file(modality), written)
    ones = np.zeros(bits, dtype=np.int64)
    for start in range(0, count, CHUNK):
        chunk = np.unpackbits(written[start : start + CHUNK], axis=1, bitorder="little")
        ones += chunk.sum(axis=0, dtype=np.int64)
    return ColumnManifest(
        modality=modality,
        count=count,
        items=items,
        max_per_item=max_per_item,
        distinct=distinct,
        largest_bucket=largest,
        ones=tuple(ones.tolist()),
    )


def _sort(path: Path, codes: NDArray[np.uint8]) -> tuple[int, int]:
    """How many codes differ and the most that are equal; what was sorted for it is kept where a search can use it."""
    structures = prepared(codes)
    if structures is None:
        distinct, postings = group(codes)
        return len(distinct), int(postings.counts().max(initial=0))
    from index.search.stored import save_structures

    save_structures(structures, path)
    return structures.distinct, structures.largest

"""What a generation and the CURRENT pointer say about themselves, as JSON with a ``format`` and a checksum."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Self

from index.durable import write_atomically
from index.errors import IndexCorrupt, IndexFormatUnsupported
from index.filters import FieldType

FORMAT = 3  # the newest; 2 did not say what pair codes were made from, 1 had no log
PAIR = "pair"
MODALITIES = ("image", PAIR, "text")
MANIFEST = "manifest.json"
ITEMS = "items.sqlite"
PRESENCE = "pair.presence"
PRESENCE_SINCE = 3  # format


def codes_file(modality: str) -> str:
    """Name of the file that holds the codes of a column."""
    return f"{modality}.codes"


def rows_file(modality: str) -> str:
    """Name of the file that says which item each code of a column belongs to."""
    return f"{modality}.rows"


def structures_file(modality: str) -> str:
    """Name of the file that spares a column's engine its sorting; columns without one are sorted when opened."""
    return f"{modality}.structures"


@dataclass(frozen=True, slots=True)
class FileEntry:
    """Size and SHA-256 (hex) of one file of a generation."""

    size_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class ColumnManifest:
    """The codes of one modality."""

    modality: str
    count: int  # codes
    items: int  # items that have at least one
    max_per_item: int  # 1 unless items have several texts
    distinct: int  # different codes
    largest_bucket: int  # codes that are equal
    ones: tuple[int, ...]  # for each bit, the codes that have it set


@dataclass(frozen=True, slots=True)
class GenerationManifest:
    """``manifest.json``: everything about a generation but its items and codes."""

    format: int
    index: str
    generation: int
    created: str  # ISO 8601, UTC
    bits: int
    artifact: str
    fingerprint: str  # of the model that made every code
    device_kind: str  # codes are bit-exact on one device kind
    source: str
    texts: str  # "first" or "all"
    items: int
    columns: Mapping[str, ColumnManifest]
    fields: Mapping[str, FieldType]  # of the metadata
    files: Mapping[str, FileEntry]
    thumbnail_bytes: int | None = None  # of all thumbnails together; None: format 1 did not count them
    log_position: int = 0  # the edits up to here are in the generation; those after it come on top

    def save(self, path: Path) -> None:
        """Write to ``path``, atomically, with a checksum over the rest."""
        _save(path, asdict(self))

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a manifest.

        Raises:
            IndexCorrupt: missing, not JSON, altered, or a field is missing.
            IndexFormatUnsupported: written by a newer version.
        """
        raw = _load(path)
        try:
            raw["columns"] = {
                name: ColumnManifest(**(column | {"ones": tuple(column["ones"])}))
                for name, column in raw["columns"].items()
            }
            raw["fields"] = {name: FieldType(value) for name, value in raw["fields"].items()}
            raw["files"] = {name: FileEntry(**entry) for name, entry in raw["files"].items()}
            return cls(**raw)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise IndexCorrupt(f"{path} is not a generation manifest: {error!r}; rebuild the index") from error


@dataclass(frozen=True, slots=True)
class Pointer:
    """``CURRENT``: the pair of artifact and generation that serves."""

    format: int
    artifact: str
    fingerprint: str
    generation: int

    def save(self, path: Path) -> None:
        """Write to ``path``, atomically: the one step of a swap that readers see."""
        _save(path, asdict(self))

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a pointer.

        Raises:
            IndexCorrupt: missing, not JSON, altered, or a field is missing.
            IndexFormatUnsupported: written by a newer version.
        """
        raw = _load(path)
        if set(raw) != {field.name for field in fields(cls)}:
            raise IndexCorrupt(f"{path} is not a pointer: it has the fields {sorted(raw)}; roll back to write it anew")
        return cls(**raw)


def _save(path: Path, raw: dict[str, Any]) -> None:  # Any: JSON
    text = json.dumps(raw | {"checksum": _checksum(raw)}, indent=2, sort_keys=True, ensure_ascii=False)
    write_atomically(path, text.encode() + b"\n")


def _load(path: Path) -> dict[str, Any]:  # Any: JSON
    try:
        raw = json.loads(path.read_bytes())
    except OSError as error:
        raise IndexCorrupt(f"cannot read {path}: {error.strerror}; restore it or rebuild the index") from error
    except ValueError as error:
        raise IndexCorrupt(f"{path} is not JSON: {error}; restore it or rebuild the index") from error
    if not isinstance(raw, dict) or not isinstance(raw.get("format"), int):
        raise IndexCorrupt(f"{path} has no format number; restore it or rebuild the index")
    if raw["format"] > FORMAT:
        raise IndexFormatUnsupported(
            f"{path} has format {raw['format']}, this version reads up to {FORMAT}; upgrade crossbit"
        )
    if raw.pop("checksum", None) != _checksum(raw):
        raise IndexCorrupt(f"{path} does not match its checksum; restore it or rebuild the index")
    return raw


def _checksum(raw: Mapping[str, Any]) -> str:  # Any: JSON
    """SHA-256 over the canonical JSON of everything but the checksum itself."""
    canonical = json.dumps(raw, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(canonical.encode()).hexdigest()

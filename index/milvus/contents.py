"""What a collection of Milvus says about itself."""

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Self

from index.errors import IndexCorrupt
from index.generation import Generation
from index.manifest import ITEMS, codes_file, rows_file
from index.transfer import checksum, ids_and_codes

FORMAT = 1


@dataclass(frozen=True, slots=True)
class Description:
    """The column of a generation that a collection holds: its description, as JSON."""

    format: int
    index: str
    generation: int
    modality: str
    bits: int
    artifact: str
    fingerprint: str  # of the model that made the codes
    device_kind: str
    source: str
    texts: str
    count: int  # codes
    checksum: str  # over (id, code)

    @classmethod
    def of(cls, generation: Generation, modality: str) -> Self:
        """The column of a generation; reads all its ids."""
        manifest = generation.manifest
        return cls(
            format=FORMAT,
            index=manifest.index,
            generation=manifest.generation,
            modality=modality,
            bits=manifest.bits,
            artifact=manifest.artifact,
            fingerprint=manifest.fingerprint,
            device_kind=manifest.device_kind,
            source=manifest.source,
            texts=manifest.texts,
            count=manifest.columns[modality].count,
            checksum=checksum(ids_and_codes(generation, modality)),
        )

    def to_json(self) -> str:
        """What ``from_json`` reads."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str, collection: str) -> Self:
        """Read the description of a collection.

        Raises:
            IndexCorrupt: crossbit did not write it, or a newer version did.
        """
        try:
            raw = json.loads(text)
            if raw["format"] > FORMAT:
                raise ValueError(f"it has format {raw['format']}, this version reads up to {FORMAT}; upgrade crossbit")
            return cls(**raw)
        except (ValueError, TypeError, KeyError) as error:
            raise IndexCorrupt(f"collection {collection} was not written by crossbit: {error}; drop it") from error


def content_digest(generation: Generation, modality: str) -> str:
    """12 hex digits that differ where anything in the column, or the model that made it, does; reads no codes."""
    manifest = generation.manifest
    files = [manifest.files[name].sha256 for name in (codes_file(modality), rows_file(modality), ITEMS)]
    return hashlib.sha256("\n".join([manifest.fingerprint, *files]).encode()).hexdigest()[:12]

"""One generation on disk, opened: its columns mapped into memory and its items; shared by the snapshots on it."""

import threading
from pathlib import Path

from index.columns import Column
from index.files import check_files, map_codes, map_presence, map_rows
from index.item_file import ItemFile
from index.manifest import (
    ITEMS,
    PAIR,
    PRESENCE,
    PRESENCE_SINCE,
    ColumnManifest,
    GenerationManifest,
    codes_file,
    rows_file,
    structures_file,
)
from index.search import check_engine
from index.verification import Verified, check_contents


class Generation:
    """Immutable; whoever uses it takes a share with ``share``, and the last ``release`` closes its files."""

    def __init__(self, directory: Path, manifest: GenerationManifest, *, engine: str, verify: bool) -> None:
        check_engine(engine)
        check_files(directory, manifest.files, checksums=verify)
        self.path = directory
        self.manifest = manifest
        self.engine = engine
        self.columns = {
            modality: _open_column(directory, manifest, column, engine)
            for modality, column in sorted(manifest.columns.items())
        }
        self.items = ItemFile(directory / ITEMS)
        self._shares = 1
        self._sharing = threading.Lock()

    def share(self) -> None:
        """Keep the files open until one more ``release``."""
        with self._sharing:
            self._shares += 1

    def release(self) -> None:
        """Give a share back; the last one waits for running reads and closes the files."""
        with self._sharing:
            self._shares -= 1
            is_last = self._shares == 0
        if is_last:
            self.items.close()

    def verify(self) -> Verified:
        """Check item order, row numbers and self-queries.

        Raises:
            IndexCorrupt: something does not hold; the message names the file.
        """
        return check_contents(self.path, self.manifest, self.items, self.columns)


def _open_column(directory: Path, manifest: GenerationManifest, column: ColumnManifest, engine: str) -> Column:
    modality = column.modality
    structures = structures_file(modality)
    has_presence = modality == PAIR and manifest.format >= PRESENCE_SINCE
    return Column(
        map_codes(directory / codes_file(modality), column.count, manifest.bits),
        map_rows(directory / rows_file(modality), column.count),
        max_per_item=column.max_per_item,
        engine=engine,
        stored=directory / structures if structures in manifest.files else None,
        presence=map_presence(directory / PRESENCE, column.count) if has_presence else None,
    )

"""One generation on disk, opened: its columns mapped into memory and its items; shared by the snapshots on it."""

import threading
from functools import partial
from pathlib import Path
from typing import Protocol

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
from index.search import SearchEngine, check_engine, open_engine
from index.verification import Verified, check_contents


class EngineServer(Protocol):
    """Another process that holds the codes of generations and searches them."""

    def open(self, generation: "Generation", modality: str) -> SearchEngine:
        """The engine over a column of a generation, whose codes are taken over if they are not there yet."""


class Generation:
    """Immutable; whoever uses it takes a share with ``share``, and the last ``release`` closes its files."""

    def __init__(
        self, directory: Path, manifest: GenerationManifest, *, engine: str | EngineServer, verify: bool
    ) -> None:
        self.own_engine = check_engine(engine) if isinstance(engine, str) else "auto"  # of codes kept in this process
        check_files(directory, manifest.files, checksums=verify)
        self.path = directory
        self.manifest = manifest
        self.columns = {
            modality: self._open_column(column, engine) for modality, column in sorted(manifest.columns.items())
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

    def _open_column(self, column: ColumnManifest, engine: str | EngineServer) -> Column:
        modality, bits, files = column.modality, self.manifest.bits, self.manifest.files
        structures = structures_file(modality)
        stored = self.path / structures if structures in files else None
        codes = map_codes(self.path / codes_file(modality), column.count, bits)
        has_presence = modality == PAIR and self.manifest.format >= PRESENCE_SINCE
        return Column(
            codes,
            map_rows(self.path / rows_file(modality), column.count),
            max_per_item=column.max_per_item,
            build=partial(open_engine, codes, engine, stored=stored)
            if isinstance(engine, str)
            else partial(engine.open, self, modality),
            presence=map_presence(self.path / PRESENCE, column.count) if has_presence else None,
        )

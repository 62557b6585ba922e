"""An opened generation: searches, items and thumbnails, from any thread, until it is closed."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from index.codes import to_hex
from index.columns import Column, Diagnostics
from index.errors import ColumnNotFound, GenerationNotFound, IndexCorrupt, IndexNotFound, ModelMismatch
from index.files import check_files, map_codes, map_rows
from index.filters import Filter, parse
from index.generations import CURRENT, IndexDirectory
from index.item_file import JSON, ItemFile
from index.manifest import ITEMS, GenerationManifest, codes_file, rows_file
from index.ranking import RankedHit, page
from index.search import check_engine
from index.search.validation import check_at_least, check_queries, check_radius
from index.verification import Verified, check_contents

Codes = Mapping[str, NDArray[np.uint8]]  # modality -> (n, bits / 8)


@dataclass(frozen=True, slots=True)
class Answer:
    """One page of one query's answer."""

    hits: list[RankedHit]
    total: int  # eligible items, or those within the radius: exact, whatever k
    truncated: bool  # k hides items that lie within the radius
    more: bool  # another page follows


@dataclass(frozen=True, slots=True)
class StoredItem:
    """One item as it was written; its thumbnail is read on its own."""

    row: int
    id: str
    content_hash: str
    text: str | None
    metadata: Mapping[str, JSON]
    codes: Mapping[str, list[str]]  # modality -> hex codes; only modalities that the item has
    has_thumbnail: bool


class Snapshot:
    """One immutable generation; open it with ``open``."""

    def __init__(self, directory: Path, name: str, manifest: GenerationManifest, *, engine: str, verify: bool) -> None:
        check_engine(engine)
        check_files(directory, manifest.files, checksums=verify)
        self.path = directory
        self.index = name
        self.manifest = manifest
        self._columns = {
            modality: Column(
                column,
                map_codes(directory / codes_file(modality), column.count, manifest.bits),
                map_rows(directory / rows_file(modality), column.count),
                engine=engine,
            )
            for modality, column in sorted(manifest.columns.items())
        }
        self._items = ItemFile(directory / ITEMS)

    @classmethod
    def open(cls, index_dir: Path, generation: int | None = None, *, engine: str = "auto", verify: bool = True) -> Self:
        """Open a generation, the one that CURRENT names if none is given.

        Sizes are always compared with the manifest; ``verify`` also reads every file to compare checksums. Engines
        are built at the first search of a column, or by ``warm``.

        Raises:
            IndexNotFound: no such index, or nothing is active.
            GenerationNotFound: no generation of that number.
            IndexCorrupt, IndexFormatUnsupported: a file is damaged, or of a newer version.
        """
        directory = IndexDirectory(index_dir)
        manifest = _current_manifest(directory) if generation is None else directory.manifest(generation)
        path = directory.generation_path(manifest.generation)
        return cls(path, directory.name, manifest, engine=engine, verify=verify)

    @property
    def generation(self) -> int:
        """Number of the generation."""
        return self.manifest.generation

    @property
    def bits(self) -> int:
        """Code length of every column."""
        return self.manifest.bits

    @property
    def columns(self) -> tuple[str, ...]:
        """Modalities that can be searched, sorted."""
        return tuple(self._columns)

    def warm(self) -> None:
        """Build the engine of every column now, so that no query waits for it."""
        for column in self._columns.values():
            column.warm()

    def search(
        self,
        column: str,
        queries: NDArray[np.uint8],
        *,
        k: int | None,
        radius: int | None,
        limit: int,
        fingerprint: str | None,
        offset: int = 0,
        filter: Filter | None = None,
    ) -> list[Answer]:
        """One page, ``limit`` hits from position ``offset`` on, of the answer to each (Q, bits / 8) query.

        The whole answer is every eligible item in the total order (distance, item id), cut at ``radius`` (inclusive)
        and after ``k`` items where these are given. ``fingerprint`` is that of the model which made the queries; give
        none only for codes of unknown origin.

        Raises:
            ModelMismatch: another model made the index.
            ColumnNotFound: no such column.
            InvalidQuery: a value that cannot be asked.
        """
        if fingerprint is not None and fingerprint != self.manifest.fingerprint:
            raise ModelMismatch(self.manifest.fingerprint, fingerprint)
        check_queries(queries, self.bits)
        check_at_least("k", 1 if k is None else k, 1)
        check_at_least("limit", limit, 1)
        check_at_least("offset", offset, 0)
        check_radius(self.bits if radius is None else radius, self.bits)
        end = offset + limit if k is None else min(offset + limit, k)
        mask = None if filter is None else self._mask(filter)
        hits = self._column(column).search(queries, radius=radius, limit=end, items=mask)
        return [
            _answer(page(hits, query, offset=offset), int(total), offset=offset, k=k, is_radius=radius is not None)
            for query, total in enumerate(hits.totals)
        ]

    def filter(self, raw: Mapping[str, object]) -> Filter:
        """Check a filter against the metadata fields of this generation.

        Raises:
            InvalidFilter: unknown field, operator or type.
        """
        return parse(raw, self.manifest.fields)

    def row_of(self, item_id: str) -> int:
        """The row of an item in this generation.

        Raises:
            ItemNotFound: there is no such item.
        """
        return self._items.row_of(item_id)

    def item(self, item_id: str) -> StoredItem:
        """One item by its id.

        Raises:
            ItemNotFound: there is no such item.
        """
        return self.items([self.row_of(item_id)])[0]

    def items(self, rows: Sequence[int]) -> list[StoredItem]:
        """The items of these rows, in the order asked for."""
        return [
            StoredItem(
                row=record.row,
                id=record.id,
                content_hash=record.content_hash,
                text=record.text,
                metadata=record.metadata(),
                codes={
                    modality: [to_hex(code) for code in codes] for modality, codes in self._codes(record.row).items()
                },
                has_thumbnail=bool(record.has_thumbnail),
            )
            for record in self._items.records(rows)
        ]

    def thumbnail(self, item_id: str) -> bytes | None:
        """The item's thumbnail in WebP, none where it has no image.

        Raises:
            ItemNotFound: there is no such item.
        """
        return self._items.thumbnail(item_id)

    def codes_of(self, item_id: str, column: str) -> NDArray[np.uint8]:
        """The (n, bits / 8) codes of an item; n is 0 where it has none in this column.

        Raises:
            ItemNotFound, ColumnNotFound: there is no such item or column.
        """
        return self._column(column).codes_of(self.row_of(item_id))

    def reusable_codes(self) -> Callable[[str], Codes | None]:
        """A function from content hash to the codes of the first item with that content, none where there is none.

        They are the right codes only for the fingerprint and ``texts`` of this generation.
        """
        return self._codes_of_content

    def diagnostics(self, column: str) -> Diagnostics:
        """How well the codes of a column use their bits; costs nothing.

        Raises:
            ColumnNotFound: there is no such column.
        """
        return self._column(column).diagnostics()

    def verify(self) -> Verified:
        """Check item order, row numbers and self-queries.

        Raises:
            IndexCorrupt: something does not hold; the message names the file.
        """
        return check_contents(self.path, self.manifest, self._items, self._columns)

    def close(self) -> None:
        """Wait for running reads, then let go of the files."""
        self._items.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _column(self, name: str) -> Column:
        if name not in self._columns:
            known = ", ".join(self._columns) or "none"
            raise ColumnNotFound(f"index {self.index!r} has no column {name!r}; it has: {known}")
        return self._columns[name]

    def _mask(self, filter: Filter) -> NDArray[np.bool_]:
        mask = np.zeros(self.manifest.items, dtype=np.bool_)
        mask[self._items.rows_matching(filter)] = True
        return mask

    def _codes(self, row: int) -> Codes:
        codes = {modality: column.codes_of(row) for modality, column in self._columns.items()}
        return {modality: found for modality, found in codes.items() if len(found)}

    def _codes_of_content(self, content_hash: str) -> Codes | None:
        row = self._items.row_with_content(content_hash)
        return None if row is None else self._codes(row)


def verify_index(index_dir: Path, generation: int | None = None) -> Verified:
    """Read a whole generation, the current one if none is given: checksums, order, row numbers and self-queries.

    Raises:
        IndexNotFound, GenerationNotFound: there is nothing to verify.
        IndexCorrupt, IndexFormatUnsupported: a file is damaged, or of a newer version; the message names it.
    """
    with Snapshot.open(index_dir, generation) as snapshot:
        return snapshot.verify()


def _current_manifest(directory: IndexDirectory) -> GenerationManifest:
    pointer = directory.current()
    if pointer is None:
        raise IndexNotFound(f"there is no index {directory.name!r} with an active generation; build it first")
    path = directory.path / CURRENT
    try:
        manifest = directory.manifest(pointer.generation)
    except GenerationNotFound as error:
        raise IndexCorrupt(f"{path} names a generation that is missing: {error}; roll back or rebuild") from error
    if (manifest.fingerprint, manifest.artifact) != (pointer.fingerprint, pointer.artifact):
        raise IndexCorrupt(
            f"{path} names the artifact {pointer.artifact!r} ({pointer.fingerprint}), but generation "
            f"{pointer.generation} was made by {manifest.artifact!r} ({manifest.fingerprint}); roll back or rebuild"
        )
    return manifest


def _answer(hits: list[RankedHit], total: int, *, offset: int, k: int | None, is_radius: bool) -> Answer:
    reach = total if k is None else min(total, k)
    return Answer(hits, total, truncated=is_radius and reach < total, more=offset + len(hits) < reach)

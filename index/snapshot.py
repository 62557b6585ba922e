"""An opened index: one generation and the edits of the log since, as they were at one moment.

A snapshot never changes and may be used from any thread until it is closed; ``newer`` opens the next one.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from index.codes import to_hex
from index.columns import Column, Diagnostics, diagnostics
from index.delta import Delta, make_delta
from index.edit_log import EditLog, LogEnd, LogRead
from index.errors import (
    ColumnNotFound,
    GenerationNotFound,
    IndexCorrupt,
    IndexNotFound,
    ItemNotFound,
    ModelMismatch,
)
from index.filters import FieldType, Filter, parse
from index.generation import Generation
from index.generations import CURRENT, IndexDirectory
from index.item_file import JSON, Record
from index.live_search import Masks, search_live
from index.manifest import GenerationManifest
from index.originals import Originals
from index.ranking import RankedHit, page
from index.records import Append, Delete, effective
from index.search import Hits
from index.search.protocol import QueryPlan
from index.search.validation import check_at_least, check_queries, check_radius
from index.staging import IndexedItem
from index.verification import Verified

Codes = Mapping[str, NDArray[np.uint8]]  # modality -> (n, bits / 8)


@dataclass(frozen=True, slots=True)
class Answer:
    """One page of one query's answer."""

    hits: list[RankedHit]
    total: int  # eligible items, or those within the radius: exact, whatever k
    truncated: bool  # k hides items that lie within the radius
    more: bool  # another page follows
    plan: QueryPlan | None  # what the engine did


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
    """One immutable state of an index; open it with ``open``."""

    def __init__(self, index_dir: Path, generation: Generation, delta: Delta, end: LogEnd) -> None:
        self.index = index_dir.name
        self._directory = index_dir
        self._generation = generation
        self._delta = delta
        self._end = end
        self._originals = Originals(index_dir)
        self._is_open = True

    @classmethod
    def open(
        cls,
        index_dir: Path,
        generation: int | None = None,
        *,
        engine: str = "auto",
        verify: bool = True,
        edits: bool = True,
    ) -> Self:
        """Open a generation, the one that CURRENT names if none is given, with the edits that it does not hold yet.

        Without ``edits`` it is as it was written. Sizes are always compared with the manifest; ``verify`` also reads
        every file to compare checksums. Engines are built at the first search of a column, or by ``warm``.

        Raises:
            IndexNotFound: no such index, or nothing is active.
            GenerationNotFound: no generation of that number.
            IndexCorrupt, IndexFormatUnsupported: a file is damaged, or of a newer version.
        """
        directory = IndexDirectory(index_dir)
        manifest = _current_manifest(directory) if generation is None else directory.manifest(generation)
        found = EditLog(index_dir).read(manifest.log_position) if edits else LogRead((), LogEnd())
        opened = Generation(directory.generation_path(manifest.generation), manifest, engine=engine, verify=verify)
        try:
            delta = make_delta(opened, effective(found.records, manifest.fingerprint, {}), {})
        except BaseException:
            opened.release()
            raise
        return cls(index_dir, opened, delta, found.end)

    def newer(self) -> "Snapshot | None":
        """The same generation with the edits made since this snapshot was opened; none where there are none.

        The files and engines of the generation are shared; both snapshots are to be closed.

        Raises:
            IndexCorrupt: a file of the log is damaged.
        """
        log = EditLog(self._directory)
        found, known = log.read_more(self._end), self._delta.records
        if found is None:
            found, known = log.read(self.manifest.log_position), {}
        if found.end == self._end:
            return None
        records = effective(found.records, self.manifest.fingerprint, known)
        delta = make_delta(self._generation, records, self._delta.places)
        self._generation.share()
        return Snapshot(self._directory, self._generation, delta, found.end)

    @property
    def manifest(self) -> GenerationManifest:
        """What the generation says about itself; the edits since are not counted in."""
        return self._generation.manifest

    @property
    def generation(self) -> int:
        """Number of the generation."""
        return self.manifest.generation

    @property
    def position(self) -> int:
        """Position in the log of the last edit that this snapshot holds; 0 if none was ever made."""
        return self._end.position

    @property
    def end(self) -> LogEnd:
        """Where the next edit goes."""
        return self._end

    @property
    def bits(self) -> int:
        """Code length of every column."""
        return self.manifest.bits

    @property
    def columns(self) -> tuple[str, ...]:
        """Modalities that can be searched, sorted."""
        return tuple(sorted({*self._generation.columns, *self._delta.columns}))

    @property
    def fields(self) -> Mapping[str, FieldType]:
        """Type of each metadata field."""
        return self._delta.fields

    @property
    def edits(self) -> int:
        """Items appended, replaced or deleted since the generation was written: what ``compact`` merges."""
        return len(self._delta.records)

    @property
    def appended(self) -> int:
        """Items that were appended, or replaced others, since the generation was written."""
        return len(self._delta.items)

    @property
    def pending(self) -> tuple[str, ...]:
        """Ids of appended items that have no codes of this generation's model: no search finds them."""
        return self._delta.pending

    @property
    def item_count(self) -> int:
        """Items that are there."""
        return self.manifest.items - len(self._delta.gone) + len(self._delta.items)

    def items_in(self, column: str) -> int:
        """Items that have a code in a column.

        Raises:
            ColumnNotFound: there is no such column.
        """
        self._check_column(column)
        written, added = self.manifest.columns.get(column), self._delta.columns.get(column)
        gone = self._delta.gone_from.get(column)
        return (
            (0 if written is None else written.items)
            - (0 if gone is None else len(gone.rows))
            + (0 if added is None else len(np.unique(added.rows)))
        )

    def warm(self) -> None:
        """Build the engine of every column now, so that no query waits for it."""
        for column in (*self._generation.columns.values(), *self._delta.columns.values()):
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
        self._check_column(column)
        end = offset + limit if k is None else min(offset + limit, k)
        masks = None if filter is None else self._masks(filter)
        written = self._generation.columns.get(column) or self._empty_column()
        hits = search_live(written, self._delta, column, queries, radius=radius, limit=end, masks=masks)
        return [_answer(hits, query, offset=offset, k=k, is_radius=radius is not None) for query in range(len(hits))]

    def filter(self, raw: Mapping[str, object]) -> Filter:
        """Check a filter against the metadata fields.

        Raises:
            InvalidFilter: unknown field, operator or type.
        """
        return parse(raw, self.fields)

    def row_of(self, item_id: str) -> int:
        """The row of an item in this snapshot.

        Raises:
            ItemNotFound: there is no such item.
        """
        record = self._delta.records.get(item_id)
        if record is None:
            return self._generation.items.row_of(item_id)
        row = self._delta.row_of(item_id)
        if row is not None:
            return self._delta.first_row + row
        reason = "was deleted" if isinstance(record, Delete) else "waits to be encoded by the index's model"
        raise ItemNotFound(f"expected the id of an item of the index, found {item_id!r:.200}, which {reason}")

    def has(self, item_id: str) -> bool:
        """Whether there is an item of that id, be it one that waits to be encoded."""
        record = self._delta.records.get(item_id)
        if record is not None:
            return isinstance(record, Append)
        try:
            self._generation.items.row_of(item_id)
        except ItemNotFound:
            return False
        return True

    def item(self, item_id: str) -> StoredItem:
        """One item by its id.

        Raises:
            ItemNotFound: there is no such item.
        """
        return self.items([self.row_of(item_id)])[0]

    def items(self, rows: Sequence[int]) -> list[StoredItem]:
        """The items of these rows, in the order asked for."""
        first = self._delta.first_row
        written = {row: row for row in rows if row < first}
        records = dict(zip(written, self._generation.items.records(list(written)), strict=True))
        return [self._written_item(records[row]) if row < first else self._appended_item(row) for row in rows]

    def all_items(self) -> Iterator[IndexedItem]:
        """Every item that is there with its codes and thumbnail, in no particular order."""
        gone = set(self._delta.gone.tolist())
        for record, webp in self._generation.items.everything():
            if record.row not in gone:
                codes = self._codes(record.row)
                yield IndexedItem(record.id, record.content_hash, record.text, record.metadata(), webp, codes)
        for item in self._delta.items:
            webp = None if item.thumbnail is None else self._originals.read(item.thumbnail)
            codes = self._unpacked(item)
            yield IndexedItem(item.id, item.content_hash, item.text, item.metadata, webp, codes)

    def thumbnail(self, item_id: str) -> bytes | None:
        """The item's thumbnail in WebP, none where it has no image.

        Raises:
            ItemNotFound: there is no such item.
        """
        row = self.row_of(item_id) - self._delta.first_row
        if row < 0:
            return self._generation.items.thumbnail(item_id)
        digest = self._delta.items[row].thumbnail
        return None if digest is None else self._originals.read(digest)

    def codes_of(self, item_id: str, column: str) -> NDArray[np.uint8]:
        """The (n, bits / 8) codes of an item; n is 0 where it has none in this column.

        Raises:
            ItemNotFound, ColumnNotFound: there is no such item or column.
        """
        self._check_column(column)
        return self._codes(self.row_of(item_id)).get(column, np.empty((0, self.bits // 8), dtype=np.uint8))

    def reusable_codes(self) -> Callable[[str], Codes | None]:
        """A function from content hash to the codes of an item with that content, none where there is none.

        They are the right codes only for the fingerprint and ``texts`` of this generation.
        """
        appended = {item.content_hash: item for item in self._delta.items}

        def codes_of_content(content_hash: str) -> Codes | None:
            if content_hash in appended:
                return self._unpacked(appended[content_hash])
            row = self._generation.items.row_with_content(content_hash)
            return None if row is None else self._codes(row)

        return codes_of_content

    def diagnostics(self, column: str) -> Diagnostics:
        """How well the generation's codes of a column use their bits; costs nothing.

        Raises:
            ColumnNotFound: the generation has no such column.
        """
        if column not in self.manifest.columns:
            raise self._not_found(column)
        return diagnostics(self.manifest.columns[column])

    def thumbnail_bytes(self) -> int:
        """Bytes of the thumbnails of the generation."""
        counted = self.manifest.thumbnail_bytes
        return self._generation.items.thumbnail_bytes() if counted is None else counted

    def verify(self) -> Verified:
        """Check item order, row numbers and self-queries of the generation, and the originals of what was appended.

        Raises:
            IndexCorrupt: something does not hold; the message names the file.
        """
        for record in self._delta.records.values():
            if isinstance(record, Append):
                for digest in (record.original, record.image, record.thumbnail):
                    if digest is not None:
                        self._originals.read(digest)
        return replace(self._generation.verify(), edits=self.edits)

    def close(self) -> None:
        """Wait for running reads, then let go of the files, unless another snapshot uses them."""
        if self._is_open:
            self._is_open = False
            self._generation.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _check_column(self, name: str) -> None:
        if name not in self._generation.columns and name not in self._delta.columns:
            raise self._not_found(name)

    def _not_found(self, column: str) -> ColumnNotFound:
        known = ", ".join(self.columns) or "none"
        return ColumnNotFound(f"index {self.index!r} has no column {column!r}; it has: {known}")

    def _empty_column(self) -> Column:
        codes, rows = np.empty((0, self.bits // 8), dtype=np.uint8), np.empty(0, dtype=np.int64)
        return Column(codes, rows, max_per_item=1, engine="numpy")

    def _masks(self, filter: Filter) -> Masks:
        mask = np.zeros(self.manifest.items, dtype=np.bool_)
        mask[self._generation.items.rows_matching(filter)] = True
        mask[self._delta.gone] = False
        return Masks(mask, self._delta.rows_matching(filter))

    def _codes(self, row: int) -> Codes:
        if row >= self._delta.first_row:
            return self._unpacked(self._delta.items[row - self._delta.first_row])
        codes = {modality: column.codes_of(row) for modality, column in self._generation.columns.items()}
        return {modality: found for modality, found in codes.items() if len(found)}

    def _unpacked(self, item: Append) -> Codes:
        width = self.bits // 8
        codes = {name: np.frombuffer(packed, dtype=np.uint8) for name, packed in sorted(item.codes.items())}
        return {name: packed.reshape(-1, width) for name, packed in codes.items() if len(packed)}

    def _written_item(self, record: Record) -> StoredItem:
        return StoredItem(
            row=record.row,
            id=record.id,
            content_hash=record.content_hash,
            text=record.text,
            metadata=record.metadata(),
            codes=self._hex(record.row),
            has_thumbnail=bool(record.has_thumbnail),
        )

    def _appended_item(self, row: int) -> StoredItem:
        item = self._delta.items[row - self._delta.first_row]
        return StoredItem(
            row=row,
            id=item.id,
            content_hash=item.content_hash,
            text=item.text,
            metadata=item.metadata,
            codes=self._hex(row),
            has_thumbnail=item.thumbnail is not None,
        )

    def _hex(self, row: int) -> Mapping[str, list[str]]:
        return {modality: [to_hex(code) for code in codes] for modality, codes in self._codes(row).items()}


def index_stamp(index_dir: Path) -> tuple[int, ...]:
    """Numbers that differ when an index opened now would differ from one opened before; no file is read.

    Raises:
        IndexNotFound: no generation is active.
    """
    try:
        pointer = (index_dir / CURRENT).stat()
    except FileNotFoundError:
        raise IndexNotFound(f"there is no index {index_dir.name!r} with an active generation; build it first") from None
    return pointer.st_ino, pointer.st_mtime_ns, *EditLog(index_dir).stamp()


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


def _answer(hits: Hits, query: int, *, offset: int, k: int | None, is_radius: bool) -> Answer:
    shown, total = page(hits, query, offset=offset), int(hits.totals[query])
    reach = total if k is None else min(total, k)
    plan = None if hits.plan is None else hits.plan.of(query)
    return Answer(shown, total, truncated=is_radius and reach < total, more=offset + len(shown) < reach, plan=plan)

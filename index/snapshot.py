"""An opened index: one generation and the edits of the log since, as they were at one moment.

A snapshot never changes and may be used from any thread until it is closed; ``newer`` opens the next one.
"""

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from index.columns import Column, Diagnostics, diagnostics
from index.delta import Delta, make_delta
from index.edit_log import EditLog, LogEnd, LogRead
from index.errors import ColumnNotFound, IndexNotFound, ModelMismatch
from index.filters import FieldType, Filter, parse
from index.generation import EngineServer, Generation
from index.generations import CURRENT, IndexDirectory
from index.live_items import Codes, LiveItems, StoredItem
from index.live_search import Masks, search_live
from index.manifest import GenerationManifest
from index.originals import Originals
from index.presence import PresenceCounts
from index.ranking import RankedHit, page
from index.records import Append, effective
from index.search import Hits, open_engine
from index.search.protocol import QueryPlan
from index.search.validation import check_at_least, check_queries, check_radius
from index.staging import IndexedItem
from index.verification import Verified


@dataclass(frozen=True, slots=True)
class Answer:
    """One page of one query's answer."""

    hits: list[RankedHit]
    total: int  # eligible items, or those within the radius: exact, whatever k
    truncated: bool  # k hides items that lie within the radius
    more: bool  # another page follows
    plan: QueryPlan | None  # what the engine did


class Snapshot:
    """One immutable state of an index; open it with ``open``."""

    def __init__(self, index_dir: Path, generation: Generation, delta: Delta, end: LogEnd) -> None:
        self.index = index_dir.name
        self._directory = index_dir
        self._generation = generation
        self._delta = delta
        self._end = end
        self._originals = Originals(index_dir)
        self._items = LiveItems(generation, delta, self._originals)
        self._is_open = True

    @classmethod
    def open(
        cls,
        index_dir: Path,
        generation: int | None = None,
        *,
        engine: str | EngineServer = "auto",
        verify: bool = True,
        edits: bool = True,
    ) -> Self:
        """Open a generation, the one that CURRENT names if none is given, with the edits that it does not hold yet.

        Without ``edits`` it is as it was written. Sizes are always compared with the manifest; ``verify`` also reads
        every file to compare checksums. Engines are built at the first search of a column, or by ``warm``; an engine
        that is a server holds the generation's codes, those edited since stay in this process.

        Raises:
            IndexNotFound: no such index, or nothing is active.
            GenerationNotFound: no generation of that number.
            IndexCorrupt, IndexFormatUnsupported: a file is damaged, or of a newer version.
        """
        directory = IndexDirectory(index_dir)
        manifest = directory.current_manifest() if generation is None else directory.manifest(generation)
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
    def written(self) -> Generation:
        """The generation without the edits made since; open as long as the snapshot is."""
        return self._generation

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
    def pending(self) -> tuple[Append, ...]:
        """Appended items that have no codes of this generation's model, by id: no search finds them."""
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

    def presence_counts(self) -> PresenceCounts:
        """Items of the pair column by what their codes were made from; those of format 2 do not say: left out."""
        return self._items.presence_counts()

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
        return self._items.row_of(item_id)

    def has(self, item_id: str) -> bool:
        """Whether there is an item of that id, be it one that waits to be encoded."""
        return self._items.has(item_id)

    def item(self, item_id: str) -> StoredItem:
        """One item by its id.

        Raises:
            ItemNotFound: there is no such item.
        """
        return self._items.of_rows([self.row_of(item_id)])[0]

    def items(self, rows: Sequence[int]) -> list[StoredItem]:
        """The items of these rows, in the order asked for."""
        return self._items.of_rows(rows)

    def all_items(self) -> Generator[IndexedItem]:
        """Every item that is there with its codes and thumbnail, in no particular order.

        Whoever does not read to the end closes it before the snapshot, which would wait for it.
        """
        return self._items.everything()

    def thumbnail(self, item_id: str) -> bytes | None:
        """The item's thumbnail in WebP, none where it has no image.

        Raises:
            ItemNotFound: there is no such item.
        """
        return self._items.thumbnail(self.row_of(item_id), item_id)

    def codes_of(self, item_id: str, column: str) -> NDArray[np.uint8]:
        """The (n, bits / 8) codes of an item; n is 0 where it has none in this column.

        Raises:
            ItemNotFound, ColumnNotFound: there is no such item or column.
        """
        self._check_column(column)
        return self._items.codes(self.row_of(item_id)).get(column, np.empty((0, self.bits // 8), dtype=np.uint8))

    def reusable_codes(self) -> Callable[[str], Codes | None]:
        """A function from content hash to the codes of an item with that content, none where there is none.

        They are the right codes only for the fingerprint and ``texts`` of this generation.
        """
        return self._items.codes_by_content()

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
        return ColumnNotFound(
            f"index {self.index!r} has no column {column!r}; it has: {known}; search one of these, or rebuild with a "
            f"model that encodes {column}"
        )

    def _empty_column(self) -> Column:
        codes, rows = np.empty((0, self.bits // 8), dtype=np.uint8), np.empty(0, dtype=np.int64)
        return Column(codes, rows, max_per_item=1, build=partial(open_engine, codes, "numpy"))

    def _masks(self, filter: Filter) -> Masks:
        mask = np.zeros(self.manifest.items, dtype=np.bool_)
        mask[self._generation.items.rows_matching(filter)] = True
        mask[self._delta.gone] = False
        return Masks(mask, self._delta.rows_matching(filter))


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


def _answer(hits: Hits, query: int, *, offset: int, k: int | None, is_radius: bool) -> Answer:
    shown, total = page(hits, query, offset=offset), int(hits.totals[query])
    reach = total if k is None else min(total, k)
    plan = None if hits.plan is None else hits.plan.of(query)
    return Answer(shown, total, truncated=is_radius and reach < total, more=offset + len(shown) < reach, plan=plan)

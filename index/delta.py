"""What the edits of the log make of a generation: items on top of it, and items of it that are gone.

A delta is immutable; its items have the rows 0..D-1 in the order of their ids, and follow the rows of the generation
where both are spoken of together. It is made anew after every write, in
time that grows with the edits since the generation was written: ``crossbit index compact`` merges them.
"""

import bisect
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from index.codes import distances
from index.columns import Column
from index.filters import FieldType, Filter, Kind, field_type, joined_type, kind_of, plain_values
from index.generation import Generation
from index.manifest import PAIR
from index.records import Append, Record
from index.search import open_engine

Place = tuple[int | None, int]  # row in the generation, and items of it whose ids come before


@dataclass(frozen=True, slots=True)
class Gone:
    """The items of one column that were deleted or replaced."""

    rows: NDArray[np.int64]  # (T,) ascending, those that have a code in the column
    starts: NDArray[np.int64]  # (T,) where the codes of each begin
    codes: NDArray[np.uint8]  # (n, bits / 8)

    def distances(self, query: NDArray[np.uint8]) -> NDArray[np.int32]:
        """(T,) smallest distance of each item to one (bits / 8,) query."""
        if not len(self.rows):
            return np.empty(0, dtype=np.int32)
        return np.minimum.reduceat(distances(query, self.codes), self.starts)


@dataclass(frozen=True, slots=True)
class Delta:
    """The state of the edits at one position of the log, seen from one generation."""

    records: Mapping[str, Record]  # by id, the one that counts
    places: Mapping[str, Place]  # by id
    first_row: int  # of the items, behind the rows of the generation
    items: tuple[Append, ...]  # those that can be searched, by id
    ids: tuple[str, ...]  # of ``items``
    before: NDArray[np.int64]  # (D,) items of the generation whose ids come before
    gone: NDArray[np.int64]  # (T,) rows of the generation, ascending
    columns: Mapping[str, Column]
    gone_from: Mapping[str, Gone]  # by column
    fields: Mapping[str, FieldType]  # of the generation and the items together
    pending: tuple[Append, ...]  # by id, those without codes of the generation's model

    def row_of(self, item_id: str) -> int | None:
        """The row of an item, none where the id is not among the items."""
        row = bisect.bisect_left(self.ids, item_id)
        return row if row < len(self.ids) and self.ids[row] == item_id else None

    def rows_matching(self, filter: Filter) -> NDArray[np.bool_]:
        """(D,) mask of the items that satisfy a filter."""
        return np.fromiter((filter.holds(item.metadata) for item in self.items), dtype=np.bool_, count=len(self.items))


def make_delta(generation: Generation, records: Mapping[str, Record], known: Mapping[str, Place]) -> Delta:
    """The delta of these records, by id; ``known`` are places looked up before."""
    places = {item_id: known.get(item_id) or generation.items.place_of(item_id) for item_id in records}
    held = _held(generation, records, places)
    records = {item_id: record for item_id, record in records.items() if item_id not in held}
    places = {item_id: places[item_id] for item_id in records}
    fingerprint = generation.manifest.fingerprint
    appended = [records[item_id] for item_id in sorted(records)]
    items = tuple(one for one in appended if isinstance(one, Append) and one.fingerprint == fingerprint)
    pending = tuple(one for one in appended if isinstance(one, Append) and one.fingerprint != fingerprint)
    gone = np.array(sorted(row for row, _ in places.values() if row is not None), dtype=np.int64)
    modalities = sorted({name for item in items for name in item.codes})
    return Delta(
        records=records,
        places=places,
        first_row=generation.manifest.items,
        items=items,
        ids=tuple(item.id for item in items),
        before=np.array([places[item.id][1] for item in items], dtype=np.int64),
        gone=gone,
        columns={name: _column(name, items, generation) for name in modalities},
        gone_from={name: _gone(column, gone) for name, column in generation.columns.items()},
        fields=_fields(generation.manifest.fields, items),
        pending=pending,
    )


def _held(generation: Generation, records: Mapping[str, Record], places: Mapping[str, Place]) -> set[str]:
    """Ids of appends by another model that say of an item what the generation says: it keeps the codes it has.

    Such an append only added codes of the other model, for a generation of that model.
    """
    rows = {
        row: record
        for item_id, record in records.items()
        if isinstance(record, Append)
        and record.fingerprint != generation.manifest.fingerprint
        and (row := places[item_id][0]) is not None
    }
    return {
        written.id
        for written in (generation.items.records(list(rows)) if rows else ())
        if (written.content_hash, written.text, written.metadata_json) == _stored(rows[written.row])
    }


def _stored(record: Append) -> tuple[str, str | None, str]:
    """Hash, text and metadata as ``items.sqlite`` has them."""
    return record.content_hash, record.text, json.dumps(record.metadata, sort_keys=True, ensure_ascii=False)


def _column(name: str, items: Sequence[Append], generation: Generation) -> Column:
    width = generation.manifest.bits // 8
    codes = [item.codes.get(name, b"") for item in items]
    counts = np.array([len(one) // width for one in codes], dtype=np.int64)
    joined = np.frombuffer(b"".join(codes), dtype=np.uint8).reshape(-1, width)
    rows = np.repeat(np.arange(len(items)), counts)
    presence = np.array([item.presence for item in items], dtype=np.uint8)[rows] if name == PAIR else None
    most = int(counts.max(initial=1))
    build = partial(open_engine, joined, generation.own_engine)
    return Column(joined, rows, max_per_item=most, build=build, presence=presence)


def _gone(column: Column, gone: NDArray[np.int64]) -> Gone:
    first = np.searchsorted(column.rows, gone)
    last = np.searchsorted(column.rows, gone, side="right")
    counts = last - first
    has_codes = counts > 0
    kept = counts[has_codes]
    starts = np.cumsum(kept) - kept
    positions = np.arange(kept.sum()) + np.repeat(first[has_codes] - starts, kept)
    return Gone(gone[has_codes], starts, column.codes[positions])


def _fields(fields: Mapping[str, FieldType], items: Iterable[Append]) -> Mapping[str, FieldType]:
    kinds: dict[str, set[Kind]] = {}
    for item in items:
        for name, value in item.metadata.items():
            kinds.setdefault(name, set()).update(map(kind_of, plain_values(value)))
    added = {name: field_type(found) for name, found in kinds.items()}
    return {**fields, **{name: joined_type(fields.get(name, found), found) for name, found in added.items()}}

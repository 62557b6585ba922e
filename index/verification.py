"""Checks of a whole generation, beyond the checksums of its files."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from index.columns import Column
from index.errors import IndexCorrupt
from index.item_file import ItemFile
from index.manifest import ITEMS, PAIR, PRESENCE, PRESENCE_SINCE, GenerationManifest, codes_file, rows_file
from index.presence import Presence

SAMPLE = 32


@dataclass(frozen=True, slots=True)
class Verified:
    """What was looked at in a generation that passed."""

    index: str
    generation: int
    items: int
    codes: Mapping[str, int]  # by column
    files: int  # whose checksums match
    self_queries: int  # stored codes that a search found again at distance 0
    edits: int = 0  # appends and deletes since, whose records and originals match their checksums


def check_contents(
    directory: Path, manifest: GenerationManifest, items: ItemFile, columns: Mapping[str, Column]
) -> Verified:
    """Check item order, row numbers, presence and self-queries of a generation whose checksums match.

    Raises:
        IndexCorrupt: something does not hold; the message names the file.
    """
    _check_items(directory / ITEMS, manifest.items, items)
    if PAIR in columns and manifest.format >= PRESENCE_SINCE:
        _check_presence(directory / PRESENCE, columns[PAIR])
    return Verified(
        index=manifest.index,
        generation=manifest.generation,
        items=manifest.items,
        codes={name: len(column.codes) for name, column in columns.items()},
        files=len(manifest.files),
        self_queries=sum(_check_column(directory, manifest.items, name, column) for name, column in columns.items()),
    )


def _check_items(path: Path, expected: int, items: ItemFile) -> None:
    count, previous = 0, ""
    for row, item_id in items.ids():
        if row != count or item_id <= previous:
            raise IndexCorrupt(f"{path} is not in item-id order at row {row}; rebuild the index")
        count, previous = count + 1, item_id
    if count != expected:
        raise IndexCorrupt(f"{path}: expected {expected:,} items, found {count:,}; rebuild the index")


def _check_column(directory: Path, items: int, name: str, column: Column) -> int:
    """Compare the rows with the items, and search for a sample of the codes; returns the size of the sample."""
    rows = column.rows
    if len(rows) and (rows[0] < 0 or rows[-1] >= items or (np.diff(rows) < 0).any()):
        raise IndexCorrupt(
            f"{directory / rows_file(name)}: expected ascending rows of {items:,} items, found others; rebuild"
        )
    sample = np.unique(np.linspace(0, len(rows) - 1, num=min(SAMPLE, len(rows))).astype(np.int64))
    hits = column.search(column.codes[sample], radius=0, limit=max(1, len(rows)), items=None)
    for query, position in enumerate(sample.tolist()):
        if rows[position] not in hits.rows[hits.offsets[query] : hits.offsets[query + 1]]:
            raise IndexCorrupt(
                f"{directory / codes_file(name)}: code {position} does not find its own item at distance 0; rebuild"
            )
    return len(sample)


def _check_presence(path: Path, column: Column) -> None:
    """Every pair code says what it was made from, and codes of one item say the same."""
    presence = column.presence
    wrong = (presence < Presence.IMAGE) | (presence > Presence.BOTH)
    wrong[1:] |= (np.diff(column.rows) == 0) & (presence[1:] != presence[:-1])
    if wrong.any():
        position = int(wrong.argmax())
        raise IndexCorrupt(
            f"{path}: expected 1 (image), 2 (text) or 3 (both) for code {position}, the same for all codes of an item, "
            f"found {presence[position]}; rebuild the index"
        )

"""Searches by item, through files: an item counts once, at the smallest distance of its codes."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from index.filters import FieldType, parse
from index.ranking import RankedHit
from index.search import NumpyEngine
from index.search.by_item import search_by_item
from index.snapshot import Snapshot
from index.writer import GenerationSpec, IndexedItem, write_generation

BITS = 8
code_lists = st.lists(st.lists(st.integers(0, 7), max_size=3), max_size=14)
scalars = st.one_of(st.booleans(), st.integers(-3, 3), st.sampled_from([0.5, 1.0]), st.sampled_from(["", "a", "b"]))


def packed(values: list[int]) -> NDArray[np.uint8]:
    return np.array(values, dtype=np.uint8).reshape(len(values), 1)


def by_definition(items: list[list[int]], query: int, radius: int | None) -> list[tuple[int, int]]:
    """(distance, row) of every item that has codes, at the smallest of their distances."""
    nearest = [(min((code ^ query).bit_count() for code in codes), row) for row, codes in enumerate(items) if codes]
    return sorted(pair for pair in nearest if radius is None or pair[0] <= radius)


@settings(deadline=None)
@given(items=code_lists, query=st.integers(0, 7), radius=st.none() | st.integers(0, BITS), limit=st.integers(1, 20))
def test_items_are_ranked_by_their_nearest_code(
    items: list[list[int]], query: int, radius: int | None, limit: int
) -> None:
    owners = np.repeat(np.arange(len(items)), [len(codes) for codes in items])
    engine = NumpyEngine(packed([code for codes in items for code in codes]))
    hits = search_by_item(engine, owners, packed([query]), radius=radius, limit=limit, max_per_item=3, eligible=None)
    expected = by_definition(items, query, radius)
    assert list(zip(hits.distances.tolist(), hits.rows.tolist(), strict=True)) == expected[:limit]
    assert hits.totals.tolist() == [len(expected)]
    last = expected[:limit][-1][0] if expected else -1
    counts = np.bincount([distance for distance, _ in expected if distance <= last], minlength=BITS + 1)
    assert hits.histogram[0].tolist() == counts.tolist()


@contextmanager
def opened(items: list[IndexedItem]) -> Iterator[Snapshot]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "demo"
        spec = GenerationSpec("demo", BITS, "artifact", "fingerprint", "cpu", "source", "all", columns=("text",))
        write_generation(path, spec, items, verify=False)
        with Snapshot.open(path, 1, verify=False) as snapshot:
            yield snapshot


def pages(snapshot: Snapshot, query: int, size: int, k: int | None, radius: int | None) -> list[RankedHit]:
    """All hits, asked for in pages of this size."""
    hits: list[RankedHit] = []
    while True:
        (answer,) = snapshot.search(
            "text", packed([query]), k=k, radius=radius, offset=len(hits), limit=size, fingerprint=None
        )
        hits += answer.hits
        if not answer.more:
            return hits


@settings(max_examples=20, deadline=None)
@given(
    items=code_lists,
    query=st.integers(0, 7),
    size=st.integers(1, 6),
    k=st.none() | st.integers(1, 20),
    radius=st.none() | st.integers(0, BITS),
)
def test_following_more_never_repeats_or_skips_an_item(
    items: list[list[int]], query: int, size: int, k: int | None, radius: int | None
) -> None:
    written = [
        IndexedItem(f"{row:03}", str(row), None, {}, None, {"text": packed(codes)}) for row, codes in enumerate(items)
    ]
    with opened(written) as snapshot:
        expected = by_definition(items, query, radius)[:k]
        found = pages(snapshot, query, size, k, radius)
        assert [(hit.distance, hit.row) for hit in found] == expected
        assert [hit.rank for hit in found] == list(range(1, len(expected) + 1))


@settings(max_examples=30, deadline=None)
@given(values=st.lists(st.one_of(scalars, st.lists(scalars, max_size=3)), min_size=1, max_size=8), wanted=scalars)
def test_equality_matches_values_and_list_elements_of_its_own_type(values: list[object], wanted: object) -> None:
    written = [IndexedItem(str(row), str(row), None, {"field": value}, None, {}) for row, value in enumerate(values)]

    def is_same(value: object) -> bool:
        return value == wanted and (type(value) is bool) == (type(wanted) is bool)

    expected = [
        row for row, value in enumerate(values) if any(map(is_same, value if isinstance(value, list) else [value]))
    ]
    with opened(written) as snapshot:
        filter = parse({"field": wanted}, {"field": FieldType.MIXED})
        assert snapshot._generation.items.rows_matching(filter).tolist() == expected
    assert [row for row, value in enumerate(values) if filter.holds({"field": value})] == expected

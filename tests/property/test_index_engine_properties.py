"""Every engine against the definition: sort all eligible rows by (distance, row), then cut."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from kernels import kernel
from milvus_server import milvus
from numpy.typing import NDArray

from index.codes import distances
from index.ranking import page
from index.search import Hits, NumpyEngine, SearchEngine
from index.search.faiss_engine import FaissEngine

ENGINES = pytest.mark.parametrize(
    "build", [NumpyEngine, FaissEngine, kernel, pytest.param(milvus, marks=pytest.mark.milvus)]
)
Build = Callable[[NDArray[np.uint8]], SearchEngine]


@dataclass(frozen=True)
class Case:
    """A database with many equal codes, queries near it, and perhaps a mask."""

    codes: NDArray[np.uint8]
    queries: NDArray[np.uint8]
    mask: NDArray[np.bool_] | None
    k: int
    radius: int

    def order(self, query: int) -> list[tuple[int, int]]:
        """All eligible (distance, row), in the total order."""
        far = distances(self.queries[query], self.codes).tolist()
        rows = range(len(self.codes)) if self.mask is None else np.flatnonzero(self.mask).tolist()
        return sorted((far[row], row) for row in rows)


@st.composite
def cases(draw: st.DrawFn) -> Case:
    width = draw(st.sampled_from([1, 2, 3, 4, 8, 9, 16]))
    variety = draw(st.integers(1, 4))  # few different codes, so that ties and buckets are large
    pool = draw(arrays(np.uint8, (variety, width)))
    picks = draw(st.lists(st.integers(0, variety - 1), max_size=60))
    noise = draw(st.lists(st.integers(0, 8 * width - 1), max_size=len(picks)))
    codes = pool[np.array(picks, dtype=np.int64)].copy()
    for row, bit in enumerate(noise):
        codes[row, bit // 8] ^= 1 << bit % 8
    queries = draw(st.one_of(st.just(pool), arrays(np.uint8, st.tuples(st.integers(0, 3), st.just(width)))))
    mask = draw(st.one_of(st.none(), arrays(np.bool_, len(codes))))
    return Case(codes, queries, mask, draw(st.integers(1, len(codes) + 5)), draw(st.integers(0, 8 * width)))


def pairs(hits: Hits, query: int) -> list[tuple[int, int]]:
    part = slice(hits.offsets[query], hits.offsets[query + 1])
    return list(zip(hits.distances[part].tolist(), hits.rows[part].tolist(), strict=True))


@ENGINES
@settings(deadline=None)
@given(case=cases())
def test_knn_is_the_head_of_all_in_order(build: Build, case: Case) -> None:
    hits = build(case.codes).knn(case.queries, case.k, rows=case.mask)
    for query in range(len(case.queries)):
        assert pairs(hits, query) == case.order(query)[: case.k]
        assert hits.totals[query] == len(case.order(query))


@ENGINES
@settings(deadline=None)
@given(case=cases())
def test_within_is_all_that_pass_the_radius(build: Build, case: Case) -> None:
    hits = build(case.codes).within(case.queries, case.radius, limit=case.k, rows=case.mask)
    for query in range(len(case.queries)):
        expected = [pair for pair in case.order(query) if pair[0] <= case.radius]
        assert pairs(hits, query) == expected[: case.k]
        assert hits.totals[query] == len(expected)


@ENGINES
@settings(deadline=None)
@given(case=cases())
def test_the_histogram_counts_every_distance_up_to_the_last_hit(build: Build, case: Case) -> None:
    hits = build(case.codes).knn(case.queries, case.k, rows=case.mask)
    for query in range(len(case.queries)):
        found = pairs(hits, query)
        last = found[-1][0] if found else -1
        counts = np.bincount([d for d, _ in case.order(query) if d <= last], minlength=hits.histogram.shape[1])
        assert hits.histogram[query].tolist() == counts.tolist()


@settings(max_examples=200, deadline=None)
@given(case=cases())
def test_engines_agree_in_every_array(case: Case) -> None:
    one, other = NumpyEngine(case.codes), FaissEngine(case.codes)
    for a, b in (
        (one.knn(case.queries, case.k, rows=case.mask), other.knn(case.queries, case.k, rows=case.mask)),
        (
            one.within(case.queries, case.radius, limit=case.k, rows=case.mask),
            other.within(case.queries, case.radius, limit=case.k, rows=case.mask),
        ),
    ):
        for name in ("offsets", "rows", "distances", "totals", "histogram"):
            left, right = getattr(a, name), getattr(b, name)
            assert left.dtype == right.dtype
            assert np.array_equal(left, right)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32), k=st.integers(1, 40), high=st.sampled_from([2, 4, 256]), is_masked=st.booleans())
def test_engines_agree_where_codes_are_many(seed: int, k: int, high: int, is_masked: bool) -> None:
    generator = np.random.default_rng(seed)  # large enough for the path that asks faiss for k codes
    codes = generator.integers(0, high, (1500, 4), dtype=np.uint8)
    queries = generator.integers(0, high, (5, 4), dtype=np.uint8)
    mask = generator.random(1500) < 0.5 if is_masked else None
    one = NumpyEngine(codes).knn(queries, k, rows=mask)
    other = FaissEngine(codes).knn(queries, k, rows=mask)
    assert np.array_equal(one.rows, other.rows)
    assert np.array_equal(one.histogram, other.histogram)
    assert np.array_equal(one.totals, other.totals)


@ENGINES
@settings(deadline=None)
@given(case=cases(), size=st.integers(1, 7))
def test_pages_of_any_size_make_one_long_page(build: Build, case: Case, size: int) -> None:
    engine = build(case.codes)
    for query in range(len(case.queries)):
        total = len(case.codes) or 1
        whole = page(engine.knn(case.queries, total, rows=case.mask), query)
        parts = [
            hit
            for offset in range(0, total, size)
            for hit in page(engine.knn(case.queries, offset + size, rows=case.mask), query, offset=offset)
        ]
        assert parts == whole


@ENGINES
@settings(deadline=None)
@given(case=cases())
def test_a_tie_group_is_everything_at_one_distance(build: Build, case: Case) -> None:
    hits = build(case.codes).knn(case.queries, case.k, rows=case.mask)
    for query in range(len(case.queries)):
        order = [distance for distance, _ in case.order(query)]
        for hit in page(hits, query):
            ranks = [rank for rank, distance in enumerate(order, start=1) if distance == hit.distance]
            assert (hit.tie.first_rank, hit.tie.last_rank, hit.tie.size) == (ranks[0], ranks[-1], len(ranks))
            assert hit.rank in ranks


@ENGINES
@settings(deadline=None)
@given(case=cases(), data=st.data())
def test_a_mask_on_database_and_queries_changes_nothing(build: Build, case: Case, data: st.DataObject) -> None:
    flip = data.draw(arrays(np.uint8, case.codes.shape[1]))
    plain = build(case.codes).knn(case.queries, case.k, rows=case.mask)
    flipped = build(case.codes ^ flip).knn(case.queries ^ flip, case.k, rows=case.mask)
    assert np.array_equal(plain.rows, flipped.rows)
    assert np.array_equal(plain.distances, flipped.distances)


@ENGINES
@settings(deadline=None)
@given(case=cases(), data=st.data())
def test_permuting_rows_changes_row_numbers_only(build: Build, case: Case, data: st.DataObject) -> None:
    moved = np.array(data.draw(st.permutations(range(len(case.codes)))), dtype=np.int64)  # new row -> old row
    mask = None if case.mask is None else case.mask[moved]
    plain = build(case.codes).within(case.queries, case.radius, limit=len(case.codes) + 1, rows=case.mask)
    permuted = build(case.codes[moved]).within(case.queries, case.radius, limit=len(case.codes) + 1, rows=mask)
    assert np.array_equal(plain.distances, permuted.distances)
    assert np.array_equal(plain.histogram, permuted.histogram)
    for query in range(len(case.queries)):
        back = sorted((distance, int(moved[row])) for distance, row in pairs(permuted, query))
        assert back == pairs(plain, query)

import threading
from collections.abc import Callable

import numpy as np
import pytest
from kernels import compiled, kernel
from milvus_server import milvus
from numpy.typing import NDArray

from index.errors import InvalidQuery
from index.kernel import library
from index.search import SMALL, NumpyEngine, SearchEngine, kernel_engine, open_engine
from index.search import faiss_engine as faiss_module
from index.search.faiss_engine import FaissEngine
from index.search.kernel_engine import KernelEngine

Build = Callable[[NDArray[np.uint8]], SearchEngine]


@pytest.fixture(params=[NumpyEngine, FaissEngine, kernel, pytest.param(milvus, marks=pytest.mark.milvus)])
def build(request: pytest.FixtureRequest) -> Build:
    made: Build = request.param
    return made


def codes(*values: int) -> NDArray[np.uint8]:
    return np.array(values, dtype=np.uint8)[:, np.newaxis]


def test_hits_come_by_distance_then_row(build: Build) -> None:
    hits = build(codes(3, 1, 0, 1)).knn(codes(0), 3)
    assert hits.rows.tolist() == [2, 1, 3]
    assert hits.distances.tolist() == [0, 1, 1]


def test_a_tie_is_cut_at_the_lowest_rows_and_counted_whole(build: Build) -> None:
    hits = build(codes(*[1] * 40, 0)).knn(codes(0), 3)
    assert hits.rows.tolist() == [40, 0, 1]
    assert hits.histogram[0, :3].tolist() == [1, 40, 0]


def test_k_beyond_the_index_gives_all(build: Build) -> None:
    assert build(codes(1, 0)).knn(codes(0), 10).rows.tolist() == [1, 0]


def test_an_empty_index_gives_nothing(build: Build) -> None:
    hits = build(np.empty((0, 2), dtype=np.uint8)).knn(np.zeros((3, 2), dtype=np.uint8), 5)
    assert hits.offsets.tolist() == [0, 0, 0, 0]
    assert hits.totals.tolist() == [0, 0, 0]
    assert hits.histogram.shape == (3, 17)


def test_no_queries_give_no_answers(build: Build) -> None:
    hits = build(codes(1, 2)).within(np.empty((0, 1), dtype=np.uint8), 3, limit=5)
    assert len(hits) == 0
    assert hits.histogram.shape == (0, 9)


def test_all_identical_codes_keep_row_order(build: Build) -> None:
    hits = build(codes(*[7] * 100)).knn(codes(7, 0), 4)
    assert hits.rows.tolist() == [0, 1, 2, 3] * 2
    assert hits.totals.tolist() == [100, 100]


def test_the_radius_is_inclusive_and_the_total_exact_beyond_the_limit(build: Build) -> None:
    hits = build(codes(0, 1, 3, 7, 1)).within(codes(0), 1, limit=2)
    assert hits.rows.tolist() == [0, 1]
    assert hits.totals.tolist() == [3]


def test_a_mask_hides_rows_from_hits_totals_and_histogram(build: Build) -> None:
    hits = build(codes(0, 0, 1, 1)).knn(codes(0), 9, rows=np.array([False, True, True, False]))
    assert hits.rows.tolist() == [1, 2]
    assert hits.totals.tolist() == [2]
    assert hits.histogram[0, :2].tolist() == [1, 1]


def test_a_mask_of_nobody_gives_nothing(build: Build) -> None:
    hits = build(codes(0, 1)).within(codes(0), 8, limit=9, rows=np.zeros(2, dtype=np.bool_))
    assert hits.rows.tolist() == []
    assert hits.totals.tolist() == [0]


def test_the_engine_knows_its_size(build: Build) -> None:
    engine = build(codes(1, 1, 2))
    assert (len(engine), engine.bits) == (3, 8)


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda engine: engine.knn(codes(0), 0), "k of at least 1, found 0"),
        (lambda engine: engine.within(codes(0), -1, limit=1), "between 0 and 8"),
        (lambda engine: engine.within(codes(0), 9, limit=1), "between 0 and 8"),
        (lambda engine: engine.within(codes(0), 1, limit=0), "limit of at least 1"),
        (lambda engine: engine.knn(np.zeros((1, 2), dtype=np.uint8), 1), "expected queries of 8 bits"),
        (lambda engine: engine.knn(np.zeros(1, dtype=np.uint8), 1), "expected queries of 8 bits"),
        (lambda engine: engine.knn(np.zeros((1, 1)), 1), "expected queries of 8 bits"),
        (lambda engine: engine.knn(codes(0), 1, rows=np.ones(2, dtype=np.bool_)), "bool mask of shape"),
        (lambda engine: engine.knn(codes(0), 1, rows=np.ones(1, dtype=np.uint8)), "bool mask of shape"),
    ],
)
def test_what_cannot_be_asked_is_refused(build: Build, ask: Callable[[SearchEngine], object], message: str) -> None:
    with pytest.raises(InvalidQuery, match=message):
        ask(build(codes(1)))


def test_codes_of_no_width_are_refused(build: Build) -> None:
    with pytest.raises(InvalidQuery, match="found 0"):
        build(np.empty((3, 0), dtype=np.uint8))


def test_blocks_of_queries_are_joined_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(0)
    stored = generator.integers(0, 4, (50, 2), dtype=np.uint8)
    queries = generator.integers(0, 4, (9, 2), dtype=np.uint8)
    whole = FaissEngine(stored).knn(queries, 5)
    monkeypatch.setattr(faiss_module, "BLOCK", 100)  # a few queries at a time
    parts = FaissEngine(stored).knn(queries, 5)
    assert np.array_equal(whole.rows, parts.rows)
    assert np.array_equal(whole.offsets, parts.offsets)
    assert np.array_equal(whole.histogram, parts.histogram)


def test_four_hundred_identical_codes_among_many_are_all_found_in_row_order(build: Build) -> None:
    generator = np.random.default_rng(1)
    stored = generator.integers(0, 256, (20_000, 8), dtype=np.uint8)
    planted = np.sort(generator.choice(len(stored), 401, replace=False))
    stored[planted] = stored[planted[0]]
    hits = build(stored).knn(stored[planted[:1]], 401)
    assert np.array_equal(hits.rows, planted)
    assert hits.histogram[0, 0] == 401


def test_threads_share_one_engine(build: Build) -> None:
    stored = np.random.default_rng(2).integers(0, 256, (5000, 4), dtype=np.uint8)
    engine = build(stored)
    expected = engine.knn(stored[:20], 10)
    answers: list[bool] = []

    def ask() -> None:
        answers.append(bool(np.array_equal(engine.knn(stored[:20], 10).rows, expected.rows)))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [True] * 4


@pytest.mark.parametrize(
    ("name", "count", "kind"),
    [
        ("numpy", SMALL, NumpyEngine),
        ("faiss", 1, FaissEngine),
        ("auto", 0, KernelEngine),
        ("kernel", 1, KernelEngine),
        ("auto", SMALL, KernelEngine),
    ],
)
def test_engines_are_chosen_by_name_or_size(name: str, count: int, kind: type) -> None:
    assert isinstance(open_engine(np.zeros((count, 1), dtype=np.uint8), name), kind)


def test_an_unknown_engine_is_refused() -> None:
    with pytest.raises(InvalidQuery, match="auto, kernel, faiss, numpy"):
        open_engine(codes(1), "annoy")


def test_without_the_kernel_faiss_serves_and_naming_the_kernel_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library, "load", lambda: None)
    assert isinstance(open_engine(np.zeros((SMALL, 1), dtype=np.uint8)), FaissEngine)
    with pytest.raises(InvalidQuery, match="'kernel' was not compiled; reinstall crossbit with a C compiler"):
        open_engine(codes(1), "kernel")


def test_codes_too_long_for_the_kernel_go_to_faiss() -> None:
    assert isinstance(open_engine(np.zeros((SMALL, 65), dtype=np.uint8)), FaissEngine)
    with pytest.raises(InvalidQuery, match="512 bits"):
        KernelEngine(compiled(), np.zeros((1, 65), dtype=np.uint8))


def test_a_plan_tells_rows_entries_and_strategy(build: Build) -> None:
    stored = np.repeat(np.random.default_rng(4).integers(0, 256, (50, 3), dtype=np.uint8), 4, axis=0)
    hits = build(stored).knn(stored[:2], 3, rows=np.arange(200) < 100)
    assert hits.plan is not None
    plan = hits.plan.of(1)
    assert plan.codes == 100
    assert plan.entries in (25, 50, 100)
    assert plan.strategy == ("scan" if plan.entries == 100 else "grouped_scan")
    assert (plan.candidates, plan.fallback) == (0, False)


def test_a_batch_in_several_blocks_gets_the_answer_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    packed = np.random.default_rng(5).integers(0, 4, (300, 2), dtype=np.uint8)
    engine = kernel(packed)
    whole = engine.knn(packed[:7], 10)
    monkeypatch.setattr(kernel_engine, "BLOCK", 20)  # two queries of ten rows
    parts = engine.knn(packed[:7], 10)
    for name in ("offsets", "rows", "distances", "totals", "histogram"):
        np.testing.assert_array_equal(getattr(parts, name), getattr(whole, name))
    assert whole.plan is not None
    assert parts.plan is not None
    assert len(parts.plan.strategies) == len(whole.plan.strategies) == 7

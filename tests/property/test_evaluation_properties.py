"""Every figure against its textbook definition, over all orders within ties of small rankings of real codes."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import permutations, product

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torchmetrics.functional.retrieval import (
    retrieval_average_precision,
    retrieval_normalized_dcg,
    retrieval_precision,
    retrieval_recall,
)

from index.kernel.tally import load_tally
from model.evaluation import counts, metrics
from model.evaluation.counts import Counts, count
from model.evaluation.figures import figures_from

few = settings(max_examples=60, deadline=None)


@dataclass(frozen=True)
class Case:
    """One query against a few items whose distances tie."""

    distances: list[int]  # up to 8: an 8-bit code with that many ones, against a query of zeros
    shared: list[int]  # labels shared with the query, up to 3
    order: list[int]

    def counts(self) -> Counts:
        codes = np.array([[(1 << distance) - 1] for distance in self.distances], dtype=np.uint8)
        labels = np.array([[label < shared for label in range(3)] for shared in self.shared])
        return count(np.zeros((1, 1), np.uint8), codes, np.ones((1, 3), np.bool_), labels, np.array(self.order))

    def rankings(self) -> Iterator[list[int]]:
        """Shared labels in rank order, for each order within ties."""
        levels = sorted(set(self.distances))
        groups = [[self.shared[row] for row in self.rows(level)] for level in levels]
        for order in product(*(permutations(group) for group in groups)):
            yield [value for group in order for value in group]

    def rows(self, level: int) -> list[int]:
        return [row for row, distance in enumerate(self.distances) if distance == level]

    def stable(self) -> list[int]:
        rows = sorted(range(len(self.order)), key=lambda row: (self.distances[row], self.order[row]))
        return [self.shared[row] for row in rows]


@st.composite
def cases(draw: st.DrawFn) -> Case:
    items = draw(st.integers(1, 6))
    distances = draw(st.lists(st.integers(0, 3), min_size=items, max_size=items))
    shared = draw(st.lists(st.integers(0, 3), min_size=items, max_size=items))
    return Case(distances, shared, draw(st.permutations(range(items))))


def average_precision(ranking: list[int], cutoff: int | None = None) -> float:
    hits = [position for position, shared in enumerate(ranking[:cutoff]) if shared]
    relevant = sum(map(bool, ranking))
    divisor = relevant if cutoff is None else min(cutoff, relevant)
    return sum((rank + 1) / (position + 1) for rank, position in enumerate(hits)) / divisor


def found(ranking: list[int], cutoff: int) -> float:
    return float(sum(map(bool, ranking[:cutoff])))


def ndcg(ranking: list[int], cutoff: int) -> float:
    def dcg(values: list[int]) -> float:
        return sum((2**value - 1) / float(np.log2(rank + 1)) for rank, value in enumerate(values[:cutoff], start=1))

    return dcg(ranking) / dcg(sorted(ranking, reverse=True))


@few
@given(cases())
def test_average_precision_under_every_tie_treatment(case: Case) -> None:
    assume(any(case.shared))
    one, scores = case.counts(), [average_precision(ranking) for ranking in case.rankings()]
    assert metrics.expected_average_precision(one.items, one.relevant)[0] == pytest.approx(np.mean(scores))
    assert metrics.best_average_precision(one.items, one.relevant)[0] == pytest.approx(max(scores))
    assert metrics.worst_average_precision(one.items, one.relevant)[0] == pytest.approx(min(scores))
    assert one.stable[0] == pytest.approx(average_precision(case.stable()))


@few
@given(cases(), st.integers(1, 6))
def test_figures_at_k_are_means_over_every_order(case: Case, cutoff: int) -> None:
    assume(any(case.shared) and cutoff <= len(case.shared))
    one, rankings = case.counts(), list(case.rankings())

    def mean(score: Callable[[list[int], int], float]) -> float:
        return float(np.mean([score(ranking, cutoff) for ranking in rankings]))

    at_k = metrics.expected_average_precision(one.items, one.relevant, cutoff)[0]
    assert at_k == pytest.approx(mean(average_precision))
    assert metrics.expected_found(one.items, one.relevant, cutoff)[0] == pytest.approx(mean(found))
    assert metrics.expected_ndcg(one.items, one.gains, one.shared, cutoff)[0] == pytest.approx(mean(ndcg))


@few
@given(cases())
def test_radius_figures_are_filters_by_distance(case: Case) -> None:
    assume(any(case.shared))
    one = case.counts()
    precision, recall, nothing = metrics.by_radius(one.items, one.relevant)
    for radius in range(9):
        inside = [bool(shared) for shared, far in zip(case.shared, case.distances, strict=True) if far <= radius]
        assert precision[0, radius] == pytest.approx(float(np.mean(inside)) if inside else 0)
        assert recall[0, radius] == pytest.approx(sum(inside) / sum(map(bool, case.shared)))
        assert nothing[0, radius] == (not inside)


@few
@given(cases())
def test_precision_at_full_recall_is_that_of_the_last_needed_share_of_a_tie(case: Case) -> None:
    assume(any(case.shared))
    one = case.counts()
    far = max(distance for shared, distance in zip(case.shared, case.distances, strict=True) if shared)
    needed = sum(distance <= far for distance in case.distances)
    reached = metrics.precision_at_recall(one.items, one.relevant, np.array([1.0]))[0, 0]
    assert reached == pytest.approx(sum(map(bool, case.shared)) / needed)


@few
@given(cases())
def test_the_treatments_enclose_one_another(case: Case) -> None:
    ties = figures_from(case.counts()).map_all
    for between in (ties.expected, ties.stable):
        assert ties.worst - 1e-12 <= between <= ties.best + 1e-12


def random_sides(
    queries: int, database: int, bits: int
) -> tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.bool_], NDArray[np.bool_]]:
    generator = np.random.default_rng(queries + database + bits)
    codes = [generator.integers(0, 256, (rows, bits // 8), dtype=np.uint8) for rows in (queries, database)]
    labels = [generator.random((rows, 5)) < 0.3 for rows in (queries, database)]
    return codes[0], codes[1], labels[0], labels[1]


def test_without_ties_all_treatments_agree_with_torchmetrics() -> None:
    """Item i lies at distance i: 40 items of one query in a 48-bit code, in a shuffled order of rows."""
    generator = np.random.default_rng(3)
    far = generator.permutation(40)
    codes = np.packbits(np.arange(48) < far[:, None], axis=1, bitorder="little")
    labels = generator.random((40, 4)) < 0.3
    one = count(np.zeros((1, 6), np.uint8), codes, np.ones((1, 4), np.bool_), labels, np.arange(40))
    gains = torch.from_numpy(2 ** labels.sum(1) - 1)
    scores, relevant = torch.from_numpy(48.0 - far), gains > 0
    figures = figures_from(one)
    reference = retrieval_average_precision(scores, relevant).item()
    for value in (figures.map_all.expected, figures.map_all.stable, figures.map_all.best, figures.map_all.worst):
        assert value == pytest.approx(reference, abs=1e-6)
    for k in (1, 5, 10):
        assert figures.precision_at[k] == pytest.approx(retrieval_precision(scores, relevant, top_k=k).item(), abs=1e-6)
        assert figures.recall_at[k] == pytest.approx(retrieval_recall(scores, relevant, top_k=k).item(), abs=1e-6)
        assert figures.ndcg_at[k] == pytest.approx(retrieval_normalized_dcg(scores, gains, top_k=k).item(), abs=1e-6)


@pytest.fixture(params=["compiled", "numpy"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Counting with the kernel, and where nothing was compiled."""
    if request.param == "compiled":
        assert load_tally(), "no compiled kernel: run python setup.py build_ext --inplace"
    else:
        monkeypatch.setattr(counts, "load_tally", lambda: None)


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("bits", [8, 24, 64, 128, 256, 264, 512, 4096])
def test_counts_are_those_of_unpacked_codes(bits: int) -> None:
    queries, database, query_labels, database_labels = random_sides(7, 50, bits)
    one = count(queries, database, query_labels, database_labels, np.arange(50))
    far = (np.unpackbits(queries, axis=1)[:, None] != np.unpackbits(database, axis=1)[None]).sum(2)
    shared = query_labels.astype(int) @ database_labels.T
    for radius in range(bits + 1):
        assert np.array_equal(one.items[:, radius], (far == radius).sum(1))
        assert np.array_equal(one.relevant[:, radius], ((far == radius) & (shared > 0)).sum(1))
        assert np.allclose(one.gains[:, radius], ((2.0**shared - 1) * (far == radius)).sum(1))
    for number in range(one.shared.shape[1]):
        assert np.array_equal(one.shared[:, number], (shared == number).sum(1))
    for query in range(7):
        ranking = [int(value) for value in shared[query, np.argsort(far[query], kind="stable")]]
        assert one.stable[query] == pytest.approx(average_precision(ranking) if any(ranking) else np.nan, nan_ok=True)


@pytest.mark.usefixtures("way")
def test_more_labels_than_a_word_holds_are_counted() -> None:
    queries, database, *_ = random_sides(3, 20, 16)
    labels = np.random.default_rng(9).random((23, 150)) < 0.4
    one = count(queries, database, labels[:3], labels[3:], np.arange(20))
    shared = labels[:3].astype(int) @ labels[3:].T
    assert np.array_equal(one.shared, [np.bincount(row, minlength=one.shared.shape[1]) for row in shared])


def test_blocks_give_what_one_block_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    sides = random_sides(23, 200, 16)
    order = np.random.default_rng(0).permutation(200)
    whole = count(*sides, order)
    monkeypatch.setattr(counts, "BLOCK", 450)
    parts = count(*sides, order)
    assert all(np.array_equal(getattr(whole, name), getattr(parts, name), equal_nan=True) for name in Counts.__slots__)


def test_random_codes_score_about_chance() -> None:
    figures = figures_from(count(*random_sides(50, 2000, 64), np.arange(2000)))
    assert figures.map_all.expected == pytest.approx(figures.chance, abs=0.02)
    assert figures.precision_at[1000] == pytest.approx(figures.chance, abs=0.02)


def test_a_query_without_a_relevant_item_is_left_out_and_counted() -> None:
    queries, database, query_labels, database_labels = random_sides(4, 30, 8)
    query_labels[0], query_labels[1:] = False, True
    figures = figures_from(count(queries, database, query_labels, database_labels, np.arange(30)))
    assert (figures.queries, figures.left_out) == (3, 1)
    assert np.isnan(figures.average_precision).tolist() == [True, False, False, False]
    assert figures.map_all.expected == pytest.approx(np.nanmean(figures.average_precision))
    assert figures.zero_counted.expected == pytest.approx(figures.map_all.expected * 3 / 4)


def test_no_relevant_item_at_all_gives_zeros() -> None:
    queries, database, query_labels, database_labels = random_sides(4, 30, 8)
    figures = figures_from(count(queries, database, query_labels & False, database_labels, np.arange(30)))
    assert (figures.queries, figures.left_out, figures.map_all.best, figures.chance) == (0, 4, 0, 0)


def test_queries_that_find_nothing_are_not_hidden() -> None:
    """One query finds its item inside radius 2, the other finds nothing there."""
    queries, database = np.array([[0], [255]], np.uint8), np.array([[1], [31]], np.uint8)
    labels = np.ones((2, 1), np.bool_)
    lookup = figures_from(count(queries, database, labels, labels, np.arange(2))).lookup
    assert (lookup.precision, lookup.precision_where_found, lookup.found_nothing) == (0.5, 1.0, 0.5)

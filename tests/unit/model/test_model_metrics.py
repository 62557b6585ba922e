"""Tie-aware average precision against its definition: the mean over every order within ties."""

from itertools import permutations, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.evaluation.metrics import distance_histograms, expected_average_precision


def average_precision(relevant: list[bool]) -> float:
    """The textbook definition on one ranking."""
    hits = [index for index, value in enumerate(relevant) if value]
    return float(np.mean([(rank + 1) / (position + 1) for rank, position in enumerate(hits)]))


def enumerated(groups: list[list[bool]]) -> float:
    """Mean over all orders within every group."""
    orders = product(*(list(permutations(group)) for group in groups))
    return float(np.mean([average_precision([value for group in order for value in group]) for order in orders]))


def histograms(groups: list[list[bool]]) -> tuple[np.ndarray, np.ndarray]:
    return np.array([[len(group) for group in groups]]), np.array([[sum(group) for group in groups]])


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.lists(st.booleans(), max_size=4), min_size=1, max_size=3).filter(
        lambda groups: sum(map(len, groups)) <= 9
    )
)
def test_it_is_the_mean_over_all_orders_within_ties(groups: list[list[bool]]) -> None:
    found = expected_average_precision(*histograms(groups))[0]
    if any(any(group) for group in groups):
        assert found == pytest.approx(enumerated(groups), abs=1e-12)
    else:
        assert np.isnan(found)


@pytest.mark.parametrize(
    ("groups", "expected"),
    [
        ([[True], [False]], 1.0),
        ([[False], [True]], 0.5),
        ([[True, False]], 0.75),  # half of the orders score 1, half 1/2
        ([[False, False, True]], (1 + 1 / 2 + 1 / 3) / 3),
        ([[True, True], [False]], 1.0),
    ],
)
def test_small_cases_by_hand(groups: list[list[bool]], expected: float) -> None:
    assert expected_average_precision(*histograms(groups))[0] == pytest.approx(expected)


def test_random_codes_score_about_chance() -> None:
    generator = np.random.default_rng(0)
    queries = generator.integers(0, 256, (50, 8), dtype=np.uint8)
    database = generator.integers(0, 256, (2000, 8), dtype=np.uint8)
    relevant = generator.random((50, 2000)) < 0.1
    score = expected_average_precision(*distance_histograms(queries, database, relevant)).mean()
    assert 0.09 < score < 0.13


def test_histograms_count_every_item_once() -> None:
    queries = np.array([[0b0], [0b11]], dtype=np.uint8)
    database = np.array([[0b0], [0b1], [0b11]], dtype=np.uint8)
    relevant = np.array([[True, False, False], [False, False, True]])
    items, found = distance_histograms(queries, database, relevant)
    assert items[:, :3].tolist() == [[1, 1, 1], [1, 1, 1]]
    assert found[:, :3].tolist() == [[1, 0, 0], [1, 0, 0]]


def test_the_order_of_the_database_does_not_matter() -> None:
    generator = np.random.default_rng(1)
    queries, database = (generator.integers(0, 4, (n, 2), dtype=np.uint8) for n in (5, 40))
    relevant = generator.random((5, 40)) < 0.3
    order = generator.permutation(40)
    one = expected_average_precision(*distance_histograms(queries, database, relevant))
    other = expected_average_precision(*distance_histograms(queries, database[order], relevant[:, order]))
    assert np.array_equal(one, other)

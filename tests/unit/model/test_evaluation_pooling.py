"""Outcomes on several splits as one."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from outcomes import estimate, measured

from model.errors import ArchiveError
from model.evaluation.pooling import pool

values = st.lists(st.floats(0, 1), min_size=1, max_size=8)


@given(values, values)
def test_of_splits_without_a_shared_query_every_one_counts(first: list[float], second: list[float]) -> None:
    ids = [[f"a{number}" for number in range(len(first))], [f"b{number}" for number in range(len(second))]]
    [found] = pool(ids, [[measured(first)], [measured(second)]])
    assert found.scores[0].average_precision == first + second


def test_a_query_of_several_splits_counts_once_by_its_mean() -> None:
    [found] = pool([["x", "y"], ["z", "x"]], [[measured([0.2, 0.5])], [measured([0.9, 0.4])]])
    assert found.scores[0].average_precision == pytest.approx([0.3, 0.5, 0.9])


def test_a_query_without_a_relevant_item_in_one_split_counts_by_the_other() -> None:
    [found] = pool([["x", "y"], ["x", "y"]], [[measured([None, None])], [measured([0.4, None])]])
    assert found.scores[0].average_precision == [0.4, None]


def test_only_trainings_that_every_split_has_are_pooled() -> None:
    one = [measured([0.5], seed, bits) for seed in (0, 1) for bits in (16, 64)]
    found = pool([["x"], ["x"]], [one, one[:3]])
    assert [(each.bits, each.seed) for each in found] == [(16, 0), (16, 1), (64, 0)]


def test_a_split_against_itself_changes_no_figure() -> None:
    one, other = ([measured(side.tolist())] for side in np.random.default_rng(1).random((2, 20)))
    ids = [[str(number) for number in range(20)]] * 2
    found, expected = estimate(pool(ids, [one, one]), pool(ids, [other, other])), estimate(one, other)
    assert (found.mean, found.queries) == (expected.mean, expected.queries)


def test_outcomes_of_other_queries_are_refused() -> None:
    with pytest.raises(ArchiveError, match="measure again"):
        pool([["x", "y"], ["z"]], [[measured([0.5])], [measured([0.5])]])

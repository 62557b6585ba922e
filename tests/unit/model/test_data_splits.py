from collections import Counter
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.data.splits import Member, PublishedRule, SplitRule, assign_splits, own_rule, seeded_order, split_hash
from model.errors import ArchiveError

RULE = SplitRule(seed=1814, query=20, validation=10, unseen=15, max_query_group=3)


@st.composite
def members(draw: st.DrawFn) -> list[Member]:
    rows = draw(st.lists(st.tuples(st.integers(0, 40), st.booleans()), max_size=120))
    return [Member(f"i{number:03}", f"g{group}", may_query) for number, (group, may_query) in enumerate(rows)]


@given(members())
def test_no_group_is_cut(items: list[Member]) -> None:
    splits = assign_splits(items, RULE)
    of_group: dict[str, set[str]] = {}
    for item in items:
        of_group.setdefault(item.group, set()).add(splits[item.id])
    assert all(len(names) == 1 for names in of_group.values())


@given(members())
def test_every_item_has_a_split_and_no_target_is_exceeded(items: list[Member]) -> None:
    splits = assign_splits(items, RULE)
    counts = Counter(splits.values())
    assert set(splits) == {item.id for item in items}
    assert counts["query"] <= RULE.query
    assert counts["validation"] <= RULE.validation
    assert counts["unseen"] <= RULE.unseen


@given(members())
def test_queries_and_validation_may_query_and_are_of_small_groups(items: list[Member]) -> None:
    splits = assign_splits(items, RULE)
    sizes = Counter(item.group for item in items)
    held_out = [item for item in items if splits[item.id] in ("query", "validation")]
    assert all(item.may_query and sizes[item.group] <= RULE.max_query_group for item in held_out)


@given(members(), st.randoms(use_true_random=False))
def test_the_order_of_the_items_changes_nothing(items: list[Member], random: Random) -> None:
    shuffled = list(items)
    random.shuffle(shuffled)
    assert assign_splits(shuffled, RULE) == assign_splits(items, RULE)


def test_targets_are_met_exactly_while_single_items_remain() -> None:
    items = [Member(f"i{number}", f"g{number}", may_query=True) for number in range(100)]
    counts = Counter(assign_splits(items, RULE).values())
    assert counts == {"query": 20, "validation": 10, "unseen": 15, "train": 55}


def test_another_seed_gives_another_order() -> None:
    names = [f"n{number}" for number in range(50)]
    assert seeded_order(names, 1) != seeded_order(names, 2)
    assert sorted(seeded_order(names, 1)) == sorted(names)


def test_the_seeded_order_is_frozen() -> None:
    assert seeded_order(["a", "b", "c", "d"], 1814) == ["c", "b", "a", "d"]


def test_the_split_hash_depends_on_ids_and_splits_but_not_on_their_order() -> None:
    assert split_hash({"a": "train", "b": "query"}) == split_hash({"b": "query", "a": "train"})
    assert split_hash({"a": "train", "b": "query"}) != split_hash({"a": "query", "b": "train"})


def test_data_without_a_split_gets_tenths_and_a_fifth_of_the_rest() -> None:
    items = [Member(f"i{number}", f"g{number}", may_query=True) for number in range(1000)]
    counts = Counter(assign_splits(items, own_rule(len(items), sum(item.may_query for item in items))).values())
    assert counts == {"query": 100, "validation": 100, "unseen": 160, "train": 640}


def test_large_data_has_bounded_queries_and_validation() -> None:
    rule = own_rule(50_000, 50_000)
    assert (rule.seed, rule.query, rule.validation, rule.unseen) == (1814, 2_000, 1_000, 9_400)


def test_few_items_that_may_query_are_not_all_taken_from_training() -> None:
    items = [Member(f"i{number}", f"g{number}", may_query=number < 60) for number in range(300)]
    rule = own_rule(len(items), sum(item.may_query for item in items))
    assert (rule.query, rule.validation, rule.unseen) == (6, 6, 57)


@given(rows=st.integers(70, 400), seed=st.integers(0, 2**32 - 1))
def test_the_published_split_is_that_of_the_seeded_global_generator(rows: int, seed: int) -> None:
    splits = PublishedRule(10, 40, 15, seed=seed).assign(rows)
    np.random.seed(seed)  # noqa: NPY002 - the papers' own words
    permutation = np.random.permutation(rows)  # noqa: NPY002
    assert {splits[row] for row in permutation[:10]} == {"query"}
    assert {splits[row] for row in permutation[10:50]} == {"train"}
    assert {splits[row] for row in permutation[50:65]} == {"validation"}
    assert {splits[row] for row in permutation[65:]} == {"unseen"}


def test_the_seed_of_the_papers_draws_these_first_queries() -> None:
    splits = PublishedRule(2_000, 10_000, 1_000).assign(24_581)
    assert [row for row, split in enumerate(splits) if split == "query"][:5] == [16, 20, 21, 39, 40]


def test_too_few_rows_for_the_published_split_are_refused() -> None:
    with pytest.raises(ArchiveError, match=r"more than the 13,000 rows .*2,000 query.*found 13,000"):
        PublishedRule(2_000, 10_000, 1_000).assign(13_000)

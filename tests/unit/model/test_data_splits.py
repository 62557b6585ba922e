from collections import Counter
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from model.data.splits import Member, SplitRule, assign_splits, seeded_order, split_hash

RULE = SplitRule(seed=1814, query=20, validation=10, unseen=15, max_query_group=3)


@st.composite
def members(draw: st.DrawFn) -> list[Member]:
    rows = draw(st.lists(st.tuples(st.integers(0, 40), st.booleans()), max_size=120))
    return [Member(f"i{number:03}", f"g{group}", labelled) for number, (group, labelled) in enumerate(rows)]


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
def test_queries_and_validation_are_labelled_and_of_small_groups(items: list[Member]) -> None:
    splits = assign_splits(items, RULE)
    sizes = Counter(item.group for item in items)
    held_out = [item for item in items if splits[item.id] in ("query", "validation")]
    assert all(item.labelled and sizes[item.group] <= RULE.max_query_group for item in held_out)


@given(members(), st.randoms(use_true_random=False))
def test_the_order_of_the_items_changes_nothing(items: list[Member], random: Random) -> None:
    shuffled = list(items)
    random.shuffle(shuffled)
    assert assign_splits(shuffled, RULE) == assign_splits(items, RULE)


def test_targets_are_met_exactly_while_single_items_remain() -> None:
    items = [Member(f"i{number}", f"g{number}", labelled=True) for number in range(100)]
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

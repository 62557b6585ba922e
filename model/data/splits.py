"""Group splits that depend on nothing but the seed, the groups and the ids.

Groups and rows are put in the order of a SHA-256 over the seed and their name instead of being drawn from a random
generator, so the split is the same on every platform and library version.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

SEED = 1814
MIN_ITEMS = 200  # a smaller data set is not split: too little to train on, and every item is wanted in its index
MAX_QUERY, MAX_VALIDATION = 2_000, 1_000


@dataclass(frozen=True, slots=True)
class Member:
    """What a split may know of an item."""

    id: str
    group: str
    may_query: bool  # it has what an evaluation needs of a query, such as labels


@dataclass(frozen=True, slots=True)
class SplitRule:
    """How many items each held-out split gets; what is left is the training split."""

    seed: int
    query: int
    validation: int
    unseen: int
    max_query_group: int  # larger groups are near-duplicate series: never query or validation


def own_rule(members: Sequence[Member]) -> SplitRule:
    """The rule for data that comes without a split; groups of any size are kept whole.

    Query and validation get a tenth each of the items that may query, at most 2,000 and 1,000; a fifth of the rest of
    the items is the unseen database.
    """
    tenth = sum(member.may_query for member in members) // 10
    query, validation = min(tenth, MAX_QUERY), min(tenth, MAX_VALIDATION)
    unseen = (len(members) - query - validation) // 5
    return SplitRule(SEED, query, validation, unseen, max_query_group=max(query, validation))


def assign_splits(members: Sequence[Member], rule: SplitRule) -> dict[str, str]:
    """The split of every item id: whole groups in seeded order, queries first, then validation, then unseen.

    A group enters a split only where it fits into what is still wanted, so each target is met exactly whenever groups
    of one item remain. Groups with an item that may not query never become query or validation.
    """
    groups: dict[str, list[Member]] = {}
    for member in members:
        groups.setdefault(member.group, []).append(member)
    pool = [groups[name] for name in seeded_order(groups, rule.seed)]
    small = [group for group in pool if len(group) <= rule.max_query_group and all(item.may_query for item in group)]
    splits: dict[str, str] = {}
    for split, target, candidates in (
        ("query", rule.query, small),
        ("validation", rule.validation, small),
        ("unseen", rule.unseen, pool),
    ):
        free = (group for group in candidates if group[0].id not in splits)
        splits |= {item.id: split for group in _fill(free, target) for item in group}
    return {member.id: splits.get(member.id, "train") for member in members}


def seeded_order(names: Iterable[str], seed: int) -> list[str]:
    """The names in the order of SHA-256("<seed>:<name>"); ties cannot happen between different names."""
    return sorted(names, key=lambda name: hashlib.sha256(f"{seed}:{name}".encode()).digest())


def split_hash(splits: Mapping[str, str]) -> str:
    """SHA-256 (hex) over the lines "id split" in id order."""
    lines = (f"{item_id} {splits[item_id]}\n" for item_id in sorted(splits))
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _fill(groups: Iterable[list[Member]], target: int) -> Iterator[list[Member]]:
    wanted = target
    for group in groups:
        if len(group) <= wanted:
            wanted -= len(group)
            yield group

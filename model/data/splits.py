"""Splits: groups kept whole for data without a split of its own, and the published split of the benchmarks.

Groups and rows are put in the order of a SHA-256 over the seed and their name instead of being drawn from a random
generator, so the split is the same on every platform and library version. The published split is the permutation that
``numpy.random.seed(1814)`` draws, over the rows in the order of the data set's files.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from model.errors import ArchiveError

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


def own_rule(items: int, may_query: int) -> SplitRule:
    """The rule for data that comes without a split; groups of any size are kept whole.

    Query and validation get a tenth each of the items that may query, at most 2,000 and 1,000; a fifth of the rest of
    the items is the unseen database.
    """
    tenth = may_query // 10
    query, validation = min(tenth, MAX_QUERY), min(tenth, MAX_VALIDATION)
    unseen = (items - query - validation) // 5
    return SplitRule(SEED, query, validation, unseen, max_query_group=max(query, validation))


def assign_splits(members: Sequence[Member], rule: SplitRule) -> dict[str, str]:
    """The split of every item id: groups in seeded order, then as ``split_groups`` says."""
    groups: dict[str, list[Member]] = {}
    for member in members:
        groups.setdefault(member.group, []).append(member)
    pool = [groups[name] for name in seeded_order(groups, rule.seed)]
    splits = split_groups([len(group) for group in pool], [all(one.may_query for one in group) for group in pool], rule)
    of_group = {group[0].group: split for group, split in zip(pool, splits, strict=True)}
    return {member.id: of_group[member.group] for member in members}


def split_groups(sizes: Sequence[int], may_query: Sequence[bool], rule: SplitRule) -> list[str]:
    """The split of each group, given in seeded order: queries first, then validation, then unseen, the rest is train.

    A group enters a split only where it fits into what is still wanted, so each target is met exactly whenever groups
    of one item remain. Groups with an item that may not query never become query or validation.
    """
    splits = ["train"] * len(sizes)
    for split, target in (("query", rule.query), ("validation", rule.validation), ("unseen", rule.unseen)):
        wanted = target
        for group, size in enumerate(sizes):
            small = split == "unseen" or (size <= rule.max_query_group and may_query[group])
            if splits[group] == "train" and small and size <= wanted:
                wanted -= size
                splits[group] = split
    return splits


@dataclass(frozen=True, slots=True)
class PublishedRule:
    """The split of the cross-modal hashing papers: of a permutation, queries first, then the training rows.

    All rows but the queries are the retrieval set, training rows included. Validation queries, which the papers lack,
    are cut from behind the training rows and stay in the retrieval set too.
    """

    query: int
    train: int
    validation: int
    seed: int = SEED

    database = ("train", "unseen", "validation")

    def assign(self, rows: int) -> list[str]:
        """The split of each row.

        Raises:
            ArchiveError: there are too few rows.
        """
        sizes = {"query": self.query, "train": self.train, "validation": self.validation}
        held = sum(sizes.values())
        if rows <= held:
            raise ArchiveError(
                f"expected more than the {held:,} rows that the published split takes "
                f"({', '.join(f'{size:,} {name}' for name, size in sizes.items())}), found {rows:,}; "
                "use the whole data set, or import a part of it as data of your own"
            )
        # the legacy generator, whose stream never changes, because the papers drew from it
        permutation = np.random.RandomState(self.seed).permutation(rows)
        names = np.repeat([*sizes, "unseen"], [*sizes.values(), rows - held])
        splits = np.empty_like(names)
        splits[permutation] = names
        return [str(split) for split in splits]


def seeded_order(names: Iterable[str], seed: int) -> list[str]:
    """The names in the order of SHA-256("<seed>:<name>"); ties cannot happen between different names."""
    return sorted(names, key=lambda name: seeded_digest(name, seed))


def seeded_digest(name: str, seed: int) -> bytes:
    """SHA-256("<seed>:<name>")."""
    return hashlib.sha256(f"{seed}:{name}".encode()).digest()


def split_hash(splits: Mapping[str, str]) -> str:
    """SHA-256 (hex) over the lines "id split" in id order."""
    return ordered_split_hash(sorted(splits.items()))


def ordered_split_hash(splits: Iterable[tuple[str, str]]) -> str:
    """``split_hash`` of pairs (id, split) that are in id order."""
    digest = hashlib.sha256()
    for item_id, split in splits:
        digest.update(f"{item_id} {split}\n".encode())
    return digest.hexdigest()

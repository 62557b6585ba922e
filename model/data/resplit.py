"""The same items under a fresh split, for figures that do not hang on one draw of the queries."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from model.archive_format import DATABASE, ArchiveInfo, Item
from model.data.archive import ArchiveWriter
from model.data.splits import Member, SplitRule, assign_splits, seeded_order, split_hash
from model.errors import ArchiveError
from model.items import ItemArchive


def resplit(
    archive: ItemArchive, seed: int, data_dir: Path, advance: Callable[[int], None] = lambda count: None
) -> Path:
    """Write ``<name>-split-<seed>`` below ``data_dir``: equal items and images, groups whole, splits of the same sizes.

    Returns:
        The file of the new archive; it is opened by its name as any other, and an earlier one is replaced.

    Raises:
        ArchiveError: the data set has no split, or the published one of a benchmark.
    """
    info = archive.info
    if info.split_seed is None or info.database != DATABASE:
        found = "none" if info.split_seed is None else "the published split of a benchmark"
        raise ArchiveError(f"{info.name}: expected a split by groups to draw anew, found {found}")
    items = deal(archive.items, seed)
    path = data_dir / f"{info.name}-split-{seed}" / "archive.sqlite"
    with ArchiveWriter(path) as writer:
        for item in items:
            writer.add(item, archive.read_image(item) if item.image is not None else None)
            advance(1)
        writer.finish(_described(info, seed, items))
    return path


def deal(items: Sequence[Item], seed: int) -> list[Item]:
    """The items with splits, and places in the shuffled order, that this seed draws.

    Splits get as many items as they have now, and a group is asked with if it is no larger than those that are now and
    if all its items carry labels.
    """
    members = [Member(item.id, item.group, bool(item.labels)) for item in items]
    splits = assign_splits(members, rule_of(items, seed))
    order = {item_id: place for place, item_id in enumerate(seeded_order((item.id for item in items), seed))}
    return [replace(item, split=splits[item.id], order=order[item.id]) for item in items]


def rule_of(items: Sequence[Item], seed: int) -> SplitRule:
    """The rule that the present split follows, with another seed."""
    sizes = Counter(item.split for item in items)
    groups = Counter(item.group for item in items)
    asked = [groups[item.group] for item in items if item.split in ("query", "validation")]
    query, validation, unseen = (sizes[split] for split in ("query", "validation", "unseen"))
    return SplitRule(seed, query, validation, unseen, max_query_group=max(asked, default=0))


def _described(info: ArchiveInfo, seed: int, items: Sequence[Item]) -> ArchiveInfo:
    return replace(
        info,
        name=f"{info.name}-split-{seed}",
        title=f"{info.title}, split {seed}",
        split_seed=seed,
        split_hash=split_hash({item.id: item.split for item in items}),
    )

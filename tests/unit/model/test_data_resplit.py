"""The same items under a fresh split."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from model.data.resplit import deal, resplit, rule_of
from model.errors import ArchiveError
from model.items import ItemArchive, find_archive


@pytest.fixture(scope="module")
def shipped() -> ItemArchive:
    return ItemArchive.open(find_archive("openclipart", Path("nowhere")))


def test_the_seed_that_split_it_gives_the_split_it_has(shipped: ItemArchive) -> None:
    assert shipped.info.split_seed is not None
    assert deal(shipped.items, shipped.info.split_seed) == list(shipped.items)


def test_sizes_stay_and_no_group_is_cut(shipped: ItemArchive) -> None:
    dealt = deal(shipped.items, 11)
    assert Counter(item.split for item in dealt) == Counter(item.split for item in shipped.items)
    assert len({(item.group, item.split) for item in dealt}) == len({item.group for item in dealt})
    assert all(item.labels for item in dealt if item.split == "query")
    assert [item.split for item in dealt] != [item.split for item in shipped.items]


def test_the_rule_is_read_off_the_split(shipped: ItemArchive) -> None:
    rule = rule_of(shipped.items, 11)
    assert (rule.seed, rule.query, rule.validation, rule.unseen, rule.max_query_group) == (11, 500, 300, 700, 6)


def test_the_archive_is_found_by_its_name_and_holds_the_same_pictures(shipped: ItemArchive, tmp_path: Path) -> None:
    counted: list[int] = []
    resplit(shipped, 12, tmp_path, counted.append)
    written = ItemArchive.open(find_archive("openclipart-split-12", tmp_path))
    assert (written.info.name, written.info.split_seed) == ("openclipart-split-12", 12)
    assert written.info.split_hash != shipped.info.split_hash
    assert sum(counted) == len(written.items) == len(shipped.items)
    for own, other in zip(written.items[:5], shipped.items[:5], strict=True):
        assert (own.id, own.labels, own.texts, own.group) == (other.id, other.labels, other.texts, other.group)
        assert written.read_image(own) == shipped.read_image(other)


@pytest.mark.parametrize(
    ("changes", "found"),
    [({"split_seed": None}, "none"), ({"database": ("train", "unseen", "validation")}, "published")],
)
def test_a_split_that_was_not_drawn_by_groups_is_refused(
    shipped: ItemArchive, tmp_path: Path, changes: dict[str, object], found: str
) -> None:
    archive = ItemArchive.open(shipped.path)
    archive.info = replace(archive.info, **changes)  # type: ignore[arg-type]
    with pytest.raises(ArchiveError, match=found):
        resplit(archive, 11, tmp_path)

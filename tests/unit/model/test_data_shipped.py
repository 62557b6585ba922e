"""The archive that ships, and the fixture that was cut from it."""

import csv
from collections import Counter
from importlib.resources import files
from pathlib import Path

import pytest

from model.data.check import check_counts
from model.data.openclipart import EXPECTED_COUNTS
from model.data.registry import check
from model.data.splits import seeded_order, split_hash
from model.items import ItemArchive, find_archive

FIXTURE = Path(__file__).parents[2] / "fixtures" / "openclipart-200.zip"


@pytest.fixture(scope="module")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> ItemArchive:
    return ItemArchive.open(find_archive("openclipart", tmp_path_factory.mktemp("empty")))


def test_the_shipped_archive_is_small_enough_to_ship(shipped: ItemArchive) -> None:
    assert shipped.path.stat().st_size <= 20 * 2**20


def test_the_shipped_archive_has_the_expected_counts(shipped: ItemArchive) -> None:
    assert list(check_counts(shipped, EXPECTED_COUNTS)) == []
    per_image = Counter(len(item.labels) for item in shipped.items)
    assert [per_image[count] for count in (0, 1, 2, 3)] == [122, 1692, 1340, 304]


def test_the_split_of_the_shipped_archive_is_fixed_for_ever(shipped: ItemArchive) -> None:
    found = split_hash({item.id: item.split for item in shipped.items})
    assert found == shipped.info.split_hash
    assert found == "c23a63ca39133a21dd319a3db2cf7ff67e89988170bfad39c545cecd98f97e92"


def test_the_headline_caption_is_the_title(shipped: ItemArchive) -> None:
    assert shipped.info.captions == ("title", "full")
    assert all(item.texts["title"] == (item.metadata["title"],) for item in shipped.items)


def test_the_audit_names_the_seeded_sample_and_gives_the_published_rates(shipped: ItemArchive) -> None:
    with Path(str(files("model") / "data" / "openclipart-audit.csv")).open(newline="") as file:
        rows = list(csv.DictReader(file))
    pairs = [f"{item.id} {label}" for item in shipped.items for label in item.labels]
    assert [f"{row['id']} {row['label']}" for row in rows] == seeded_order(pairs, 1814)[: len(rows)]
    verdicts = Counter(row["verdict"] for row in rows)
    notes = shipped.info.notes
    assert (len(rows), verdicts["wrong"], verdicts["loose"]) == (
        notes["audited_pairs"],
        notes["audited_wrong"],
        notes["audited_loose"],
    )


def test_the_fixture_is_sound_and_has_every_split_and_label() -> None:
    fixture = ItemArchive.open(FIXTURE)
    assert check(fixture).ok
    assert Counter(item.split for item in fixture.items) == {"train": 100, "unseen": 50, "query": 30, "validation": 20}
    for splits in (("train", "unseen"), ("query",)):
        assert {label for item in fixture.select(splits) for label in item.labels} == set(fixture.info.class_names)


def test_the_fixture_holds_items_of_the_shipped_archive(shipped: ItemArchive) -> None:
    images = {item.id: item.image for item in shipped.items}
    assert all(images[item.id] == item.image for item in ItemArchive.open(FIXTURE).items)

"""Appended items, encoded again from what the index keeps of them."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL.Image import Image
from tiny_home import make_archive, png

from app.appended import AppendedItems, with_codes
from app.building import BATCH_ITEMS, Builder, Texts
from app.edit_commands import append_items
from index.edit_log import EditLog
from index.editing import editing
from index.errors import IndexCorrupt
from index.generations import IndexDirectory
from index.originals import Originals
from index.records import Append
from index.writer import GenerationSpec, IndexedItem, write_generation
from model.fake import FakeHasher, FusingFakeHasher
from model.hasher import EncodedBatch
from model.items import Item, ItemArchive

OLD = FusingFakeHasher(64, seed="old")
NEW = FusingFakeHasher(128, seed="new")


def open_archive(tmp_path: Path) -> ItemArchive:
    make_archive(tmp_path / "archive.zip", 2 * BATCH_ITEMS)
    return ItemArchive.open(tmp_path / "archive.zip")


def append(
    index_dir: Path,
    archive: ItemArchive,
    items: Sequence[Item],
    *,
    hasher: FakeHasher = OLD,
    texts: Texts = Texts.FIRST,
) -> list[Append]:
    """Append items to an index without others; returns their records."""
    if not index_dir.exists():
        write_generation(index_dir, GenerationSpec("demo", 64, "a", hasher.fingerprint, "cpu", "tiny", texts), [])
        IndexDirectory(index_dir).activate(1)
    append_items(index_dir, Builder(archive, hasher, texts=texts), items, lambda _: None)
    return [record for record in EditLog(index_dir).read().records if isinstance(record, Append)]


def encode(index_dir: Path, records: Sequence[Append], **options: object) -> tuple[IndexedItem, ...]:
    return AppendedItems(index_dir, **({"hasher": NEW} | options)).encode(records, progress=lambda _: None).items


def same(one: IndexedItem, other: IndexedItem) -> bool:
    codes = all(np.array_equal(one.codes[name], other.codes[name]) for name in one.codes | other.codes)
    return codes and replace(one, codes={}) == replace(other, codes={})


@pytest.mark.parametrize("texts", Texts)
@pytest.mark.parametrize("hasher", [OLD, NEW])
def test_items_are_encoded_as_they_would_be_from_their_source(tmp_path: Path, hasher: FakeHasher, texts: Texts) -> None:
    archive = open_archive(tmp_path)
    items = [
        *archive.items[: BATCH_ITEMS + 1],
        replace(archive.items[40], image=None),
        replace(archive.items[41], texts={}),
    ]
    records = append(tmp_path / "demo", archive, items, texts=texts)
    again = encode(tmp_path / "demo", records, hasher=hasher, reuse=False)
    built = Builder(archive, hasher, texts=texts).encode(items, progress=lambda _: None).items
    assert all(map(same, again, built))
    assert len(again) == len(items)


class BlindHasher(FusingFakeHasher):
    """Refuses to look at anything."""

    def encode_images(self, images: Sequence[Image]) -> EncodedBatch:
        assert not images
        return super().encode_images(images)


def test_codes_of_the_same_model_are_taken_over(tmp_path: Path) -> None:
    records = append(tmp_path / "demo", archive := open_archive(tmp_path), archive.items[:3])
    blind = BlindHasher(64, seed="old")
    shard = AppendedItems(tmp_path / "demo", blind).encode(records, progress=lambda _: None)
    built = Builder(archive, OLD).encode(archive.items[:3], progress=lambda _: None).items
    assert (shard.reused, all(map(same, shard.items, built))) == (3, True)


def test_a_list_of_texts_in_the_metadata_is_no_more_than_that(tmp_path: Path) -> None:
    archive = open_archive(tmp_path)
    item = replace(archive.items[0], metadata={"texts": ["not", "encoded"]})
    records = append(tmp_path / "demo", archive, [item])
    (again,) = encode(tmp_path / "demo", records)
    assert np.array_equal(again.codes["text"], NEW.encode_texts(["title 0"]).codes)


def test_a_record_is_told_with_its_new_codes(tmp_path: Path) -> None:
    records = append(tmp_path / "demo", archive := open_archive(tmp_path), archive.items[:2])
    made = encode(tmp_path / "demo", records)
    first, _ = with_codes(records, made, "new")
    assert replace(first, codes=records[0].codes, fingerprint=OLD.fingerprint) == records[0]
    assert first.codes["pair"] == made[0].codes["pair"].tobytes()


def test_a_missing_original_stops_the_work(tmp_path: Path) -> None:
    records = append(tmp_path / "demo", archive := open_archive(tmp_path), archive.items[:2])
    Originals(tmp_path / "demo").file(str(records[0].image)).unlink()
    with pytest.raises(IndexCorrupt, match="append the item again"):
        encode(tmp_path / "demo", records)


@pytest.mark.parametrize("is_deleted", [True, False])
def test_an_original_that_went_with_its_item_does_not(tmp_path: Path, is_deleted: bool) -> None:
    records = append(tmp_path / "demo", archive := open_archive(tmp_path), archive.items[:2])
    if is_deleted:
        with editing(tmp_path / "demo") as editor:
            editor.delete([records[0].id])
    else:
        append(tmp_path / "demo", archive, [replace(archive.items[0], texts={})])
    Originals(tmp_path / "demo").file(str(records[0].image)).unlink()
    shard = AppendedItems(tmp_path / "demo", NEW).encode(records, progress=lambda _: None)
    assert [one.id for one in shard.items] == ["item-0001"]
    assert [one.id for one in shard.skipped] == ["item-0000"]


def test_an_original_that_does_not_decode_is_left_out_with_the_reason(tmp_path: Path) -> None:
    records = append(tmp_path / "demo", archive := open_archive(tmp_path), archive.items[:2])
    (bad,) = Originals(tmp_path / "demo").keep([b"no picture"])
    shard = AppendedItems(tmp_path / "demo", NEW).encode(
        [replace(records[0], image=bad), records[1]], progress=lambda _: None
    )
    assert [(one.id, "expected a whole image" in one.reason) for one in shard.skipped] == [("item-0000", True)]
    assert png(1) == Originals(tmp_path / "demo").read(str(records[1].image))

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from tiny_home import make_archive, png

from app.building import BATCH_ITEMS, LAST_ITEMS, Builder, Texts, _batches, check_sample, check_skipped, thumbnail
from app.jobs import RebuildFailed, Skipped, TooManyBadItems
from index.presence import Presence
from index.snapshot import Snapshot
from index.writer import GenerationSpec, IndexedItem, write_generation
from model.errors import UnsupportedImage
from model.fake import FakeHasher, FusingFakeHasher
from model.images import decode_image
from model.items import Item, ItemArchive

HASHER = FakeHasher(64)
FUSING = FusingFakeHasher(64)
FIXTURE = Path(__file__).parents[2] / "fixtures" / "openclipart-200.zip"


def open_archive(tmp_path: Path, items: int = 8, *, bad: tuple[int, ...] = ()) -> ItemArchive:
    path = tmp_path / "archive.zip"
    make_archive(path, items, bad=bad)
    return ItemArchive.open(path)


def encode(builder: Builder, items: tuple[Item, ...] | None = None) -> tuple[IndexedItem, ...]:
    return builder.encode(items or builder.archive.items, progress=lambda _: None).items


def webp(size: tuple[int, int], **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, "red").save(buffer, "WEBP", **options)
    return buffer.getvalue()


def test_codes_are_those_of_the_hasher(tmp_path: Path) -> None:
    built = encode(Builder(open_archive(tmp_path), HASHER))[3]
    assert np.array_equal(built.codes["image"], HASHER.encode_images([decode_image(png(3))]).codes)
    assert np.array_equal(built.codes["text"], HASHER.encode_texts(["title 3"]).codes)


def test_an_item_keeps_its_text_metadata_and_labels(tmp_path: Path) -> None:
    built = encode(Builder(open_archive(tmp_path), HASHER))[3]
    assert (built.id, built.text) == ("item-0003", "title 3")
    assert built.metadata == {"number": 3, "labels": ["odd", "strange"]}


def test_order_and_codes_do_not_depend_on_batches_or_workers(tmp_path: Path) -> None:
    archive = open_archive(tmp_path, 3 * BATCH_ITEMS + 1)
    together = encode(Builder(archive, HASHER, workers=4))
    alone = [encode(Builder(archive, HASHER, workers=1), (item,))[0] for item in archive.items]
    assert [item.id for item in together] == [item.id for item in archive.items]
    for one, other in zip(together, alone, strict=True):
        assert one.content_hash == other.content_hash
        assert all(np.array_equal(one.codes[name], other.codes[name]) for name in ("image", "text"))


def test_all_texts_get_a_code_each(tmp_path: Path) -> None:
    built = encode(Builder(open_archive(tmp_path), HASHER, texts=Texts.ALL))[2]
    assert np.array_equal(built.codes["text"], HASHER.encode_texts(["title 2", "other title 2"]).codes)
    assert built.metadata["texts"] == ["title 2", "other title 2"]


def test_a_bad_image_is_skipped_with_its_reason(tmp_path: Path) -> None:
    archive = open_archive(tmp_path, bad=(1,))
    shard = Builder(archive, HASHER).encode(archive.items, progress=lambda _: None)
    assert [one.id for one in shard.skipped] == ["item-0001"]
    assert "expected a whole image" in shard.skipped[0].reason
    assert len(shard.items) == 7


def test_an_item_without_image_and_text_is_skipped(tmp_path: Path) -> None:
    empty = Item("empty", None, {"title": ("  ",)}, (), "", "train", 0, {})
    shard = Builder(open_archive(tmp_path), HASHER).encode([empty], progress=lambda _: None)
    assert "neither an image nor a text" in shard.skipped[0].reason


def test_an_item_without_image_has_a_text_code_only(tmp_path: Path) -> None:
    item = Item("words", None, {"title": ("some words",)}, (), "", "train", 0, {})
    built = encode(Builder(open_archive(tmp_path), HASHER), (item,))[0]
    assert set(built.codes) == {"text"}
    assert built.thumbnail is None


def test_known_codes_are_taken_over(tmp_path: Path) -> None:
    archive = open_archive(tmp_path)
    first = {item.content_hash: item.codes for item in encode(Builder(archive, HASHER))}
    other = Builder(archive, FakeHasher(64, seed="other"), known_codes=first.get)
    assert all(item.codes is first[item.content_hash] for item in encode(other))


def test_known_codes_of_other_modalities_are_not_taken_over(tmp_path: Path) -> None:
    archive = open_archive(tmp_path)
    builder = Builder(archive, HASHER, known_codes=lambda _: {"text": np.zeros((1, 8), np.uint8)})
    assert all(set(item.codes) == {"image", "text"} for item in encode(builder))


def test_progress_counts_every_item_and_may_stop_the_work(tmp_path: Path) -> None:
    archive = open_archive(tmp_path, BATCH_ITEMS + 3, bad=(0,))
    counts: list[int] = []
    Builder(archive, HASHER).encode(archive.items, progress=counts.append)
    assert sum(counts) == BATCH_ITEMS + 3

    def stop(_: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Builder(archive, HASHER).encode(archive.items, progress=stop)


def test_real_items_are_built() -> None:
    archive = ItemArchive.open(FIXTURE)
    shard = Builder(archive, HASHER).encode(archive.items, progress=lambda _: None)
    assert shard.skipped == ()
    for item, built in zip(archive.items, shard.items, strict=True):
        with Image.open(io.BytesIO(archive.read_image(item))) as image:
            assert (built.thumbnail == archive.read_image(item)) is (max(image.size) <= 256)
        assert built.text == item.texts["title"][0]


def test_a_small_webp_is_its_own_thumbnail() -> None:
    data = webp((256, 9))
    assert thumbnail(data) is data


ROTATED = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x03\0\0\0\0\0\0"


@pytest.mark.parametrize("data", [png(1), webp((300, 100)), webp((8, 8), exif=ROTATED)])
def test_other_images_become_a_small_webp(data: bytes) -> None:
    small = thumbnail(data)
    assert small != data
    with Image.open(io.BytesIO(small)) as image:
        assert image.format == "WEBP"
        assert max(image.size) <= 256


def test_no_thumbnail_of_something_else() -> None:
    with pytest.raises(UnsupportedImage):
        thumbnail(b"RIFF\0\0\0\0WEBP")


def test_a_tenth_of_the_items_may_be_bad() -> None:
    skipped = [Skipped("a", "broken")] * 2
    check_skipped(skipped, 20, max_share=0.1)
    with pytest.raises(TooManyBadItems, match=r"expected at most 10% of 19 items to be bad, found 2 .*broken"):
        check_skipped(skipped, 19, max_share=0.1)


def test_a_sample_is_compared_bit_by_bit(tmp_path: Path) -> None:
    archive = open_archive(tmp_path)
    spec = GenerationSpec("demo", 64, "artifact", HASHER.fingerprint, "cpu", "tiny", "first")
    write_generation(tmp_path / "demo", spec, encode(Builder(archive, HASHER)))
    with Snapshot.open(tmp_path / "demo", 1) as snapshot:
        check_sample(snapshot, Builder(archive, HASHER), archive.items)
        with pytest.raises(RebuildFailed, match="item-0000 of generation 1: expected the codes"):
            check_sample(snapshot, Builder(archive, FakeHasher(64, seed="other")), archive.items)


def test_a_model_that_fuses_stores_pairs_with_what_they_were_made_from(tmp_path: Path) -> None:
    archive = open_archive(tmp_path)
    items = (
        archive.items[0],
        replace(archive.items[1], image=None),
        replace(archive.items[2], texts={}),
    )
    both, words, picture = encode(Builder(archive, FUSING), items)
    assert np.array_equal(both.codes["pair"], FUSING.encode_pairs([decode_image(png(0))], ["title 0"]).codes)
    assert np.array_equal(words.codes["pair"], words.codes["text"])
    assert np.array_equal(picture.codes["pair"], picture.codes["image"])
    assert (both.presence, words.presence, picture.presence) == (Presence.BOTH, Presence.TEXT, Presence.IMAGE)


def test_known_codes_without_their_pairs_are_not_taken_over(tmp_path: Path) -> None:
    archive = open_archive(tmp_path)
    lone = {item.content_hash: item.codes for item in encode(Builder(archive, HASHER))}
    assert all("pair" in item.codes for item in encode(Builder(archive, FUSING, known_codes=lone.get)))


def test_known_pairs_are_taken_over_with_what_they_were_made_from(tmp_path: Path) -> None:
    archive = open_archive(tmp_path)
    first = {item.content_hash: item.codes for item in encode(Builder(archive, FUSING))}
    shard = Builder(archive, FUSING, known_codes=first.get).encode(archive.items, progress=lambda _: None)
    assert shard.reused == len(archive.items)
    assert {item.presence for item in shard.items} == {Presence.BOTH}


def test_a_sample_is_compared_with_what_it_was_made_from(tmp_path: Path) -> None:
    archive = open_archive(tmp_path)
    spec = GenerationSpec("demo", 64, "artifact", FUSING.fingerprint, "cpu", "tiny", "first")
    built = [replace(item, presence=Presence.TEXT) for item in encode(Builder(archive, FUSING))]
    write_generation(tmp_path / "demo", spec, built)
    with (
        Snapshot.open(tmp_path / "demo", 1) as snapshot,
        pytest.raises(RebuildFailed, match=r"\(BOTH\), found .* \(TEXT\); build again without reuse"),
    ):
        check_sample(snapshot, Builder(archive, FUSING), archive.items)


@given(st.integers(0, 1000), st.integers(1, 8))
def test_batches_hold_every_item_once_and_get_smaller_towards_the_end(count: int, workers: int) -> None:
    batches = list(_batches(range(count), workers))
    assert [one for batch in batches for one in batch] == list(range(count))
    sizes = [len(batch) for batch in batches]
    assert sizes == sorted(sizes, reverse=True)
    assert all(size <= BATCH_ITEMS for size in sizes)
    assert all(size <= LAST_ITEMS for size in sizes[-1:])

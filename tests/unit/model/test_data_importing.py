import io
import os
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from model.data.check import check_archive
from model.data.importing import Choices, Imported, import_source, read_source
from model.data.manifest import read_manifest
from model.errors import ArchiveError
from model.images import decode_image
from model.items import Item, ItemArchive, find_archive

Import = Callable[..., Imported]


def picture(number: int, size: tuple[int, int] = (8, 8)) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, (number % 256, number // 256, 77)).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(3):
        (folder / f"{'abc'[number]}.png").write_bytes(picture(number))
    return folder


@pytest.fixture
def run(tmp_path: Path) -> Import:
    def run(source: Path, images: Path | None = None, name: str = "mine", **choices: bool) -> Imported:
        return import_source(read_source(source, images), name, tmp_path / "data", Choices(**choices))

    return run


def manifest(folder: Path, *lines: str) -> Path:
    path = folder.parent / "d.csv"
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def opened(imported: Imported) -> ItemArchive:
    return ItemArchive.open(imported.path)


def by_id(imported: Imported) -> dict[str, Item]:
    return {item.id: item for item in opened(imported).items}


def test_a_folder_becomes_a_data_set_that_is_found_and_sound(photos: Path, run: Import, tmp_path: Path) -> None:
    (photos / "a.txt").write_text("an apple")
    archive = opened(run(photos))
    assert find_archive("mine", tmp_path / "data") == archive.path
    assert {item.id: item.texts for item in archive.items} == {
        "a.png": {"text": ("an apple",)},
        "b.png": {"text": ("b",)},
        "c.png": {"text": ("c",)},
    }
    assert (archive.info.name, archive.info.source, archive.info.split_seed) == ("mine", "photos", None)
    assert check_archive(archive).ok


def test_small_images_are_stored_as_they_are(photos: Path, run: Import) -> None:
    archive = opened(run(photos))
    assert [archive.read_image(item) for item in archive.items] == [picture(number) for number in range(3)]
    assert {Path(item.image or "").suffix for item in archive.items} == {".png"}


def test_large_images_are_scaled_down(photos: Path, run: Import) -> None:
    (photos / "wide.bmp").write_bytes(picture(9, (3000, 30)))
    Image.effect_noise((1200, 1200), 90).save(photos / "heavy.png")
    archive = opened(run(photos))
    large = {item.id: archive.read_image(item) for item in archive.items if item.id in ("wide.bmp", "heavy.png")}
    assert {item_id: decode_image(data).size for item_id, data in large.items()} == {
        "wide.bmp": (1024, 10),
        "heavy.png": (1024, 1024),
    }
    assert all(data[8:12] == b"WEBP" for data in large.values())


def test_importing_again_gives_the_same_bytes(photos: Path, run: Import) -> None:
    first = run(photos).path.read_bytes()
    assert run(photos).path.read_bytes() == first


def test_another_image_is_another_revision(photos: Path, run: Import) -> None:
    before = opened(run(photos)).info.revision
    (photos / "a.png").write_bytes(picture(100))
    assert opened(run(photos)).info.revision != before


def test_bad_images_are_left_out_with_the_reason(photos: Path, run: Import) -> None:
    (photos / "text.jpg").write_text("not a picture")
    (photos / "cut.png").write_bytes(picture(5)[:50])
    imported = run(photos)
    assert {one.where for one in imported.skipped} == {"text.jpg", "cut.png"}
    assert all("expected a whole image" in one.reason for one in imported.skipped)
    assert (imported.items, opened(imported).info.notes) == (3, {"skipped": 2})


def test_links_may_lead_anywhere_inside_the_folder_and_nowhere_else(photos: Path, run: Import) -> None:
    (photos.parent / "outside.png").write_bytes(picture(50))
    (photos / "in.png").symlink_to(photos / "a.png")
    (photos / "out.png").symlink_to(photos.parent / "outside.png")
    (photos / "dangling.png").symlink_to(photos / "nothing")
    (photos / "loop.png").symlink_to(photos / "loop.png")
    imported = run(photos)
    assert set(by_id(imported)) == {"a.png", "b.png", "c.png", "in.png"}
    reasons = {one.where: one.reason for one in imported.skipped}
    assert "leads out of the folder" in reasons["out.png"]
    assert "no file" in reasons["dangling.png"]
    assert "cannot be looked up" in reasons["loop.png"]


@pytest.mark.parametrize("name", ["../outside.png", "sub/../../outside.png", "{parent}/outside.png", "/etc/hostname"])
def test_a_manifest_cannot_climb_out(photos: Path, run: Import, name: str) -> None:
    (photos.parent / "outside.png").write_bytes(picture(50))
    path = manifest(photos, "id,image", "1,a.png", f"2,{name.format(parent=photos.parent)}")
    imported = run(path, photos)
    assert list(by_id(imported)) == ["1"]
    assert "leads out of the folder" in imported.skipped[0].reason


@pytest.mark.parametrize(
    ("name", "reason"), [("none.png", "no file"), ("sub", "no file"), ("pipe", "no file"), ("x" * 300, "x")]
)
def test_what_is_no_file_is_not_read(photos: Path, run: Import, name: str, reason: str) -> None:
    (photos / "sub").mkdir()
    os.mkfifo(photos / "pipe")
    imported = run(manifest(photos, "id,image", "1,a.png", f"2,{name}"), photos)
    assert imported.skipped[0].where == "d.csv line 3"
    assert reason in imported.skipped[0].reason


def test_a_huge_file_is_not_read(photos: Path, run: Import) -> None:
    with (photos / "huge.png").open("wb") as file:
        file.truncate(65 * 2**20)
    assert "at most 67,108,864 bytes" in run(photos).skipped[0].reason


def test_a_manifest_gives_texts_labels_groups_and_metadata(photos: Path, run: Import) -> None:
    lines = ["id,image,text,labels,metadata.price", "1,a.png,an apple,red;fruit,2", "2,b.png,,fruit,", "3,,a word,,"]
    imported = run(manifest(photos, *lines), photos)
    items = by_id(imported)
    assert opened(imported).info.class_names == ("fruit", "red")
    assert (items["1"].labels, items["1"].metadata) == (("fruit", "red"), {"price": 2})
    assert (items["2"].texts, items["3"].image) == ({}, None)
    assert check_archive(opened(imported)).ok


def test_rows_with_nothing_in_them_are_left_out(photos: Path, run: Import) -> None:
    imported = run(manifest(photos, "id,image,text", "1,a.png,", "2,, "), photos)
    assert imported.skipped[0].reason == "it has neither an image nor a text"


def test_equal_images_and_given_groups_make_one_group(photos: Path, run: Import) -> None:
    for name in ("again.png", "more.png"):
        (photos / name).write_bytes(picture(0))
    lines = ["id,image,group", "1,a.png,x", "2,again.png,y", "3,b.png,y", "4,more.png,", "5,c.png,"]
    items = by_id(run(manifest(photos, *lines), photos))
    assert len({items[one].group for one in "1234"}) == 1
    assert items["5"].group != items["1"].group


def large(photos: Path, rows: int, *, labels: bool) -> Path:
    for number in range(rows):
        (photos / f"{number:03}.png").write_bytes(picture(number))
    lines = [
        f"{number},{number:03}.png,text {number},{'odd' if labels and number % 2 else ''}" for number in range(rows)
    ]
    return manifest(photos, "id,image,text,labels", *lines)


def test_from_200_pairs_there_is_a_split(photos: Path, run: Import) -> None:
    imported = run(large(photos, 200, labels=False), photos)
    assert imported.splits == {"query": 20, "validation": 20, "unseen": 32, "train": 128}
    archive = opened(imported)
    assert archive.info.split_seed == 1814
    assert check_archive(archive).ok


def test_below_200_pairs_every_item_is_in_the_database(photos: Path, run: Import) -> None:
    imported = run(large(photos, 199, labels=False), photos)
    assert imported.splits == {}
    assert len(opened(imported).database()) == 199


def test_only_labelled_items_become_queries_where_there_are_labels(photos: Path, run: Import) -> None:
    archive = opened(run(large(photos, 200, labels=True), photos))
    counts = Counter(item.split for item in archive.items)
    assert (counts["query"], counts["validation"], counts["unseen"]) == (10, 10, 36)
    assert check_archive(archive).ok


def test_an_earlier_import_stays_when_the_next_one_fails(
    photos: Path, run: Import, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = run(photos).path.read_bytes()

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        run(photos)
    monkeypatch.undo()
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["mine"]
    assert [path.name for path in (tmp_path / "data" / "mine").iterdir()] == ["archive.sqlite"]
    assert find_archive("mine", tmp_path / "data").read_bytes() == before


def test_progress_counts_every_row(photos: Path, tmp_path: Path) -> None:
    (photos / "bad.png").write_text("x")
    counted: dict[str, list[int]] = {}

    @contextmanager
    def show(stage: str, rows: int | None) -> Iterator[Callable[[int], None]]:
        counted[f"{stage} {rows}"] = []
        yield counted[f"{stage} {rows}"].append

    import_source(read_source(photos), "mine", tmp_path / "data", show=show)
    sums = {stage: sum(counts) for stage, counts in counted.items()}
    assert sums == {"listing None": 4, "importing 4": 4, "splitting 3": 3, "writing 3": 3}


def test_a_source_without_a_usable_row_is_refused(photos: Path, run: Import, tmp_path: Path) -> None:
    with pytest.raises(ArchiveError, match=r"none of 1 rows can be used \(d\.csv line 2: no file"):
        run(manifest(photos, "id,image", "1,none.png"), photos)
    assert list((tmp_path / "data").iterdir()) == []


@pytest.mark.parametrize(("name", "message"), [("../x", "expected a name"), ("openclipart", "ships with the package")])
def test_a_name_that_cannot_be_given_is_refused(photos: Path, run: Import, name: str, message: str) -> None:
    with pytest.raises(ArchiveError, match=message):
        run(photos, name=name)


def test_what_is_no_source_is_refused(photos: Path, run: Import) -> None:
    for source, images, message in (
        (photos / "none", None, "found nothing at"),
        (photos / "a.png", None, "found another file at"),
        (photos, photos, "expected with a manifest only"),
        (manifest(photos, "id,text", "1,a"), photos / "none", "expected a folder, or s3://BUCKET/PREFIX, found none"),
    ):
        with pytest.raises(ArchiveError, match=message):
            run(source, images)


def test_too_many_labels_are_no_classes(photos: Path, run: Import, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("model.data.importing.MAX_CLASSES", 2)
    with pytest.raises(ArchiveError, match="expected at most 2 different labels, found 3"):
        run(manifest(photos, "id,text,labels", "1,x,a;b;c"))


def test_a_manifest_is_read_from_beside_its_images(photos: Path) -> None:
    path = photos / "d.jsonl"
    path.write_text('{"image": "a.png", "text": "x"}')
    assert list(read_source(path).rows()) == list(read_manifest(path, photos).rows())
    assert read_source(path).root == photos


def split_rows(photos: Path, splits: list[str], groups: list[str] | None = None) -> Path:
    rows = zip(splits, groups or [""] * len(splits), strict=True)
    lines = [f"{number},a.png,text {number},{split},{group}" for number, (split, group) in enumerate(rows)]
    return manifest(photos, "id,image,text,split,group", *lines)


def test_a_given_split_is_kept_even_where_images_are_equal(photos: Path, run: Import) -> None:
    imported = run(split_rows(photos, ["train", "query", "validation", "unseen", "database"]), photos)
    assert imported.splits == {"query": 1, "train": 1, "unseen": 2, "validation": 1}
    archive = opened(imported)
    assert [item.split for item in archive.items] == ["train", "query", "validation", "unseen", "unseen"]
    assert (archive.info.split_seed, archive.info.notes["split"]) == (1814, "as given")
    assert len(archive.database()) == 3


@pytest.mark.parametrize(
    ("splits", "groups", "message"),
    [
        (["train", "test"], ["", ""], r"line 3, split: expected one of train, unseen, validation, query, database"),
        (["train", ""], ["", ""], r"line 3, split: expected one on every row or on none"),
        (["train", "query"], ["g", "g"], r"expected each group in one split, found the group 'g' in query and train"),
    ],
)
def test_a_given_split_is_checked(
    photos: Path, run: Import, splits: list[str], groups: list[str], message: str
) -> None:
    with pytest.raises(ArchiveError, match=message):
        run(split_rows(photos, splits, groups), photos)


def test_linked_images_stay_where_they_are_and_are_not_read(photos: Path, run: Import) -> None:
    (photos / "broken.png").write_text("no picture")
    imported = run(photos, link=True)
    archive = opened(imported)
    assert (imported.items, imported.left_out) == (4, 0)
    assert [item.image for item in archive.items] == ["a.png", "b.png", "broken.png", "c.png"]
    assert archive.read_image(archive.items[0]) == picture(0)
    (photos / "a.png").unlink()
    with pytest.raises(ArchiveError, match=r"item a\.png: no file .*expected it at .*photos/a\.png"):
        archive.read_image(archive.items[0])


def test_a_wrong_root_of_linked_images_is_found_at_once(photos: Path, run: Import) -> None:
    path = manifest(photos, "id,image", *(f"{number},x{number}.png" for number in range(101)))
    with pytest.raises(ArchiveError, match=r"found none of the first 100 .* name their folder with --images"):
        run(path, photos, link=True)


def alike(photos: Path) -> Path:
    """300 pictures of noise, each of the last 100 a brighter twin of one before."""
    generator = np.random.default_rng(7)
    for number in range(200):
        pixels = generator.integers(20, 220, (8, 8, 3), dtype=np.uint8)
        large = Image.fromarray(pixels).resize((64, 64), Image.Resampling.BICUBIC)
        large.save(photos / f"{number:03}.png")
        if number < 100:
            large.point(lambda value: value + 2).save(photos / f"{number + 200:03}.png")
    lines = [f"{number},{number:03}.png,text {number}" for number in range(300)]
    return manifest(photos, "id,image,text", *lines)


def test_near_duplicates_share_a_side_of_the_split_where_asked(photos: Path, run: Import) -> None:
    path = alike(photos)
    without, with_groups = by_id(run(path, photos)), by_id(run(path, photos, group_duplicates=True))
    twins = [(str(number), str(number + 200)) for number in range(100)]
    assert all(with_groups[one].group == with_groups[other].group for one, other in twins)
    assert len({item.group for item in with_groups.values()}) == 200
    assert any(without[one].split != without[other].split for one, other in twins)
    assert all(with_groups[one].split == with_groups[other].split for one, other in twins)


def test_an_earlier_versions_import_is_replaced(photos: Path, run: Import, tmp_path: Path) -> None:
    old = tmp_path / "data" / "mine" / "archive.zip"
    old.parent.mkdir(parents=True)
    old.write_bytes(b"old")
    run(photos)
    assert not old.exists()

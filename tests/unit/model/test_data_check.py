import io
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from model.data.archive import ArchiveWriter, write_archive
from model.data.check_page import write_page
from model.data.registry import build, check
from model.data.report import Report
from model.data.splits import split_hash
from model.errors import ArchiveError
from model.items import ArchiveInfo, Item, ItemArchive

SPLITS = {"a": "train", "b": "unseen", "c": "query"}
INFO = ArchiveInfo(
    name="small",
    title="Small",
    source="a test",
    revision="1",
    licence="CC0",
    captions=("title",),
    class_names=("cat",),
    split_seed=1,
    split_hash=split_hash(SPLITS),
    notes={},
)
ITEMS = {
    item_id: Item(
        id=item_id,
        image=f"{item_id}.png",
        texts={"title": ("a cat",)},
        labels=("cat",),
        group=item_id,
        split=split,
        order=order,
        metadata={},
    )
    for order, (item_id, split) in enumerate(SPLITS.items())
}


def png() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (2, 2)).save(buffer, "PNG")
    return buffer.getvalue()


def findings(folder: Path, items: Mapping[str, Item], *, image: bytes | None = None) -> list[str]:
    path = folder / "a.zip"
    write_archive(path, INFO, list(items.values()), lambda _: png() if image is None else image)
    return check(ItemArchive.open(path)).sentences


def test_a_sound_archive_has_no_findings(tmp_path: Path) -> None:
    report = check(archive_of(tmp_path, {"a": noise(1), "b": noise(2), "c": noise(3)}))
    assert (report.ok, report.sentences) == (True, ["every item has the label 'cat'"])


@pytest.mark.parametrize(
    ("change", "finding"),
    [
        ({"split": "train"}, "expected split hash"),
        ({"split": "test"}, "found 'test'"),
        ({"group": "a"}, "cut apart by the splits query, train"),
        ({"order": 7}, "without gaps"),
        ({"labels": ()}, "expected labels in the query split"),
        ({"labels": ("dog",)}, "'dog' is not a class name"),
        ({"texts": {"title": ("",)}}, "expected a text in the caption variant title"),
    ],
)
def test_each_broken_promise_is_found(tmp_path: Path, change: Mapping[str, Any], finding: str) -> None:
    broken = {**ITEMS, "c": replace(ITEMS["c"], **change)}
    assert any(finding in text for text in findings(tmp_path, broken))


def test_an_image_that_does_not_decode_is_found(tmp_path: Path) -> None:
    assert sum("expected a whole image" in one for one in findings(tmp_path, ITEMS, image=b"no image")) == len(ITEMS)


def test_an_unknown_name_cannot_be_built(tmp_path: Path) -> None:
    with pytest.raises(ArchiveError, match=r"of coco, .*openclipart to build, found 'photos'"):
        build("photos", tmp_path)


def noise(seed: int, brighter: int = 0) -> bytes:
    pixels = np.random.default_rng(seed).integers(20, 220, (8, 8, 3), dtype=np.uint8)
    image = Image.fromarray(pixels).resize((64, 64), Image.Resampling.BICUBIC).point(lambda value: value + brighter)
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def archive_of(folder: Path, images: Mapping[str, bytes], items: Mapping[str, Item] = ITEMS) -> ItemArchive:
    info = replace(INFO, split_hash=split_hash({item.id: item.split for item in items.values()}))
    write_archive(folder / "a.zip", info, list(items.values()), lambda item: images[item.id])
    return ItemArchive.open(folder / "a.zip")


def kinds(report: Report) -> dict[str, int]:
    return {f"{one.level}: {one.kind}": one.count for one in report.findings}


def test_equal_and_similar_pictures_across_the_split_are_told_apart(tmp_path: Path) -> None:
    equal = archive_of(tmp_path, {"a": noise(1), "b": noise(2), "c": noise(1)})
    assert kinds(check(equal)) == {"error: equal images across splits": 1, "warning: label column of no use": 1}
    alike = archive_of(tmp_path, {"a": noise(1), "b": noise(2), "c": noise(1, brighter=2)})
    report = check(alike)
    assert report.ok
    assert "items a (train) and c (query) look alike" in report.sentences
    other = archive_of(tmp_path, {"a": noise(1), "b": noise(2), "c": noise(3)})
    assert list(kinds(check(other))) == ["warning: label column of no use"]


def test_a_missing_linked_picture_is_an_error(tmp_path: Path) -> None:
    with ArchiveWriter(tmp_path / "x" / "archive.sqlite", tmp_path) as writer:
        writer.add(ITEMS["a"])
        writer.finish(replace(INFO, split_seed=None))
    report = check(ItemArchive.open(tmp_path / "x" / "archive.sqlite"))
    assert (kinds(report)["error: missing or undecodable images"], report.ok) == (1, False)


def test_lengths_say_what_the_head_and_the_chunks_lose(tmp_path: Path) -> None:
    texts = ("word " * 3, "word " * 300, "word " * 2_500)
    items = {
        item_id: replace(ITEMS[item_id], texts={"title": (text,)}) for item_id, text in zip("abc", texts, strict=True)
    }
    lengths = check(archive_of(tmp_path, dict.fromkeys("abc", png()), items)).lengths["title"]
    assert (lengths.texts, lengths.pieces, lengths.longest, lengths.beyond_head) == (3, 2_803, 2_500, 2)
    assert (lengths.cut_by_head, lengths.cut) == (300 - 254 + 2_500 - 254, 2_500 - 8 * 254)
    assert dict(lengths.bins()) | {"1 to 8": 1, "255 to 508": 1, "2,033 and more": 1} == dict(lengths.bins())


def test_many_findings_of_one_kind_are_counted_and_some_are_shown(tmp_path: Path) -> None:
    items = {
        f"{number:03}": replace(
            ITEMS["a"], id=f"{number:03}", image=None, labels=("dog",), order=number, group=str(number)
        )
        for number in range(40)
    }
    report = check(archive_of(tmp_path, {}, items))
    unknown = next(one for one in report.findings if one.kind == "unknown labels")
    assert (unknown.count, len(unknown.examples)) == (40, 10)
    assert kinds(report)["warning: label column of no use"] == 1


def test_the_page_holds_the_pictures_and_nothing_that_acts(tmp_path: Path) -> None:
    evil = "<script>alert(1)</script>"
    items = {**ITEMS, "c": replace(ITEMS["c"], id=evil)}
    pictures = {"a": noise(1), "b": noise(2), evil: noise(1)}
    archive = archive_of(tmp_path, pictures, items)
    write_page(tmp_path / "page.html", check(archive), archive)
    page = (tmp_path / "page.html").read_text()
    assert "<script" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert page.count("data:image/webp;base64,") == 2
    assert page.count("<svg") == 2
    assert re.findall(r"(?:src|href)=.(?!data:|#)[^ >]*", page.replace("xlink:href", "")) == []

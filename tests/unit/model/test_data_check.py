import io
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from model.data.archive import write_archive
from model.data.registry import build, check
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
    return check(ItemArchive.open(path))


def test_a_sound_archive_has_no_findings(tmp_path: Path) -> None:
    assert findings(tmp_path, ITEMS) == []


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
    assert len(findings(tmp_path, ITEMS, image=b"no image")) == len(ITEMS)


def test_an_unknown_name_cannot_be_built(tmp_path: Path) -> None:
    with pytest.raises(ArchiveError, match=r"of coco, .*openclipart to build, found 'photos'"):
        build("photos", tmp_path)

from dataclasses import replace
from pathlib import Path

import pytest

from model.data.archive import write_archive
from model.errors import ArchiveError
from model.items import ArchiveInfo, Item, ItemArchive

INFO = ArchiveInfo(
    name="small",
    title="Small",
    source="a test",
    revision="1",
    licence="CC0",
    captions=("title",),
    class_names=("cat",),
    split_seed=None,
    split_hash="",
    notes={"rate": 0.5},
)


def item(item_id: str, text: str = "a cat") -> Item:
    return Item(
        id=item_id,
        image=f"images/{item_id}.webp",
        texts={"title": (text,)},
        labels=("cat",),
        group=item_id,
        split="",
        order=0,
        metadata={"tags": ["x"]},
    )


def image(wanted: Item) -> bytes:
    return b"image of " + wanted.id.encode()


def test_what_is_written_is_read_back_in_id_order(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.zip"
    write_archive(path, INFO, [item("b"), item("a")], image)
    archive = ItemArchive.open(path)
    assert archive.info == INFO
    assert archive.items == (item("a"), item("b"))
    assert archive.read_image(archive.items[1]) == b"image of b"


def test_the_same_items_give_the_same_bytes(tmp_path: Path) -> None:
    first, second = tmp_path / "1.zip", tmp_path / "2.zip"
    write_archive(first, INFO, [item("a"), item("b")], image)
    write_archive(second, INFO, [item("b"), item("a")], image)
    assert first.read_bytes() == second.read_bytes()


def test_line_separators_inside_a_text_do_not_split_its_line(tmp_path: Path) -> None:
    text = "one\u2028two\x85three\nfour"
    write_archive(tmp_path / "a.zip", INFO, [item("a", text)], image)
    assert ItemArchive.open(tmp_path / "a.zip").items[0].texts["title"] == (text,)


def test_a_failed_write_keeps_the_old_archive_and_leaves_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    write_archive(path, INFO, [item("a")], image)
    before = path.read_bytes()

    def fail(_: Item) -> bytes:
        raise OSError("disk gone")

    with pytest.raises(OSError, match="disk gone"):
        write_archive(path, INFO, [item("b")], fail)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_repeated_ids_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ArchiveError, match="repeats"):
        write_archive(tmp_path / "a.zip", INFO, [item("a"), item("a")], image)


def test_a_data_set_names_the_splits_of_its_database(tmp_path: Path) -> None:
    info = replace(INFO, split_seed=1, database=("train", "unseen", "validation"))
    items = [replace(item(split), split=split) for split in ("query", "train", "unseen", "validation")]
    write_archive(tmp_path / "a.zip", info, items, image)
    archive = ItemArchive.open(tmp_path / "a.zip")
    assert [one.split for one in archive.database()] == ["train", "unseen", "validation"]

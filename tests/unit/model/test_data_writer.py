"""The SQLite archive: written streaming, read lazily, checked, replaced whole."""

import dataclasses
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from model.data.archive import ArchiveWriter, write_archive
from model.errors import ArchiveError
from model.items import ArchiveInfo, Item, ItemArchive, find_archive, item_ids, list_archives, pairs, without

INFO = ArchiveInfo(
    name="small",
    title="Small",
    source="a test",
    revision="1",
    licence="CC0",
    captions=("title",),
    class_names=("cat",),
    split_seed=1,
    split_hash="",
    notes={"rate": 0.5},
)
SPLITS = ("train", "unseen", "query")


def item(number: int, *, image: bool = True) -> Item:
    return Item(
        id=f"item-{number:04}",
        image=f"images/{number}.png" if image else None,
        texts={"title": (f"title \u2028 {number}",)},
        labels=("cat",),
        group=f"group {number // 2}",
        split=SPLITS[number % 3],
        order=number,
        metadata={"tags": ["x", number]},
    )


def write(path: Path, items: list[Item], root: Path | None = None) -> ItemArchive:
    with ArchiveWriter(path, root) as writer:
        for one in items:
            writer.add(one, f"image of {one.id}".encode() if one.image is not None and root is None else None)
        writer.finish(INFO)
    return ItemArchive.open(path)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "small" / "archive.sqlite"


def test_what_is_written_is_read_back_in_id_order(path: Path) -> None:
    archive = write(path, [item(2), item(0), item(1, image=False)])
    assert archive.info == INFO
    assert list(archive.items) == [item(0), item(1, image=False), item(2)]
    assert archive.read_image(archive.items[2]) == b"image of item-0002"
    assert archive.first_damaged() is None


def test_items_are_a_sequence(path: Path) -> None:
    everything = [item(number) for number in range(1203)]
    items = write(path, everything[::-1]).items
    assert (len(items), items[-1], items[700]) == (1203, everything[-1], everything[700])
    assert list(items[3:1200:7]) == everything[3:1200:7]
    assert list(items[::-1]) == everything[::-1]
    assert list(items) == everything
    assert item(5) in items
    with pytest.raises(IndexError):
        items[1203]


def test_splits_and_pairs_stay_on_disk_and_keep_the_order(path: Path) -> None:
    everything = [item(number, image=number % 2 == 0) for number in range(30)]
    archive = write(path, everything)
    assert list(archive.select(("query",))) == everything[2::3]
    assert list(archive.database()) == [one for one in everything if one.split != "query"]
    queries = pairs(archive.select(("query",)), "title")
    assert list(queries) == [one for one in everything[2::3] if one.image is not None]
    assert list(item_ids(queries)) == [one.id for one in queries]
    assert list(pairs(archive.items, "other")) == []


def test_some_items_are_left_out_by_their_ids(path: Path) -> None:
    archive = write(path, [item(number) for number in range(1203)])
    left = without(archive.select(("query",)), {"item-0002", "item-1199", "item-0003", "another"})
    assert list(left) == [item(number) for number in range(5, 1203, 3) if number != 1199]
    assert list(left[1:3]) == [item(8), item(11)]
    assert without(archive.items, set()) is archive.items


def test_many_threads_read_at_once(path: Path) -> None:
    archive = write(path, [item(number) for number in range(300)])

    def read(_: int) -> list[bytes]:
        return [archive.read_image(one) for one in archive.items]

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(read, range(4)))
    assert found == [[f"image of item-{number:04}".encode() for number in range(300)]] * 4


def test_the_same_items_give_the_same_bytes(path: Path, tmp_path: Path) -> None:
    items = [item(number) for number in range(50)]
    write(path, items)
    write(tmp_path / "again" / "archive.sqlite", items)
    assert path.read_bytes() == (tmp_path / "again" / "archive.sqlite").read_bytes()


def test_an_opened_archive_goes_on_being_read_after_its_replacement(path: Path) -> None:
    before = write(path, [item(0), item(1)])
    after = write(path, [item(7)])
    assert [one.id for one in before.items] == ["item-0000", "item-0001"]
    assert before.read_image(before.items[1]) == b"image of item-0001"
    assert [one.id for one in after.items] == ["item-0007"]


def test_without_finish_the_old_archive_stays_and_nothing_else(path: Path) -> None:
    write(path, [item(0)])
    before = path.read_bytes()

    def cut() -> None:
        with ArchiveWriter(path) as writer:
            writer.add(item(1), b"x")
            raise OSError("disk gone")

    with pytest.raises(OSError, match="disk gone"):
        cut()
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_a_failed_first_write_leaves_no_folder(path: Path) -> None:
    with ArchiveWriter(path) as writer:
        writer.add(item(1), b"x")
    assert not path.parent.exists()


def test_a_repeated_id_is_named(path: Path) -> None:
    with ArchiveWriter(path) as writer:
        writer.add(item(1), b"x")
        with pytest.raises(ArchiveError, match=r"found 'item-0001' twice"):
            writer.add(dataclasses.replace(item(2), id="item-0001"), b"y")


def test_an_image_goes_with_its_item(path: Path, tmp_path: Path) -> None:
    with ArchiveWriter(path) as writer, pytest.raises(ArchiveError, match="expected the bytes of its image"):
        writer.add(item(1))
    with ArchiveWriter(path, tmp_path) as writer, pytest.raises(ArchiveError, match="expected no bytes"):
        writer.add(item(1), b"x")
    with ArchiveWriter(path) as writer, pytest.raises(ArchiveError, match="at most 67,108,864 bytes"):
        writer.add(item(1), bytes(64 * 2**20 + 1))


def test_groups_splits_and_order_can_be_assigned_when_all_items_are_there(path: Path) -> None:
    with ArchiveWriter(path) as writer:
        writer.add(item(0), b"x")
        writer.assign([("item-0000", "g", "validation", 7)])
        writer.finish(INFO)
    archive = ItemArchive.open(path)
    assert list(archive.select(["validation"])) == [
        dataclasses.replace(item(0), group="g", split="validation", order=7)
    ]
    assert archive.first_damaged() is None


def test_images_can_stay_where_they_are(path: Path, tmp_path: Path) -> None:
    root = tmp_path / "photos"
    (root / "images").mkdir(parents=True)
    (root / "images" / "0.png").write_bytes(b"zero")
    (tmp_path / "secret.png").write_bytes(b"secret")
    climbing = dataclasses.replace(item(2), image="../secret.png")
    archive = write(path, [item(0), item(1), climbing], root)
    assert archive.read_image(archive.items[0]) == b"zero"
    with pytest.raises(ArchiveError, match=r"item item-0001: no file .*expected it at .*photos/images/1\.png"):
        archive.read_image(archive.items[1])
    with pytest.raises(ArchiveError, match="leads out of the folder"):
        archive.read_image(archive.items[2])


def change(path: Path, statement: str) -> None:
    with sqlite3.connect(path) as database:
        database.execute(statement)
    database.close()


def test_a_newer_format_is_refused_by_name(path: Path) -> None:
    write(path, [item(0)])
    change(path, "PRAGMA user_version = 3")
    with pytest.raises(ArchiveError, match="archive format 3, this version reads 2"):
        ItemArchive.open(path)


def test_another_sqlite_file_is_no_archive(path: Path) -> None:
    path.parent.mkdir(parents=True)
    change(path, "CREATE TABLE facts (key, value)")
    with pytest.raises(ArchiveError, match="is a SQLite file, but no data archive"):
        ItemArchive.open(path)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.95])
def test_a_half_copied_archive_is_refused(path: Path, share: float) -> None:
    write(path, [item(number) for number in range(500)])
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(ArchiveError, match=r"archive\.sqlite"):
        ItemArchive.open(path)


def test_damage_is_found_and_named(path: Path) -> None:
    write(path, [item(0), item(1)])
    change(path, "UPDATE images SET data = x'00' WHERE seq = 2")
    archive = ItemArchive.open(path)
    assert archive.first_damaged() == "the image of item item-0001"
    with pytest.raises(ArchiveError, match="does not match its checksum"):
        archive.read_image(archive.items[1])
    change(path, "UPDATE items SET split = 'query' WHERE seq = 1")
    assert ItemArchive.open(path).first_damaged() == "the table of items"


def test_damaged_pages_are_an_error_of_the_archive(path: Path) -> None:
    write(path, [item(number) for number in range(500)])
    data = bytearray(path.read_bytes())
    data[5 * 4096 :] = bytes(len(data) - 5 * 4096)
    path.write_bytes(data)
    archive = ItemArchive.open(path)
    with pytest.raises(ArchiveError, match="is damaged"):
        list(archive.items)
    assert "cannot be read at all" in (archive.first_damaged() or "")


def test_both_kinds_of_file_are_found_and_sqlite_counts(path: Path) -> None:
    old = path.with_name("archive.zip")
    write_archive(old, INFO, [item(0)], lambda one: b"x")
    data_dir = path.parent.parent
    assert find_archive("small", data_dir) == old
    assert len(ItemArchive.open(old).items) == 1
    write(path, [item(0), item(1)])
    assert find_archive("small", data_dir) == path
    assert list_archives(data_dir) == ["openclipart", "small"]

from pathlib import Path

import pytest

from model.data.folder import read_folder
from model.data.records import Record, Skipped, Source
from model.errors import ArchiveError


def records(source: Source) -> list[Record]:
    return [row for row in source.rows() if isinstance(row, Record)]


def skipped(source: Source) -> list[Skipped]:
    return [row for row in source.rows() if isinstance(row, Skipped)]


def put(folder: Path, *names: str, text: str = "") -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def test_images_are_listed_in_the_order_of_their_names(tmp_path: Path) -> None:
    put(tmp_path, "b.PNG", "a.jpg", "sub/c.webp", "sub/deep/d.tiff")
    assert [record.where for record in records(read_folder(tmp_path))] == [
        "a.jpg",
        "b.PNG",
        "sub/c.webp",
        "sub/deep/d.tiff",
    ]


def test_a_caption_file_beside_the_image_gives_a_text_a_line(tmp_path: Path) -> None:
    put(tmp_path, "a.jpg", "b.jpg")
    put(tmp_path, "a.txt", text="\ufeffa red apple\n\n  on a table  \n")
    put(tmp_path, "b.jpg.txt", text="a pear")
    assert [record.texts for record in records(read_folder(tmp_path))] == [("a red apple", "on a table"), ("a pear",)]


def test_without_a_caption_the_files_name_is_the_text(tmp_path: Path) -> None:
    put(tmp_path, "red-apple_02.jpg", "pear.jpg")
    put(tmp_path, "pear.txt", text="\n")
    assert {record.id: record.texts for record in records(read_folder(tmp_path))} == {
        "red-apple_02.jpg": ("red apple",),
        "pear.jpg": ("pear",),
    }


def test_where_an_image_was_found_is_kept_as_metadata(tmp_path: Path) -> None:
    put(tmp_path, "my trip/a b.jpg")
    record = records(read_folder(tmp_path))[0]
    assert record.metadata == {"file": "my trip/a b.jpg"}
    assert record.id.startswith("my-trip-a-b.jpg-")


def test_hidden_files_and_folders_are_no_part_of_it(tmp_path: Path) -> None:
    put(tmp_path, "a.jpg", ".hidden.jpg", ".git/b.jpg", "__MACOSX/c.jpg", ".DS_Store")
    source = read_folder(tmp_path)
    assert [record.where for record in records(source)] == ["a.jpg"]
    assert skipped(source) == []


def test_other_files_are_counted_by_their_suffix(tmp_path: Path) -> None:
    put(tmp_path, "a.jpg", "1.heic", "2.HEIC", "film.mov", "README")
    assert [one.where for one in skipped(read_folder(tmp_path))] == ["2 .heic files", "1 .mov file", "1 README file"]


def test_links_to_folders_are_skipped(tmp_path: Path) -> None:
    put(tmp_path, "photos/a.jpg", "elsewhere/b.jpg")
    (tmp_path / "photos" / "linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "photos" / "loop").symlink_to(tmp_path / "photos")
    source = read_folder(tmp_path / "photos")
    assert [record.where for record in records(source)] == ["a.jpg"]
    assert [one.where for one in skipped(source)] == ["linked", "loop"]


def test_a_caption_that_is_a_link_is_not_followed(tmp_path: Path) -> None:
    put(tmp_path, "photos/apple.jpg")
    put(tmp_path, "secret", text="secret")
    (tmp_path / "photos" / "apple.txt").symlink_to(tmp_path / "secret")
    assert records(read_folder(tmp_path / "photos"))[0].texts == ("apple",)


@pytest.mark.parametrize(
    ("caption", "reason"), [(b"\xff\xfe", "a.txt is not UTF-8"), (b"x" * 65_537, "at most 65,536 bytes")]
)
def test_a_caption_that_is_no_small_text_leaves_its_image_out(tmp_path: Path, caption: bytes, reason: str) -> None:
    put(tmp_path, "a.jpg", "b.jpg")
    (tmp_path / "a.txt").write_bytes(caption)
    source = read_folder(tmp_path)
    assert [record.where for record in records(source)] == ["b.jpg"]
    assert reason in skipped(source)[0].reason


def test_a_folder_without_images_says_what_it_found(tmp_path: Path) -> None:
    put(tmp_path, "a.heic")
    with pytest.raises(ArchiveError, match=r"expected images to import, found none \(1 \.heic file"):
        read_folder(tmp_path)

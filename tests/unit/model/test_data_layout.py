from pathlib import Path

import numpy as np
import pytest
from benchmark_files import write_image
from rich.progress import Progress

from model.data.layout import ImageFolder, Rows, find_images, find_layout, read_layout, write_layout
from model.errors import ArchiveError

SILENT = Progress(disable=True)
LABELS = np.array([[1, 0], [0, 1], [1, 1]], dtype=np.uint8)
ROWS = Rows(["a/1.jpg", "b/2.jpg", "3.jpg"], [("a dog", "a brown dog"), ("sky",), ()], LABELS, ("dog", "sky"))


@pytest.fixture
def images(tmp_path: Path) -> Path:
    for number, name in enumerate(["pictures/a/1.jpg", "pictures/b/2.jpg", "3.jpg", "pictures/c/2.jpg"]):
        write_image(tmp_path / "images" / name, number)
    return tmp_path / "images"


@pytest.mark.parametrize("lines", [False, True])
def test_a_written_layout_is_read_back(tmp_path: Path, lines: bool) -> None:
    write_layout(tmp_path, ROWS, caption_lines=lines, progress=SILENT)
    read = read_layout(tmp_path, SILENT)
    assert list(read.paths) == list(ROWS.paths)
    assert list(read.captions) == ([("a dog a brown dog",), ("sky",), ()] if lines else list(ROWS.captions))
    np.testing.assert_array_equal(read.labels, ROWS.labels)
    assert read.class_names == ROWS.class_names
    assert find_layout(tmp_path) == tmp_path
    assert {path.name for path in tmp_path.iterdir()} == {
        *("index.mat", "label.mat", "classes.txt"),
        "caption.txt" if lines else "caption.mat",
    }


def test_the_digest_depends_on_the_order_of_the_rows() -> None:
    turned = Rows(ROWS.paths[::-1], ROWS.captions[::-1], LABELS[::-1], ROWS.class_names)
    assert ROWS.digest() != turned.digest()
    assert ROWS.digest() == Rows(tuple(ROWS.paths), ROWS.captions, LABELS.copy(), None).digest()


def test_a_layout_without_labels_names_the_missing_file(tmp_path: Path) -> None:
    write_layout(tmp_path, ROWS, caption_lines=False, progress=SILENT)
    (tmp_path / "label.mat").unlink()
    with pytest.raises(ArchiveError, match=r"expected a file label\.mat or label\.npy, found none"):
        read_layout(tmp_path, SILENT)


@pytest.mark.parametrize(
    ("written", "found"),
    [
        ("1.jpg", "pictures/a/1.jpg"),
        ("a/1.jpg", "pictures/a/1.jpg"),
        ("./pictures/a/1.jpg", "pictures/a/1.jpg"),
        (r"D:\data set\pictures\a\1.jpg", "pictures/a/1.jpg"),
        ("/home/somebody/nuswide/Flickr/a/1.jpg", "pictures/a/1.jpg"),
        ("c/2.jpg", "pictures/c/2.jpg"),
        (r"E:\x\b\2.jpg", "pictures/b/2.jpg"),
        ("elsewhere/3.jpg", "3.jpg"),
        ("4.jpg", None),
    ],
)
def test_an_image_is_found_by_its_name_and_the_folders_that_agree(
    images: Path, written: str, found: str | None
) -> None:
    assert ImageFolder(images).find(written, "row 1") == found


def test_an_image_that_could_be_two_files_is_refused(images: Path) -> None:
    with pytest.raises(ArchiveError, match=r"row 1: '2\.jpg' could be pictures/b/2\.jpg or pictures/c/2\.jpg"):
        ImageFolder(images).find("2.jpg", "row 1")


@pytest.mark.parametrize("written", ["../1.jpg", "a/../../1.jpg", r"..\..\secret.jpg", "/etc/../1.jpg", "", "."])
def test_a_path_that_climbs_out_is_refused(images: Path, written: str) -> None:
    with pytest.raises(ArchiveError, match=r"index, row 7: .* leads out of the folder of the images"):
        ImageFolder(images).find(written, "index, row 7")


def test_missing_images_are_counted_and_the_first_is_named(images: Path) -> None:
    rows = Rows(["1.jpg", "x/8.jpg", "9.jpg"], ROWS.captions, LABELS, None)
    with pytest.raises(ArchiveError, match=r"index, row 2: expected an image 'x/8\.jpg' .* \(2 of 3 rows lack"):
        find_images(ImageFolder(images), rows)


def test_two_rows_of_one_image_are_refused(images: Path) -> None:
    rows = Rows(["1.jpg", "3.jpg", "a/1.jpg"], ROWS.captions, LABELS, None)
    with pytest.raises(ArchiveError, match=r"index, rows 1 and 3: expected different images"):
        find_images(ImageFolder(images), rows)


def test_links_to_folders_are_not_followed(images: Path, tmp_path: Path) -> None:
    write_image(tmp_path / "outside" / "8.jpg", 8)
    (images / "linked").symlink_to(tmp_path / "outside")
    assert ImageFolder(images).find("8.jpg", "row 1") is None

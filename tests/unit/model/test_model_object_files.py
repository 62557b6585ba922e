"""Images in an object store; ``fsspec``'s file system in memory stands in for it."""

from collections.abc import Iterator

import fsspec
import pytest

from model import object_files
from model.errors import ArchiveError
from model.object_files import ObjectFolder


@pytest.fixture
def folder() -> Iterator[ObjectFolder]:
    """One below a prefix, with an object in it and one beside it."""
    store = fsspec.filesystem("memory")
    store.pipe({"bucket/photos/a.png": b"picture", "bucket/other.png": b"secret"})
    folder = ObjectFolder("s3://bucket/photos/")
    folder.__dict__["_store"] = store
    yield folder
    store.rm("bucket", recursive=True)


def test_an_object_below_the_prefix_is_read(folder: ObjectFolder) -> None:
    folder.check("a.png")
    assert folder.read("a.png") == b"picture"
    assert str(folder) == "s3://bucket/photos"


def test_a_missing_object_is_named(folder: ObjectFolder) -> None:
    with pytest.raises(ArchiveError, match=r"no object 'b\.png' below s3://bucket/photos"):
        folder.read("b.png")


@pytest.mark.parametrize("name", ["../other.png", "x/../../other.png", "/other.png", "./a.png", "x//a.png", ""])
def test_no_name_leads_out_of_the_prefix(folder: ObjectFolder, name: str) -> None:
    with pytest.raises(ArchiveError, match="leads out of the folder of the images"):
        folder.read(name)


def test_no_more_than_the_limit_is_fetched(folder: ObjectFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    fetched = []

    def cat_file(path: str, start: int, end: int) -> bytes:
        fetched.append((path, start, end))
        return b"picture"[start:end]

    monkeypatch.setattr(folder._store, "cat_file", cat_file)
    monkeypatch.setattr(object_files, "MAX_IMAGE_BYTES", 5)
    with pytest.raises(ArchiveError, match="expected an object of at most 5 bytes, found more"):
        folder.read("a.png")
    assert fetched == [("bucket/photos/a.png", 0, 6)]


@pytest.mark.parametrize("url", ["s3://", "s3:///photos", "https://example.org/photos"])
def test_an_address_names_a_bucket(url: str) -> None:
    with pytest.raises(ArchiveError, match="expected s3://BUCKET"):
        ObjectFolder(url)

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import model.data
from model.data.registry import build, check, data_sets
from model.errors import ArchiveError
from model.items import ItemArchive

TOYS = """
from model.data.archive import ArchiveWriter
from model.data.dataset import DataSet
from model.items import ArchiveInfo, Item


def build(folder, *, source, images, progress):
    path = folder / "archive.sqlite"
    with ArchiveWriter(path) as writer:
        for order, text in enumerate(source.read_text().splitlines()):
            writer.add(Item(f"toy-{order}", None, {"text": (text,)}, (), f"toy-{order}", "", order, {}))
        writer.finish(ArchiveInfo("toys", "Toys", "a test", "1", "CC0", ("text",), (), None, "", {}))
    return path


DATA_SET = DataSet("toys", build, lambda archive: {"items": 3})
"""


@pytest.fixture
def toys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A data set that is one new file, in a folder of the package, and its source."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "toys.py").write_text(TOYS)
    monkeypatch.setattr(model.data, "__path__", [*model.data.__path__, str(tmp_path / "data")])
    source = tmp_path / "toys.txt"
    source.write_text("a doll\na ball\na kite\n")
    yield source
    sys.modules.pop("model.data.toys", None)


def test_the_data_sets_are_those_whose_module_says_so() -> None:
    assert set(data_sets()) == {"coco", "mirflickr25k", "nuswide", "openclipart"}


def test_a_data_set_that_is_one_new_file_is_built_and_checked(tmp_path: Path, toys: Path) -> None:
    archive = ItemArchive.open(build("toys", tmp_path / "out", source=toys))
    assert [item.texts["text"] for item in archive.items] == [("a doll",), ("a ball",), ("a kite",)]
    assert check(archive).sentences == []


def test_its_expected_counts_are_checked(tmp_path: Path, toys: Path) -> None:
    toys.write_text("a doll\n")
    archive = ItemArchive.open(build("toys", tmp_path / "out", source=toys))
    assert check(archive).sentences == ["expected 3 of items, found 1"]


def test_a_data_set_without_images_of_its_own_refuses_them_by_name(tmp_path: Path) -> None:
    with pytest.raises(ArchiveError, match="--images: openclipart takes none"):
        build("openclipart", tmp_path, images=tmp_path)

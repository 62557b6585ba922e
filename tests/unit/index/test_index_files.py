import sqlite3
from pathlib import Path

import numpy as np
import pytest

from index.errors import IndexCorrupt
from index.files import map_codes, map_rows
from index.item_file import ItemFile


def test_mapped_codes_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "image.codes").write_bytes(bytes(6))
    codes = map_codes(tmp_path / "image.codes", 3, 16)
    assert codes.shape == (3, 2)
    with pytest.raises(ValueError, match="read-only"):
        codes[0] = 1


def test_no_codes_are_mapped_as_none(tmp_path: Path) -> None:
    (tmp_path / "image.rows").touch()
    assert map_rows(tmp_path / "image.rows", 0).dtype == np.dtype("<i8")


@pytest.mark.parametrize("size", [None, 15, 17])
def test_a_file_of_another_size_is_not_mapped(tmp_path: Path, size: int | None) -> None:
    if size is not None:
        (tmp_path / "image.rows").write_bytes(bytes(size))
    with pytest.raises(IndexCorrupt, match=r"image\.rows: expected 16 bytes"):
        map_rows(tmp_path / "image.rows", 2)


def test_a_database_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(IndexCorrupt, match=r"cannot open .*items\.sqlite"):
        ItemFile(tmp_path / "items.sqlite")


def test_a_path_with_special_characters_is_opened(tmp_path: Path) -> None:
    path = tmp_path / "a?b#c%20d" / "items.sqlite"
    path.parent.mkdir()
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE items (row, id)")
    connection.close()
    items = ItemFile(path)
    assert list(items.ids()) == []
    items.close()

import sqlite3
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from index.errors import IndexCorrupt
from index.files import describe
from index.manifest import GenerationManifest
from index.search import NumpyEngine
from index.snapshot import Snapshot, verify_index


def alter(index_dir: Path, name: str, change: Callable[[Path], None]) -> None:
    """Change a file and bring its checksum up to date: what a faulty writer would have left."""
    generation = index_dir / "generation-000001"
    change(generation / name)
    manifest = GenerationManifest.load(generation / "manifest.json")
    files = {**manifest.files, name: describe(generation / name)}
    replace(manifest, files=files).save(generation / "manifest.json")


@pytest.mark.parametrize("rows", [[0, 2, 1, 3], [-1, 0, 1, 2], [0, 1, 2, 5]])
def test_rows_that_are_not_those_of_items_are_found(index_dir: Path, rows: list[int]) -> None:
    alter(index_dir, "image.rows", np.array(rows, dtype="<i8").tofile)
    with pytest.raises(IndexCorrupt, match=r"image\.rows: expected ascending rows of 5 items"):
        verify_index(index_dir)


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("UPDATE items SET id = 'zz' WHERE row = 1", "not in item-id order at row 2"),
        ("UPDATE items SET row = 9 WHERE row = 4", "not in item-id order at row 9"),
        ("DELETE FROM items WHERE row = 4", "expected 5 items, found 4"),
    ],
)
def test_items_out_of_order_are_found(index_dir: Path, statement: str, message: str) -> None:
    def change(path: Path) -> None:
        connection = sqlite3.connect(path)
        connection.execute(statement)
        connection.commit()
        connection.close()

    alter(index_dir, "items.sqlite", change)
    with pytest.raises(IndexCorrupt, match=message):
        verify_index(index_dir)


def test_an_engine_that_does_not_find_an_item_by_its_own_code_is_found(snapshot: Snapshot) -> None:
    snapshot._generation.columns["image"]._engine = NumpyEngine(np.full((4, 2), 170, dtype=np.uint8))
    with pytest.raises(IndexCorrupt, match=r"image\.codes: code 0 does not find its own item"):
        snapshot.verify()

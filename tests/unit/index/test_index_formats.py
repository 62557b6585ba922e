"""An index of every format that was ever released still opens, answers and can be edited."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from index.compaction import compact
from index.editing import NewItem, editing
from index.errors import IndexFormatUnsupported
from index.generations import IndexDirectory
from index.manifest import FORMAT, Pointer
from index.presence import PresenceCounts
from index.snapshot import Snapshot, verify_index

FIXTURES = Path(__file__).parents[2] / "fixtures" / "indexes"
HELD = {1: "abcd", 2: "xybd", 3: "xybd"}  # by distance from the code of zeros


@pytest.fixture(params=sorted(HELD))
def released(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, str]:
    """A copy of the index of one format, and the ids of its items that have an image."""
    name = f"format-{request.param}"
    shutil.copytree(FIXTURES / name, tmp_path / name)
    return tmp_path / name, HELD[request.param]


def found(index_dir: Path) -> str:
    with Snapshot.open(index_dir) as snapshot:
        query = np.zeros((1, 2), dtype=np.uint8)
        answer = snapshot.search("image", query, k=None, radius=None, limit=9, fingerprint="fingerprint")[0]
        return "".join(item.id for item in snapshot.items([hit.row for hit in answer.hits]))


def test_there_is_an_index_of_every_format() -> None:
    assert sorted(path.name for path in FIXTURES.iterdir()) == [f"format-{number}" for number in range(1, FORMAT + 1)]


def test_it_opens_and_passes_verification(released: tuple[Path, str]) -> None:
    path, held = released
    assert found(path) == held
    verify_index(path)
    with Snapshot.open(path) as snapshot:
        assert snapshot.thumbnail("b") == b"webp of b"
        assert snapshot.thumbnail_bytes() > 0


def test_it_takes_edits_and_merges_them(released: tuple[Path, str], make_item: Callable[..., Any]) -> None:
    path, held = released
    with editing(path) as editor:
        editor.append([NewItem(make_item("0", 0), b"image", {})], fingerprint="fingerprint")
        editor.delete(["b"])
    expected = ("0" + held).replace("b", "")
    assert found(path) == expected
    compact(path)
    assert found(path) == expected
    verify_index(path)


def test_pair_codes_say_what_they_were_made_from() -> None:
    with Snapshot.open(FIXTURES / "format-3") as snapshot:
        presences = "".join(str(int(snapshot.item(item_id).presence)) for item_id in "bdexy")
        assert presences == "13233"
        assert snapshot.presence_counts() == PresenceCounts(image_and_text=3, image_only=1, text_only=1)


def test_a_newer_format_is_refused_by_name(tmp_path: Path) -> None:
    shutil.copytree(FIXTURES / "format-1", tmp_path / "demo")
    manifest = IndexDirectory(tmp_path / "demo").manifest(1)
    Pointer(FORMAT + 1, manifest.artifact, manifest.fingerprint, 1).save(tmp_path / "demo" / "CURRENT")
    with pytest.raises(IndexFormatUnsupported, match=rf"CURRENT has format {FORMAT + 1}, this version reads up to"):
        Snapshot.open(tmp_path / "demo")

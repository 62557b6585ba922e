"""A small index on disk, and the makers of its items."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pytest
from numpy.typing import NDArray

from index.generations import IndexDirectory
from index.snapshot import Snapshot
from index.writer import GenerationSpec, IndexedItem, write_generation

BITS = 16


class ItemMaker(Protocol):
    def __call__(self, item_id: str, *image: int, **changes: Any) -> IndexedItem: ...  # noqa: ANN401 - dataclass fields


SpecMaker = Callable[..., GenerationSpec]


def code(*values: int) -> NDArray[np.uint8]:
    """One (n, 2) array of codes from 16-bit numbers."""
    return np.array(values, dtype="<u2").view(np.uint8).reshape(len(values), BITS // 8)


@pytest.fixture
def make_item() -> ItemMaker:
    """An item with one image code for each number given."""

    def make(item_id: str, *image: int, **changes: Any) -> IndexedItem:  # noqa: ANN401 - dataclass fields
        fields = {
            "id": item_id,
            "content_hash": f"hash of {item_id}",
            "text": f"text of {item_id}",
            "metadata": {},
            "thumbnail": None,
            "codes": {"image": code(*image)} if image else {},
        }
        return IndexedItem(**(fields | changes))

    return make


@pytest.fixture
def make_spec() -> SpecMaker:
    """A generation spec of the index ``demo``."""

    def make(**changes: object) -> GenerationSpec:
        fields: dict[str, Any] = {
            "index": "demo",
            "bits": BITS,
            "artifact": "artifact",
            "fingerprint": "fingerprint",
            "device_kind": "cpu",
            "source": "source",
            "texts": "first",
        }
        return GenerationSpec(**(fields | changes))

    return make


@pytest.fixture
def items(make_item: ItemMaker) -> list[IndexedItem]:
    """Five items, not in id order; two share a code, one has two texts, one has no image."""
    return [
        make_item("b", 0b1, metadata={"year": 2001, "labels": ["bird", "cat"], "ok": True}, thumbnail=b"webp of b"),
        make_item("a", 0b0, metadata={"year": 2000, "labels": ["cat"], "ok": False}, thumbnail=b"webp of a"),
        make_item("e", metadata={"year": 2004, "labels": []}, codes={"text": code(0b0)}),
        make_item("c", 0b1, metadata={"year": 2002.5, "labels": ["dog"], "mixed": "one"}),
        make_item("d", codes={"image": code(0xFFFF), "text": code(0b111, 0b1)}, metadata={"year": 2003, "mixed": 1}),
    ]


@pytest.fixture
def index_dir(tmp_path: Path, items: list[IndexedItem], make_spec: SpecMaker) -> Path:
    """The index ``demo`` with generation 1 active."""
    path = tmp_path / "indexes" / "demo"
    write_generation(path, make_spec(), items)
    IndexDirectory(path).activate(1)
    return path


@pytest.fixture
def snapshot(index_dir: Path) -> Iterator[Snapshot]:
    """The active generation of ``demo``, opened."""
    with Snapshot.open(index_dir) as opened:
        yield opened

"""Merging edits into a new generation, and what rollback and foreign edits mean afterwards."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from index.compaction import compact
from index.editing import NewItem, editing
from index.errors import IndexMoved, ItemsNotEncoded
from index.generations import IndexDirectory
from index.snapshot import Snapshot, verify_index
from index.writer import IndexedItem, write_generation

Make = Callable[..., Any]


def edit(index_dir: Path, *items: IndexedItem, gone: tuple[str, ...] = (), fingerprint: str = "fingerprint") -> None:
    with editing(index_dir) as editor:
        editor.append([NewItem(item, b"image", {"id": item.id}) for item in items], fingerprint=fingerprint)
        editor.delete(gone)


def found(index_dir: Path, generation: int | None = None) -> str:
    with Snapshot.open(index_dir, generation) as snapshot:
        query = np.zeros((1, 2), dtype=np.uint8)
        answer = snapshot.search("image", query, k=None, radius=None, limit=50, fingerprint=None)[0]
        return "".join(item.id for item in snapshot.items([hit.row for hit in answer.hits]))


def stored(index_dir: Path) -> set[bytes]:
    return {path.read_bytes() for path in (index_dir / "items").rglob("*") if path.is_file()}


def test_a_compacted_index_holds_the_same_items(index_dir: Path, make_item: Make) -> None:
    new = make_item("x", 0b1, metadata={"year": 9}, thumbnail=b"webp of x", codes={"text": np.ones((3, 2), np.uint8)})
    edit(index_dir, new, make_item("b", 0b111), gone=("c",))
    with Snapshot.open(index_dir) as before:
        compact(index_dir)
        with Snapshot.open(index_dir) as after:
            assert (after.generation, after.edits, after.position, after.manifest.log_position) == (2, 0, 3, 3)
            assert after.item_count == before.item_count == after.manifest.items == 5
            for item_id in ("a", "b", "d", "e", "x"):
                one, other = before.item(item_id), after.item(item_id)
                assert (one.content_hash, one.text, one.metadata, one.codes) == (
                    (other.content_hash, other.text, other.metadata, other.codes)
                )
                assert before.thumbnail(item_id) == after.thumbnail(item_id)
            assert after.manifest.created >= before.manifest.created
    assert verify_index(index_dir).items == 5


def test_an_index_without_edits_has_nothing_to_merge(index_dir: Path, make_item: Make) -> None:
    assert compact(index_dir) is None
    edit(index_dir, make_item("x", 0))
    assert compact(index_dir) is not None
    assert compact(index_dir) is None
    assert IndexDirectory(index_dir).generations() == [1, 2]


def test_as_many_generations_stay_as_are_asked_for(index_dir: Path, make_item: Make) -> None:
    for number in range(3):
        edit(index_dir, make_item("x", number))
        compact(index_dir, keep=3)
    assert IndexDirectory(index_dir).generations() == [2, 3, 4]
    edit(index_dir, make_item("x", 9))
    compact(index_dir, keep=1)
    assert IndexDirectory(index_dir).generations() == [5]


def test_edits_made_while_merging_come_on_top(index_dir: Path, make_item: Make) -> None:
    edit(index_dir, make_item("x", 0))
    during = iter([lambda: edit(index_dir, make_item("y", 0), gone=("x", "a"))])
    compact(index_dir, progress=lambda _: next(during, lambda: None)())
    assert found(index_dir) == "ybcd"
    with Snapshot.open(index_dir) as snapshot:
        assert (snapshot.manifest.log_position, snapshot.position, snapshot.edits) == (1, 4, 3)


def test_the_log_is_condensed_and_what_nothing_names_is_deleted(index_dir: Path, make_item: Make) -> None:
    for text in ("one", "two"):
        edit(index_dir, make_item("x", 0, thumbnail=text.encode()), make_item("y", 0, thumbnail=b"gone"))
    edit(index_dir, gone=("y",))
    compact(index_dir)
    assert stored(index_dir) & {b"one", b"two", b"gone"} == {b"two"}
    assert sorted(path.name for path in (index_dir / "log").iterdir()) == ["000000000001.log", "000000000006.log"]


def test_edits_outlive_a_rollback_and_the_way_back(index_dir: Path, make_item: Make) -> None:
    edit(index_dir, make_item("x", 0), gone=("a",))
    compact(index_dir)
    directory = IndexDirectory(index_dir)
    directory.rollback()
    assert found(index_dir) == "xbcd"
    edit(index_dir, make_item("y", 0), gone=("x",))
    assert found(index_dir) == "ybcd"
    directory.activate(2)
    assert found(index_dir) == "ybcd"
    compact(index_dir)
    assert found(index_dir) == "ybcd"
    assert directory.generations() == [2, 3]


def test_a_generation_from_elsewhere_takes_over_the_edits(
    index_dir: Path, items: list[IndexedItem], make_item: Make, make_spec: Make
) -> None:
    edit(index_dir, make_item("x", 0), make_item("b", 0), gone=("a",))
    compact(index_dir)
    rebuilt = write_generation(index_dir, make_spec(), [*items, make_item("z", 0b111)])
    IndexDirectory(index_dir).activate(rebuilt.generation)
    assert found(index_dir) == "bxczd"
    compact(index_dir)
    assert found(index_dir) == "bxczd"


def test_edits_of_another_model_wait_for_its_codes(
    index_dir: Path, items: list[IndexedItem], make_item: Make, make_spec: Make
) -> None:
    edit(index_dir, make_item("x", 0), make_item("b", 0), gone=("a",))
    other = write_generation(index_dir, make_spec(fingerprint="other"), items)
    directory = IndexDirectory(index_dir)
    directory.activate(other.generation)
    with Snapshot.open(index_dir) as snapshot:
        assert [one.id for one in snapshot.pending] == ["b", "x"]
        assert (snapshot.has("x"), snapshot.item_count) == (True, 3)
    assert found(index_dir) == "cd"
    with pytest.raises(ItemsNotEncoded, match="found 2 without, such as 'b'"):
        compact(index_dir)
    edit(index_dir, make_item("x", 0), make_item("b", 0), fingerprint="other")
    assert found(index_dir) == "bxcd"
    assert found(index_dir, 1) == "bxcd"
    compact(index_dir)
    assert found(index_dir) == "bxcd"


def test_another_generation_made_meanwhile_is_kept(
    index_dir: Path, items: list[IndexedItem], make_item: Make, make_spec: Make
) -> None:
    edit(index_dir, make_item("x", 0))
    directory = IndexDirectory(index_dir)
    during = iter([lambda: directory.activate(write_generation(index_dir, make_spec(), items).generation)])
    with pytest.raises(IndexMoved, match="compact again"):
        compact(index_dir, progress=lambda _: next(during, lambda: None)())
    current = directory.current()
    assert current is not None
    assert (current.generation, directory.generations()) == (3, [1, 3])
    assert found(index_dir) == "axbcd"


def test_a_merge_that_fails_half_way_lets_go_of_the_index(index_dir: Path, make_item: Make) -> None:
    edit(index_dir, make_item("x", 0))

    def fail(_: int) -> None:
        raise OSError("no space left on device")

    with pytest.raises(OSError, match="no space left"):
        compact(index_dir, progress=fail)
    assert found(index_dir) == "axbcd"
    assert IndexDirectory(index_dir).generations() == [1]

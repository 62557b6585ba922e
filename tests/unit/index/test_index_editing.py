"""Append, replace and delete: what a search sees, what is refused, and what happens on a full disk."""

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from index.editing import NewItem, editing
from index.errors import (
    IndexCorrupt,
    IndexLocked,
    IndexNotFound,
    InvalidItem,
    ItemNotFound,
    ModelMismatch,
    SearchError,
    TooManyEdits,
)
from index.filters import FieldType
from index.generations import IndexDirectory
from index.originals import Originals
from index.presence import Presence
from index.ranking import TieGroup
from index.snapshot import Answer, Snapshot, verify_index
from index.writer import write_generation

Make = Callable[..., Any]
ZERO = np.zeros((1, 2), dtype=np.uint8)


@pytest.fixture
def new(make_item: Make) -> Make:
    """An item to append, with one image code for each number given."""

    def make(item_id: str, *image: int, **changes: object) -> NewItem:
        return NewItem(make_item(item_id, *image, **changes), f"image of {item_id}".encode(), {"texts": ["one"]})

    return make


def append(index_dir: Path, *items: NewItem) -> int:
    with editing(index_dir) as editor:
        return editor.append(items, fingerprint="fingerprint")


def delete(index_dir: Path, *ids: str) -> int:
    with editing(index_dir) as editor:
        return editor.delete(ids)


def ask(snapshot: Snapshot, column: str = "image", **changes: Any) -> Answer:  # noqa: ANN401 - search's arguments
    arguments = {"k": None, "radius": None, "limit": 10, "fingerprint": "fingerprint"} | changes
    return snapshot.search(column, ZERO, **arguments)[0]


def ids(snapshot: Snapshot, answer: Answer) -> str:
    return "".join(item.id for item in snapshot.items([hit.row for hit in answer.hits]))


def found(index_dir: Path, column: str = "image", **changes: object) -> str:
    with Snapshot.open(index_dir) as snapshot:
        return ids(snapshot, ask(snapshot, column, **changes))


def test_an_appended_item_is_found_at_its_place(index_dir: Path, new: Make) -> None:
    assert append(index_dir, new("bb", 0b1), new("A", 0b0)) == 2
    with Snapshot.open(index_dir) as snapshot:
        answer = ask(snapshot)
        assert ids(snapshot, answer) == "Aabbbcd"
        assert [hit.distance for hit in answer.hits] == [0, 0, 1, 1, 1, 16]
        assert [hit.tie for hit in answer.hits][1:3] == [TieGroup(1, 2, 2), TieGroup(3, 5, 3)]
        assert (answer.total, snapshot.item_count, snapshot.items_in("image"), snapshot.position) == (6, 7, 6, 2)


def test_a_replaced_item_is_found_with_its_new_code_alone(index_dir: Path, new: Make) -> None:
    append(index_dir, new("a", 0xFFFF))
    with Snapshot.open(index_dir) as snapshot:
        answer = ask(snapshot)
        assert (ids(snapshot, answer), answer.total) == ("bcad", 4)
        assert answer.hits[0].tie == TieGroup(1, 2, 2)


def test_a_replaced_item_loses_the_columns_that_it_has_no_more(index_dir: Path, new: Make) -> None:
    append(index_dir, new("d", 0b0))
    with Snapshot.open(index_dir) as snapshot:
        assert (ids(snapshot, ask(snapshot, "text")), snapshot.items_in("text")) == ("e", 1)
        assert snapshot.codes_of("d", "text").shape == (0, 2)


def test_a_deleted_item_is_gone(index_dir: Path) -> None:
    delete(index_dir, "a", "d")
    with Snapshot.open(index_dir) as snapshot:
        answer = ask(snapshot)
        assert (ids(snapshot, answer), answer.total, snapshot.item_count) == ("bc", 2, 3)
        assert ids(snapshot, ask(snapshot, "text")) == "e"
        for call in (snapshot.item, snapshot.thumbnail, lambda name: snapshot.codes_of(name, "image")):
            with pytest.raises(ItemNotFound, match="found 'a', which was deleted"):
                call("a")


def test_an_item_that_was_deleted_may_come_back(index_dir: Path, new: Make) -> None:
    delete(index_dir, "a")
    append(index_dir, new("a", 0b1))
    assert found(index_dir) == "abcd"
    delete(index_dir, "a")
    assert found(index_dir) == "bcd"


def test_radius_k_and_pages_count_what_is_there(index_dir: Path, new: Make) -> None:
    append(index_dir, new("x", 0b10), new("y", 0b11))
    delete(index_dir, "b")
    with Snapshot.open(index_dir) as snapshot:
        inside = ask(snapshot, radius=1, limit=2)
        assert (ids(snapshot, inside), inside.total, inside.more, inside.truncated) == ("ac", 3, True, False)
        assert ids(snapshot, ask(snapshot, radius=1, limit=2, offset=2)) == "x"
        cut = ask(snapshot, radius=1, k=2)
        assert (ids(snapshot, cut), cut.truncated) == ("ac", True)
        assert "".join(ids(snapshot, ask(snapshot, limit=1, offset=rank)) for rank in range(5)) == "acxyd"


def test_more_gone_items_than_are_asked_for_spare_hits(index_dir: Path, new: Make, monkeypatch: Any) -> None:  # noqa: ANN401
    monkeypatch.setattr("index.live_search.SPARE", 1)
    delete(index_dir, "a", "b", "c")
    assert found(index_dir, limit=1) == "d"
    assert found(index_dir, radius=1, limit=1) == ""


def test_filters_see_appended_items(index_dir: Path, new: Make) -> None:
    append(index_dir, new("x", 0b0, metadata={"year": 2001, "fresh": [True, 1]}), new("b", 0b0, metadata={"year": 1}))
    with Snapshot.open(index_dir) as snapshot:
        assert snapshot.fields["fresh"] is FieldType.MIXED
        assert ids(snapshot, ask(snapshot, filter=snapshot.filter({"year": {"gte": 2001}}))) == "xcd"
        assert ids(snapshot, ask(snapshot, filter=snapshot.filter({"fresh": 1}))) == "x"
        assert ids(snapshot, ask(snapshot, filter=snapshot.filter({"labels": "cat"}))) == "a"


def test_an_appended_item_with_several_texts_is_one_hit(index_dir: Path, new: Make, make_item: Make) -> None:
    append(index_dir, new("x", codes={"text": np.array([[255, 0], [0, 0], [3, 0]], dtype=np.uint8)}))
    with Snapshot.open(index_dir) as snapshot:
        answer = ask(snapshot, "text")
        assert (ids(snapshot, answer), answer.total) == ("exd", 3)
        assert snapshot.item("x").codes == {"text": ["ff00", "0000", "0300"]}


def test_a_column_may_come_with_an_appended_item(index_dir: Path, new: Make) -> None:
    append(index_dir, new("x", codes={"pair": np.array([[1, 0]], dtype=np.uint8)}, presence=Presence.BOTH))
    with Snapshot.open(index_dir) as snapshot:
        assert snapshot.columns == ("image", "pair", "text")
        assert ids(snapshot, ask(snapshot, "pair")) == "x"


def test_an_appended_item_is_given_back_as_written(index_dir: Path, new: Make) -> None:
    append(index_dir, new("x", 0b11, metadata={"year": 7}, thumbnail=b"webp of x"))
    with Snapshot.open(index_dir) as snapshot:
        item = snapshot.item("x")
        assert (item.id, item.content_hash, item.text, item.metadata) == ("x", "hash of x", "text of x", {"year": 7})
        assert (item.codes, item.has_thumbnail) == ({"image": ["0300"]}, True)
        assert snapshot.thumbnail("x") == b"webp of x"
        known = snapshot.reusable_codes()("hash of x")
        assert known is not None
        assert known["image"].tolist() == [[3, 0]]
        assert [one.id for one in snapshot.items([item.row, 0, item.row])] == ["x", "a", "x"]


def test_the_original_is_kept_by_its_content(index_dir: Path, new: Make) -> None:
    append(index_dir, new("x", 0b11, thumbnail=b"webp of x"))
    stored = {path.read_bytes() for path in (index_dir / "items").rglob("*") if path.is_file()}
    assert stored >= {b"image of x", b"webp of x"}
    document = next(content for content in stored if content.startswith(b"{"))
    assert b'"texts": ["one"]' in document
    assert b'"image": "' in document


def test_an_open_snapshot_never_changes_and_the_next_one_shares_it(index_dir: Path, new: Make) -> None:
    with Snapshot.open(index_dir) as before:
        assert before.newer() is None
        append(index_dir, new("x", 0b0))
        after = before.newer()
        assert after is not None
        assert (ids(before, ask(before)), ids(after, ask(after))) == ("abcd", "axbcd")
    delete(index_dir, "x")
    with after, after.newer() or pytest.fail("nothing new") as last:
        assert (ids(after, ask(after)), ids(last, ask(last))) == ("axbcd", "abcd")
    with pytest.raises(SearchError, match="is closed"):
        last.item("a")


def test_codes_of_another_model_are_refused(index_dir: Path, new: Make) -> None:
    with editing(index_dir) as editor, pytest.raises(ModelMismatch):
        editor.append([new("x", 0)], fingerprint="other")


@pytest.mark.parametrize(
    "changes",
    [
        {"metadata": {"set": {1}}},
        {"id": ""},
        {"codes": {"image": np.zeros((1, 3), dtype=np.uint8)}},
        {"codes": {"sound": np.zeros((1, 2), dtype=np.uint8)}},
    ],
)
def test_an_item_that_cannot_be_written_keeps_the_others_out(index_dir: Path, new: Make, changes: Any) -> None:  # noqa: ANN401
    with pytest.raises(InvalidItem):
        append(index_dir, new("x", 0), new("y", **changes))
    assert not (index_dir / "log").exists()


def test_a_document_must_be_json(index_dir: Path, make_item: Make) -> None:
    with pytest.raises(InvalidItem, match="expected JSON as the document of item 'x'"):
        append(index_dir, NewItem(make_item("x", 0), None, {"texts": float("nan")}))


def test_deleting_what_is_not_there_changes_nothing(index_dir: Path) -> None:
    with pytest.raises(ItemNotFound, match="found 'x', 'y' that it does not have; nothing changed"):
        delete(index_dir, "a", "x", "y")
    assert found(index_dir) == "abcd"
    delete(index_dir, "a")
    with pytest.raises(ItemNotFound):
        delete(index_dir, "a")


def test_an_editor_knows_its_own_edits(index_dir: Path, new: Make) -> None:
    with editing(index_dir) as editor:
        editor.append([new("x", 0)], fingerprint="fingerprint")
        assert editor.delete(["x", "x"]) == 2
        with pytest.raises(ItemNotFound):
            editor.delete(["x"])
        assert editor.append([], fingerprint="fingerprint") == editor.delete([]) == 2


def test_there_is_one_writer_at_a_time(index_dir: Path) -> None:
    with (
        editing(index_dir),
        pytest.raises(IndexLocked, match="only writer of index 'demo'"),
        editing(index_dir, wait_s=0),
    ):
        pytest.fail("two writers")
    delete(index_dir, "a")


def test_an_index_that_is_not_there_cannot_be_edited(tmp_path: Path) -> None:
    with pytest.raises(IndexNotFound), editing(tmp_path / "nothing"):
        pytest.fail("nothing to edit")


def test_edits_that_wait_have_a_limit(index_dir: Path, new: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("index.editing.MAX_EDITS", 2)
    append(index_dir, new("x", 0))
    with pytest.raises(TooManyEdits, match="at most 2 edits that wait to be merged, found 1 and 2 more"):
        delete(index_dir, "a", "b")


@pytest.mark.parametrize("call", ["fsync", "replace", "write"])
def test_a_full_disk_keeps_the_old_state_and_the_log_usable(
    index_dir: Path, new: Make, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    append(index_dir, new("x", 0))

    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch, editing(index_dir) as editor:
        patch.setattr(os, call, fail)
        with pytest.raises(OSError, match="No space left"):
            editor.append([new("y", 0)], fingerprint="fingerprint")
        patch.undo()
        assert found(index_dir) == "axbcd"
        editor.append([new("z", 0)], fingerprint="fingerprint")
    assert found(index_dir) == "axzbcd"
    assert not list(index_dir.rglob("*.tmp"))


def test_a_damaged_original_is_found_by_verification(index_dir: Path, new: Make) -> None:
    append(index_dir, new("x", 0))
    assert verify_index(index_dir).edits == 1
    path = next(path for path in (index_dir / "items").rglob("*") if path.is_file())
    path.write_bytes(b"other")
    with pytest.raises(IndexCorrupt, match=f"{path.name} does not match its name"):
        verify_index(index_dir)
    path.unlink()
    with pytest.raises(IndexCorrupt, match=f"cannot read .*{path.name}"):
        Originals(index_dir).read(path.name)


def test_what_the_caller_knows_is_brought_up_to_date(index_dir: Path, new: Make) -> None:
    with Snapshot.open(index_dir) as known:
        append(index_dir, new("x", 1))  # by another writer
        with editing(index_dir, known=known) as editor:
            assert editor.append([new("y", 2)], fingerprint="fingerprint") == 2
            editor.delete(["x"])
        with editing(index_dir, known=known) as editor, pytest.raises(ItemNotFound):
            editor.delete(["x"])
        assert known.item("a").id == "a"  # and stays open
    assert found(index_dir) == "abcyd"


def test_what_the_caller_knows_of_another_generation_does_not_count(
    index_dir: Path, make_item: Make, make_spec: Make, new: Make
) -> None:
    with Snapshot.open(index_dir) as known:
        other = write_generation(index_dir, make_spec(fingerprint="other"), [make_item("q", 1)])
        IndexDirectory(index_dir).activate(other.generation)
        with editing(index_dir, known=known) as editor:
            with pytest.raises(ModelMismatch):
                editor.append([new("x", 1)], fingerprint="fingerprint")
            with pytest.raises(ItemNotFound):
                editor.delete(["a"])
            assert editor.delete(["q"]) == 1

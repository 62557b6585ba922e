"""A generation of another model takes over: what was appended meanwhile gets its codes, whatever writers do."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import index.replay
from index.compaction import compact
from index.editing import NewItem, editing
from index.errors import GenerationNotFound, IndexLocked
from index.generations import IndexDirectory
from index.records import Append
from index.replay import activate, catch_up
from index.snapshot import Snapshot
from index.writer import write_generation

Make = Callable[..., Any]
OLD, NEW = "fingerprint", "other"


@pytest.fixture
def next_generation(index_dir: Path, items: Sequence[Any], make_spec: Make) -> int:
    """Number of a generation of another model and another code length, which does not serve yet."""
    wide = [replace(item, codes={"image": np.zeros((1, 3), np.uint8)}) for item in items]
    return write_generation(index_dir, make_spec(fingerprint=NEW, bits=24), wide).generation


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every item is encoded while writers go on, two between two writes."""
    monkeypatch.setattr(index.replay, "FEW", 0)
    monkeypatch.setattr(index.replay, "CHUNK", 2)


def encode(records: Sequence[Append]) -> list[Append]:
    """Codes of the new model that say which item they are of."""
    return [replace(one, fingerprint=NEW, codes={"image": one.id.ljust(3)[:3].encode()}) for one in records]


def append(index_dir: Path, *items: Any, fingerprint: str = OLD) -> None:  # noqa: ANN401 - made by make_item
    with editing(index_dir) as editor:
        editor.append([NewItem(item, b"image", {}) for item in items], fingerprint=fingerprint)


def delete(index_dir: Path, *ids: str) -> None:
    with editing(index_dir) as editor:
        editor.delete(ids)


def waiting(index_dir: Path, generation: int | None = None) -> list[str]:
    with Snapshot.open(index_dir, generation) as snapshot:
        return [one.id for one in snapshot.pending]


def code_of(index_dir: Path, item_id: str) -> bytes:
    with Snapshot.open(index_dir) as snapshot:
        return snapshot.codes_of(item_id, "image").tobytes()


def test_what_was_appended_has_codes_when_the_generation_serves(
    index_dir: Path, next_generation: int, make_item: Make
) -> None:
    append(index_dir, make_item("x", 1), make_item("b", 1))
    delete(index_dir, "a")
    pointer = activate(index_dir, next_generation, encode)
    assert (pointer.generation, pointer.fingerprint, waiting(index_dir)) == (next_generation, NEW, [])
    assert [code_of(index_dir, name) for name in "xbc"] == [b"x  ", b"b  ", bytes(3)]
    with Snapshot.open(index_dir) as snapshot:
        assert not snapshot.has("a")


def test_few_items_are_left_to_the_swap(index_dir: Path, next_generation: int, make_item: Make) -> None:
    append(index_dir, *(make_item(f"x{number}", number) for number in range(index.replay.FEW)))
    catch_up(index_dir, next_generation, encode)
    assert len(waiting(index_dir, next_generation)) == index.replay.FEW
    append(index_dir, make_item("y", 1))
    catch_up(index_dir, next_generation, encode)
    assert waiting(index_dir, next_generation) == []


@pytest.mark.usefixtures("few")
@pytest.mark.parametrize("merge", [False, True])
def test_the_generation_that_serves_passes_over_the_codes(
    index_dir: Path, next_generation: int, make_item: Make, merge: bool
) -> None:
    append(index_dir, make_item("x", 1), make_item("a", 0b111))
    if merge:
        compact(index_dir)
    before = [code_of(index_dir, name) for name in "xab"]
    catch_up(index_dir, next_generation, encode)
    assert ([code_of(index_dir, name) for name in "xab"], waiting(index_dir)) == (before, [])
    activate(index_dir, next_generation, encode)
    IndexDirectory(index_dir).activate(max(set(IndexDirectory(index_dir).generations()) - {next_generation}))
    assert ([code_of(index_dir, name) for name in "xab"], waiting(index_dir)) == (before, [])


@pytest.mark.usefixtures("few")
def test_what_is_deleted_or_replaced_while_it_is_encoded_stays_so(
    index_dir: Path, next_generation: int, make_item: Make
) -> None:
    append(index_dir, make_item("x", 1), make_item("y", 2))

    def encode_slowly(records: Sequence[Append]) -> list[Append]:
        if [one.id for one in records] == ["x", "y"]:
            delete(index_dir, "x")
            append(index_dir, make_item("y", 3, metadata={"new": True}))
        return encode(records)

    catch_up(index_dir, next_generation, encode_slowly)
    activate(index_dir, next_generation, encode)
    with Snapshot.open(index_dir) as snapshot:
        assert (snapshot.has("x"), snapshot.item("y").metadata) == (False, {"new": True})
        assert snapshot.pending == ()


@pytest.mark.usefixtures("few")
def test_writers_that_are_faster_than_the_encoder_wait_in_the_end(
    index_dir: Path, next_generation: int, make_item: Make
) -> None:
    append(index_dir, make_item("x", 1))
    rounds: list[int] = []

    def encode_slowly(records: Sequence[Append]) -> list[Append]:
        rounds.append(len(records))
        append(index_dir, make_item(f"x{len(rounds)}", 1))
        return encode(records)

    catch_up(index_dir, next_generation, encode_slowly)
    assert rounds == [1] * index.replay.ROUNDS
    activate(index_dir, next_generation, encode)
    assert waiting(index_dir) == []


def test_no_edit_falls_between_the_last_codes_and_the_swap(
    index_dir: Path, next_generation: int, make_item: Make
) -> None:
    append(index_dir, make_item("x", 1))

    def encode_locked(records: Sequence[Append]) -> list[Append]:
        with pytest.raises(IndexLocked), editing(index_dir, wait_s=0):
            pass
        return encode(records)

    activate(index_dir, next_generation, encode_locked)
    assert code_of(index_dir, "x") == b"x  "


def test_an_encoder_that_fails_keeps_the_old_generation(index_dir: Path, next_generation: int, make_item: Make) -> None:
    append(index_dir, make_item("x", 1))

    def fail(_: object) -> list[Append]:
        raise MemoryError

    with pytest.raises(MemoryError):
        activate(index_dir, next_generation, fail)
    assert code_of(index_dir, "x") == b"\1\0"


def test_nothing_is_encoded_where_nothing_waits(index_dir: Path, next_generation: int) -> None:
    delete(index_dir, "a")
    activate(index_dir, next_generation, lambda _: pytest.fail("encoded"))
    with pytest.raises(GenerationNotFound):
        activate(index_dir, 9, encode)

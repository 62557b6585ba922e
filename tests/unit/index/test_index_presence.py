"""What pair codes were made from: written, edited, merged, counted and verified."""

from collections.abc import Callable
from dataclasses import astuple, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from index.compaction import compact
from index.editing import NewItem, editing
from index.errors import IndexCorrupt, InvalidItem
from index.files import describe
from index.generations import IndexDirectory
from index.manifest import GenerationManifest
from index.presence import Presence
from index.snapshot import Snapshot, verify_index
from index.writer import GenerationSpec, IndexedItem, write_generation

IMAGE, TEXT, BOTH = Presence.IMAGE, Presence.TEXT, Presence.BOTH
PRESENCE = Path("generation-000001") / "pair.presence"
Make = Callable[..., Any]


def pair_item(item_id: str, presence: Presence, *, codes: int = 1) -> IndexedItem:
    pair = np.full((codes, 2), int(presence), dtype=np.uint8)
    return IndexedItem(item_id, f"hash of {item_id}", None, {}, None, {"pair": pair}, presence)


@pytest.fixture
def fused(tmp_path: Path, make_spec: Callable[..., GenerationSpec]) -> Path:
    """An index of four items with a pair column, one of them with two codes in it."""
    path = tmp_path / "fused"
    items = [pair_item("d", TEXT), pair_item("a", BOTH), pair_item("b", IMAGE), pair_item("c", BOTH, codes=2)]
    write_generation(path, make_spec(index="fused"), items)
    IndexDirectory(path).activate(1)
    return path


def edit(index_dir: Path, *items: IndexedItem, gone: tuple[str, ...] = ()) -> None:
    with editing(index_dir) as editor:
        editor.append([NewItem(item, None, {"id": item.id}) for item in items], fingerprint="fingerprint")
        editor.delete(gone)


def presences(index_dir: Path) -> dict[str, Presence]:
    with Snapshot.open(index_dir) as snapshot:
        query = np.zeros((1, 2), dtype=np.uint8)
        hits = snapshot.search("pair", query, k=None, radius=None, limit=9, fingerprint=None)[0].hits
        return {item.id: item.presence for item in snapshot.items([hit.row for hit in hits])}


def counts(index_dir: Path) -> tuple[int, ...]:
    """Items with both, with an image alone, with a text alone."""
    with Snapshot.open(index_dir) as snapshot:
        return astuple(snapshot.presence_counts())


def alter(index_dir: Path, presence: list[int]) -> None:
    """Change the file and bring its checksum up to date: what a faulty writer would have left."""
    (index_dir / PRESENCE).write_bytes(bytes(presence))
    path = index_dir / "generation-000001" / "manifest.json"
    manifest = GenerationManifest.load(path)
    replace(manifest, files={**manifest.files, PRESENCE.name: describe(index_dir / PRESENCE)}).save(path)


def test_a_presence_is_made_of_parts() -> None:
    assert [Presence.of(image=bool(n & 1), text=bool(n & 2)) for n in range(4)] == [Presence.NONE, IMAGE, TEXT, BOTH]


def test_a_presence_names_its_parts() -> None:
    assert TEXT.parts() == {"image": False, "text": True}


def test_every_pair_code_has_a_byte(fused: Path) -> None:
    assert list((fused / PRESENCE).read_bytes()) == [BOTH, IMAGE, BOTH, BOTH, TEXT]


def test_every_hit_says_what_its_codes_were_made_from(fused: Path) -> None:
    assert presences(fused) == {"a": BOTH, "b": IMAGE, "c": BOTH, "d": TEXT}


def test_items_are_counted_once_however_many_codes_they_have(fused: Path) -> None:
    assert counts(fused) == (2, 1, 1)


def test_edits_change_presences_and_counts(fused: Path) -> None:
    edit(fused, pair_item("x", TEXT, codes=3), pair_item("b", BOTH), gone=("a",))
    assert presences(fused) == {"b": BOTH, "c": BOTH, "d": TEXT, "x": TEXT}
    assert counts(fused) == (2, 0, 2)


def test_compaction_keeps_presences(fused: Path) -> None:
    edit(fused, pair_item("x", TEXT, codes=3), pair_item("b", BOTH), gone=("a",))
    before = presences(fused), counts(fused)
    compact(fused)
    assert (presences(fused), counts(fused)) == before
    assert verify_index(fused).generation == 2


def test_an_index_without_pairs_has_no_presence(index_dir: Path) -> None:
    assert not (index_dir / PRESENCE).exists()
    with Snapshot.open(index_dir) as snapshot:
        assert snapshot.item("a").presence is Presence.NONE
    assert counts(index_dir) == (0, 0, 0)


def test_a_pair_column_that_only_edits_have_counts_too(index_dir: Path) -> None:
    edit(index_dir, pair_item("x", IMAGE))
    assert (presences(index_dir), counts(index_dir)) == ({"x": IMAGE}, (0, 1, 0))
    compact(index_dir)
    assert (presences(index_dir), counts(index_dir)) == ({"x": IMAGE}, (0, 1, 0))


def test_an_item_of_a_fused_index_may_have_no_pair_code(fused: Path, make_item: Make) -> None:
    edit(fused, make_item("x", 0))
    compact(fused)
    with Snapshot.open(fused) as snapshot:
        assert snapshot.item("x").presence is Presence.NONE
    assert counts(fused) == (2, 1, 1)


@pytest.mark.parametrize(
    ("item", "found"),
    [
        (replace(pair_item("x", BOTH), presence=Presence.NONE), "found pair codes of unknown parts"),
        (replace(pair_item("x", BOTH), codes={}), "found a presence without pair codes"),
    ],
)
def test_pair_codes_and_presence_come_together(
    tmp_path: Path, fused: Path, make_spec: Make, item: IndexedItem, found: str
) -> None:
    with pytest.raises(InvalidItem, match=f"in item 'x', {found}"):
        write_generation(tmp_path / "demo", make_spec(), [item])
    with pytest.raises(InvalidItem, match=f"in item 'x', {found}"):
        edit(fused, item)


def test_an_altered_presence_does_not_match_its_checksum(fused: Path) -> None:
    (fused / PRESENCE).write_bytes(bytes([1, 1, 3, 3, 2]))
    with pytest.raises(IndexCorrupt, match=r"pair\.presence does not match its checksum"):
        verify_index(fused)


@pytest.mark.parametrize("content", [None, b"\3"])
def test_a_presence_that_is_missing_or_cut_short_is_named(fused: Path, content: bytes | None) -> None:
    if content is None:
        (fused / PRESENCE).unlink()
    else:
        (fused / PRESENCE).write_bytes(content)
    with pytest.raises(IndexCorrupt, match=r"pair\.presence"):
        Snapshot.open(fused, verify=False)


@pytest.mark.parametrize(
    ("presence", "position", "found"), [([3, 1, 3, 3, 0], 4, 0), ([3, 4, 3, 3, 2], 1, 4), ([3, 1, 3, 1, 2], 3, 1)]
)
def test_verification_finds_what_no_writer_would_write(
    fused: Path, presence: list[int], position: int, found: int
) -> None:
    alter(fused, presence)
    with pytest.raises(IndexCorrupt, match=rf"pair\.presence: expected .* for code {position}.*found {found}"):
        verify_index(fused)


def as_format_2(index_dir: Path) -> None:
    """As format 2 had it: without the file."""
    (index_dir / PRESENCE).unlink()
    path = index_dir / "generation-000001" / "manifest.json"
    manifest = GenerationManifest.load(path)
    files = {name: entry for name, entry in manifest.files.items() if name != PRESENCE.name}
    replace(manifest, format=2, files=files).save(path)


def test_pair_codes_of_format_2_are_found_and_say_nothing(fused: Path) -> None:
    as_format_2(fused)
    verify_index(fused)
    assert presences(fused) == dict.fromkeys("abcd", Presence.NONE)
    edit(fused, pair_item("b", IMAGE))
    assert counts(fused) == (0, 1, 0)


def test_pair_codes_of_format_2_are_not_merged(fused: Path) -> None:
    as_format_2(fused)
    edit(fused, pair_item("x", IMAGE))
    with pytest.raises(InvalidItem, match="found pair codes of unknown parts; rebuild the index"):
        compact(fused)
    assert presences(fused)["x"] is IMAGE

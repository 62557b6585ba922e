"""Room on the disk for a rebuild."""

from pathlib import Path

import pytest
from tiny_home import load_fake, make_archive, make_home

from app.disk_space import COPIES, NEW_ITEM_BYTES, check_room, needed_bytes
from app.edit_commands import append, delete
from app.index_commands import build
from app.jobs import DiskFull, SourceNotFound
from app.rebuild_steps import Request
from app.settings import Settings
from index.generations import IndexDirectory
from model.items import ItemArchive

REQUEST = Request("new", "tiny", "first", 64, "first", reuse=True, dry_run=False)


def test_a_new_index_needs_a_guess_an_item(tmp_path: Path) -> None:
    assert needed_bytes("new", "tiny", Settings(home=make_home(tmp_path, 10))) == 8 * NEW_ITEM_BYTES * COPIES


def test_an_index_that_is_there_tells_what_its_items_take(tmp_path: Path) -> None:
    settings = Settings(home=make_home(tmp_path, 10))
    build(settings, REQUEST, load_fake)
    folder = IndexDirectory(settings.indexes_dir / "new").generation_path(1)
    stored = sum(path.stat().st_size for path in folder.iterdir() if path.name != "manifest.json")
    assert needed_bytes("new", "tiny", settings) == round(stored * COPIES)


def test_what_was_appended_and_deleted_counts(tmp_path: Path) -> None:
    settings = Settings(home=make_home(tmp_path, 10))
    build(settings, REQUEST, load_fake)
    of_eight = needed_bytes("new", "tiny", settings)
    make_archive(tmp_path / "more.zip", 15)  # ten of them are in the source already, and replace what is there
    append(settings, "new", ItemArchive.open(tmp_path / "more.zip"), load_fake)
    delete(settings, "new", ["item-0000", "item-0012"])
    assert needed_bytes("new", "tiny", settings) == pytest.approx(of_eight * 13 / 8, abs=1)


def test_a_rebuild_must_leave_enough_free(tmp_path: Path) -> None:
    settings = Settings(home=make_home(tmp_path, 10), min_free_bytes=2**60)
    with pytest.raises(DiskFull, match=r"expected 1,152,921,504,606,846,976 bytes to stay free.*about 240,000;"):
        check_room(REQUEST, settings)
    with pytest.raises(DiskFull):
        build(settings, REQUEST, load_fake)
    assert not settings.indexes_dir.exists()


def test_what_it_takes_itself_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(home=make_home(tmp_path, 10), min_free_bytes=0)
    check_room(REQUEST, settings)
    monkeypatch.setattr("app.disk_space.NEW_ITEM_BYTES", 2**60)
    with pytest.raises(DiskFull):
        check_room(REQUEST, settings)


def test_a_source_that_is_not_there_is_named(tmp_path: Path) -> None:
    settings = Settings(home=make_home(tmp_path, 10))
    with pytest.raises(SourceNotFound, match="nothing"):
        check_room(Request("new", "nothing", "first", 64, "first", reuse=True, dry_run=False), settings)

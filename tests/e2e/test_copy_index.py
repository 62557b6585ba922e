"""`docs/operations/copy-index.sh` beside edits, merges and rebuilds: the copy holds what was acknowledged before it."""

import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path

import pytest
from tiny_home import DATA, load_fake, make_home, png

from app.building import thumbnail
from app.index_commands import build
from app.rebuild_steps import Request
from app.settings import Settings
from index.compaction import compact
from index.editing import NewItem, editing
from index.errors import IndexMoved
from index.generations import IndexDirectory
from index.snapshot import Snapshot
from index.writer import IndexedItem
from model.fake import FakeHasher
from model.images import decode_image
from model.items import content_hash

SCRIPT = Path(__file__).parents[2] / "docs" / "operations" / "copy-index.sh"
REQUEST = Request("demo", DATA, "first", 64, "first", reuse=False, dry_run=False)
HASHER = FakeHasher(64, seed="first")
COPIES = 5


@pytest.fixture
def home(tmp_path: Path) -> Path:
    home = make_home(tmp_path / "home", 20)
    build(Settings(home=home), REQUEST, load_fake)
    return home


def copy(home: Path, target: Path) -> Path:
    subprocess.run([str(SCRIPT), str(home), "demo", str(target)], check=True, capture_output=True, text=True)
    return target / "indexes" / "demo"


def append(home: Path, item_id: str) -> None:
    data = png(7)
    codes = {
        "image": HASHER.encode_images([decode_image(data)]).codes,
        "text": HASHER.encode_texts([item_id]).codes,
    }
    item = IndexedItem(item_id, content_hash(data, item_id), item_id, {}, thumbnail(data), codes)
    with editing(home / "indexes" / "demo") as editor:
        editor.append([NewItem(item, data, {})], fingerprint=HASHER.fingerprint)


@contextmanager
def going_on(*works: Callable[[], None]) -> Iterator[None]:
    """Each work again and again in a thread of its own, until the block ends; a failure of theirs is raised."""
    stopping, failures = threading.Event(), []

    def repeat(work: Callable[[], None]) -> None:
        try:
            while not stopping.is_set():
                work()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=repeat, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stopping.set()
        for thread in threads:
            thread.join()
    assert failures == []


def test_a_copy_made_beside_edits_and_rebuilds_is_whole(home: Path, tmp_path: Path) -> None:
    index_dir, acknowledged, numbers = home / "indexes" / "demo", [], count()

    def edit() -> None:
        item_id = f"new-{next(numbers):05d}"
        append(home, item_id)
        acknowledged.append(item_id)

    def rebuild() -> None:
        build(Settings(home=home), REQUEST, load_fake)
        with suppress(IndexMoved):
            compact(index_dir)

    with going_on(edit, rebuild):
        for number in count():
            if number >= COPIES and IndexDirectory(index_dir).generations()[-1] > 2:
                break
            before = list(acknowledged)
            with Snapshot.open(copy(home, tmp_path / f"copy-{number}")) as snapshot:
                snapshot.verify()
                assert [item_id for item_id in before if not snapshot.has(item_id)] == []
    assert len(acknowledged) > COPIES
    assert [path.name for path in (home / "indexes").iterdir()] == ["demo"]


def test_a_copy_is_independent_and_has_the_model(home: Path, tmp_path: Path) -> None:
    append(home, "before")
    copied = copy(home, tmp_path / "copy")
    append(home, "after")
    with Snapshot.open(copied) as snapshot:
        assert (snapshot.has("before"), snapshot.has("after")) == (True, False)
    assert (tmp_path / "copy" / "artifacts" / "first" / "manifest.json").is_file()
    assert not any(path.stat().st_nlink > 1 for path in copied.rglob("*") if path.is_file())


def test_an_index_that_is_there_is_not_overwritten(home: Path, tmp_path: Path) -> None:
    copy(home, tmp_path / "copy")
    with pytest.raises(subprocess.CalledProcessError) as failed:
        copy(home, tmp_path / "copy")
    assert "name another TARGET" in failed.value.stderr

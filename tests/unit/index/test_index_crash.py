"""What is left when writing stops at any step: an error of the disk, or the process killed."""

import errno
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from index.generations import IndexDirectory
from index.snapshot import Snapshot, verify_index
from index.writer import GenerationSpec, IndexedItem, write_generation

CALLS = ("fsync", "replace")
STEPS = 100  # far above what one swap takes

KILLED_AT_EVERY_STEP = """
import os, signal, sys
from pathlib import Path
import numpy as np
from index.generations import IndexDirectory
from index.snapshot import Snapshot
from index.writer import GenerationSpec, IndexedItem, write_generation

path = Path(sys.argv[1])

def build(fingerprint):
    codes = {"image": np.array([[1, 2]], dtype=np.uint8)}
    items = [IndexedItem(f"item {number}", str(number), None, {"n": number}, b"webp", codes) for number in range(3)]
    spec = GenerationSpec("demo", 16, "artifact", fingerprint, "cpu", "source", "first")
    directory = IndexDirectory(path)
    directory.activate(write_generation(path, spec, items, verify=False).generation)
    if len(directory.generations()) > 1:
        directory.rollback()
        directory.activate(directory.generations()[-1])
    directory.prune(keep=2, leftovers=True)

def die_before(step):
    left = [step]
    for name in ("fsync", "replace", "rename", "unlink", "rmdir", "mkdir"):
        def counted(*args, call=getattr(os, name), **keywords):
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            left[0] -= 1
            return call(*args, **keywords)
        setattr(os, name, counted)

build("first")
build("second")
for step in range(1000):
    child = os.fork()
    if not child:
        die_before(step)
        build(f"step {step}")
        os._exit(0)
    _, status = os.waitpid(child, 0)
    with Snapshot.open(path) as snapshot:
        snapshot.verify()
        assert snapshot.item("item 2").metadata == {"n": 2}
    for number in IndexDirectory(path).generations():
        Snapshot.open(path, number).close()
    if os.WIFEXITED(status):
        assert os.WEXITSTATUS(status) == 0
        print("steps", step)
        break
"""


def fail_at(monkeypatch: pytest.MonkeyPatch, step: int) -> Callable[[], bool]:
    """Make the step-th durable call fail as on a full disk; the function returned says whether it came to that."""
    numbers = count()
    failed: list[str] = []

    def counted(name: str, call: Callable[..., object]) -> Callable[..., object]:
        def run(*args: Any, **keywords: Any) -> object:  # noqa: ANN401 - passed on as they are
            if next(numbers) == step:
                failed.append(name)
                raise OSError(errno.ENOSPC, "No space left on device")
            return call(*args, **keywords)

        return run

    for name in CALLS:
        monkeypatch.setattr(os, name, counted(name, getattr(os, name)))
    return lambda: bool(failed)


def failures(monkeypatch: pytest.MonkeyPatch, act: Callable[[], object]) -> Iterator[int]:
    """Run ``act`` with a failure at its first durable call, its second, ... until it passes without one."""
    for step in range(STEPS):
        with monkeypatch.context() as patch:
            has_failed = fail_at(patch, step)
            with suppress(OSError):
                act()
            if not has_failed():
                return
        yield step


@pytest.fixture
def rebuild(index_dir: Path, items: list[IndexedItem], make_spec: Callable[..., GenerationSpec]) -> Callable[[], None]:
    """Write a further generation, activate it and prune."""

    def act() -> None:
        directory = IndexDirectory(index_dir)
        directory.activate(write_generation(index_dir, make_spec(fingerprint="new"), items).generation)
        directory.prune(keep=1)

    return act


def test_a_disk_error_at_any_step_leaves_an_index_that_opens(
    index_dir: Path, monkeypatch: pytest.MonkeyPatch, rebuild: Callable[[], None]
) -> None:
    steps = 0
    for _ in failures(monkeypatch, rebuild):
        assert verify_index(index_dir).items == 5
        for number in IndexDirectory(index_dir).generations():
            verify_index(index_dir, number)
        steps += 1
    assert steps > 10
    assert Snapshot.open(index_dir).manifest.fingerprint == "new"


def test_a_disk_error_before_the_pointer_is_renamed_keeps_the_old_generation(
    index_dir: Path, items: list[IndexedItem], make_spec: Callable[..., GenerationSpec], monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in failures(monkeypatch, lambda: write_generation(index_dir, make_spec(), items)):
        assert IndexDirectory(index_dir).current() == IndexDirectory(index_dir).activate(1)


def test_a_failed_write_of_the_files_leaves_no_file(
    index_dir: Path, items: list[IndexedItem], make_spec: Callable[..., GenerationSpec], monkeypatch: pytest.MonkeyPatch
) -> None:
    fail_at(monkeypatch, 3)
    with pytest.raises(OSError, match="No space left"):
        write_generation(index_dir, make_spec(), items)
    assert sorted(path.name for path in index_dir.iterdir()) == ["CURRENT", "generation-000001"]


def test_leftovers_are_tolerated(index_dir: Path) -> None:
    (index_dir / "generation-000002.tmp").mkdir()
    (index_dir / "generation-000002.tmp" / "items.sqlite").write_text("half a file")
    (index_dir / "CURRENT.1-2.tmp").write_text("half a pointer")
    assert verify_index(index_dir).generation == 1
    assert IndexDirectory(index_dir).generations() == [1]


def test_a_process_killed_at_any_step_leaves_an_index_that_opens(tmp_path: Path) -> None:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", KILLED_AT_EVERY_STEP, str(tmp_path / "demo")],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.split()[1]) > 20

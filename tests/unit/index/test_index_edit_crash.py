"""The process killed at every step of an edit: nothing acknowledged is lost, nothing deleted comes back."""

import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from index.compaction import compact
from index.editing import NewItem, editing
from index.snapshot import Snapshot, verify_index

SUPPORT = Path(__file__).parents[2] / "support"
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}

WRITER = """
import sys
from pathlib import Path
import numpy as np
from index.editing import NewItem, editing
from index.writer import IndexedItem
for number in range(10_000):
    codes = {"image": np.array([[number % 256, number // 256]], dtype=np.uint8)}
    item = IndexedItem(f"item {number:05}", str(number), None, {}, None, codes)
    with editing(Path(sys.argv[1])) as editor:
        editor.append([NewItem(item, b"image %d" % number, {})], fingerprint="fingerprint")
    print(number, flush=True)
"""


def test_a_process_killed_before_any_step_loses_nothing_acknowledged(tmp_path: Path) -> None:
    command = [sys.executable, str(SUPPORT / "kill_edits.py"), str(tmp_path / "demo")]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.removeprefix("steps")) > 60


def test_a_process_killed_while_it_appends_loses_nothing_acknowledged(index_dir: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(index_dir)], env=ENVIRONMENT, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        while int(process.stdout.readline()) < 10:
            pass
        time.sleep(0.02)  # to fall somewhere into a write
        process.send_signal(signal.SIGKILL)
        last = max([10, *map(int, process.stdout.read().split())])
    with Snapshot.open(index_dir) as snapshot:
        assert snapshot.position in (last + 1, last + 2)
        assert all(snapshot.has(f"item {number:05}") for number in range(last + 1))
    assert verify_index(index_dir).edits > 10


def failing(call: Callable[..., object], left: list[int]) -> Callable[..., object]:
    """The call, which finds the disk full when nothing is left."""

    def run(*args: Any, **keywords: Any) -> object:  # noqa: ANN401 - passed on as they are
        left[0] -= 1
        if left[0] == -1:
            raise OSError(errno.ENOSPC, "No space left on device")
        return call(*args, **keywords)

    return run


def test_a_full_disk_at_any_step_of_a_merge_keeps_every_item(
    index_dir: Path, make_item: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    with editing(index_dir) as editor:
        editor.append([NewItem(make_item("x", 0), b"image", {})], fingerprint="fingerprint")
        editor.delete(["a"])
    steps = 0
    for step in range(200):
        left = [step]
        with monkeypatch.context() as patch:
            for name in ("fsync", "replace", "write", "ftruncate"):
                patch.setattr(os, name, failing(getattr(os, name), left))
            try:
                compact(index_dir)
            except OSError:
                steps += 1
            else:
                break
        with Snapshot.open(index_dir) as snapshot:
            query = np.zeros((1, 2), dtype=np.uint8)
            answer = snapshot.search("image", query, k=None, radius=None, limit=9, fingerprint=None)[0]
            assert "".join(item.id for item in snapshot.items([hit.row for hit in answer.hits])) == "xbcd"
        assert verify_index(index_dir).items in (4, 5)
    assert steps > 8

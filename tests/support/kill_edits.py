"""Append, delete, replace, compact, swap, roll back and prune, killed before every step that touches the disk.

``python kill_edits.py FOLDER``: each child runs the same work and dies one step later than the last; after each death
the index must open with what was acknowledged, and take the next edit. Steps of a write end it half written.
"""

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from index.compaction import compact
from index.editing import NewItem, editing
from index.generations import IndexDirectory
from index.presence import Presence
from index.snapshot import Snapshot
from index.writer import GenerationSpec, IndexedItem, write_generation

CALLS = ("fsync", "replace", "rename", "unlink", "rmdir", "mkdir", "ftruncate", "write")


def item(item_id: str, value: int) -> IndexedItem:
    code = np.array([[value % 256, value // 256]], dtype=np.uint8)
    webp, codes = f"webp {value}".encode(), {"image": code, "pair": code}
    return IndexedItem(item_id, f"{item_id} {value}", None, {"value": value}, webp, codes, presence(value))


def presence(value: int) -> Presence:
    """What the pair code of an item of this value was made from."""
    return (Presence.IMAGE, Presence.TEXT, Presence.BOTH)[value % 3]


def work(path: Path, step: int, told: int) -> None:
    """Every line of ``told`` is an edit that was acknowledged."""

    def acknowledge(line: str) -> None:
        tell(told, f"{line}\n".encode())

    with editing(path) as editor:
        editor.append([NewItem(item("new", step), b"image", {}), NewItem(item("b", step), b"b", {})], fingerprint="f")
        acknowledge(f"new {step}")
        editor.delete(["a"])
        acknowledge("a gone")
    compact(path)
    directory = IndexDirectory(path)
    if len(directory.generations()) > 1:
        directory.rollback()
        directory.activate(directory.generations()[-1])
    with editing(path) as editor:
        editor.append([NewItem(item("a", step), None, {})], fingerprint="f")
        acknowledge(f"a {step}")
    compact(path)
    directory.prune(keep=1, leftovers=True)


tell = os.write


def die_before(step: int) -> None:
    left = [step]
    for name in CALLS:
        setattr(os, name, counted(name, left))


def counted(name: str, left: list[int]) -> Callable[..., Any]:  # Any: as the functions of os
    call: Callable[..., Any] = getattr(os, name)

    def run(*args: Any, **keywords: Any) -> Any:  # noqa: ANN401 - passed on as they are
        if left[0] == 0:
            if name == "write":
                call(args[0], bytes(args[1])[: len(args[1]) // 2])
            os.kill(os.getpid(), signal.SIGKILL)
        left[0] -= 1
        return call(*args, **keywords)

    return run


def check(path: Path, told: list[str], state: dict[str, int]) -> None:
    """What was acknowledged is there; the one edit under way may be, as a whole."""
    for line in told:
        item_id, value = line.split()
        if value == "gone":
            state.pop(item_id, None)
        else:
            state[item_id] = int(value)
            if item_id == "new":
                state["b"] = int(value)
    for number in (None, *IndexDirectory(path).generations()):
        with Snapshot.open(path, number) as snapshot:
            snapshot.verify()
            answer = snapshot.search("image", np.zeros((1, 2), np.uint8), k=None, radius=None, limit=9, fingerprint="f")
            stored = snapshot.items([hit.row for hit in answer[0].hits])
            found = {one.id: one.metadata["value"] for one in stored}
            for one in stored:
                assert snapshot.thumbnail(one.id) == f"webp {one.metadata['value']}".encode()
                assert one.presence is presence(one.metadata["value"])
        assert found in next_states(state, len(told)), (found, state, told)
    state.clear()
    state |= found  # the last generation is as good as any: they all hold the same edits


def next_states(state: dict[str, int], edits: int) -> list[dict[str, int]]:
    """The state, or that after the edit which was under way."""
    match edits:
        case 0:
            return [state, state | {"new": STEP[0], "b": STEP[0]}]
        case 1:
            return [state, {key: value for key, value in state.items() if key != "a"}]
        case 2:
            return [state, state | {"a": STEP[0]}]
        case _:
            return [state]


STEP = [0]


def main(path: Path) -> None:
    spec = GenerationSpec("demo", 16, "artifact", "f", "cpu", "source", "first")
    write_generation(path, spec, [item(item_id, 1) for item_id in "abc"])
    IndexDirectory(path).activate(1)
    state = {"a": 1, "b": 1, "c": 1}
    for step in range(1000):
        STEP[0] = step
        with editing(path) as editor:  # the next edit always works
            if "a" not in state:
                editor.append([NewItem(item("a", step), None, {})], fingerprint="f")
                state["a"] = step
        reader, writer = os.pipe()
        child = os.fork()
        if not child:
            die_before(step)
            work(path, step, writer)
            os._exit(0)
        os.close(writer)
        _, status = os.waitpid(child, 0)
        with os.fdopen(reader) as told:
            check(path, told.read().splitlines(), state)
        if os.WIFEXITED(status):
            assert os.WEXITSTATUS(status) == 0
            sys.stdout.write(f"steps {step}\n")
            return


os.fsync = lambda _: None  # no power failure here, and the disk is slow
main(Path(sys.argv[1]))

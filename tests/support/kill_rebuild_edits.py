"""One rebuild under another model and code length, in a chain of processes that are killed, while items are edited.

At every point (around each step, and at every fsync and rename) an item is appended, replaced or deleted as a service
beside the rebuild would, and acknowledged in a file; then the process is killed where none was killed before: around
each step, and at all points of those that have to do with edits. After each kill the index must hold what was
acknowledged, in codes of the model that serves. The last line on standard output is a JSON report for the test.
"""

import json
import os
import signal
import sys
from pathlib import Path

from kill_rebuild import INDEX, SHARD_ITEMS, hurry, run, work
from tiny_home import load_fake, make_archive, make_home, png

import index.replay
from app.building import Builder
from app.edit_commands import append_items
from index.codes import to_hex
from index.editing import editing
from index.errors import IndexLocked
from index.generations import IndexDirectory
from index.lock import writing
from index.snapshot import Snapshot
from model.images import decode_image
from model.items import ItemArchive

SOURCE = SHARD_ITEMS + 50  # two shards of a database
MORE = 40  # items that only edits bring
INSIDE = ("plan", "catch_up", "swap")  # steps that are killed at each of their points


class Edits:
    """Edits of an index beside its rebuild; each is one line of a file once it is acknowledged."""

    def __init__(self, home: Path) -> None:
        self._index = home / "indexes" / INDEX
        self._told = home / "told"
        self._home = home
        self._archives = [ItemArchive.open(home / f"{name}.zip") for name in ("plain", "changed")]

    def lines(self) -> list[str]:
        return self._told.read_text(encoding="utf-8").splitlines() if self._told.exists() else []

    def state(self) -> dict[str, int | None]:
        """By id, the picture that was acknowledged last; None where the item was deleted."""
        pairs = (line.split() for line in self.lines())
        return {item_id: None if picture == "gone" else int(picture) for item_id, picture in pairs}

    def make_one(self) -> None:
        """The next edit, unless the index is locked."""
        number, state = len(self.lines()), self.state()
        position = (number * 37) % 60 if number % 2 else SOURCE + (number * 7) % MORE
        item_id = f"item-{position:04d}"
        is_query = position % 5 == 4 and position < SOURCE
        is_there = state[item_id] is not None if item_id in state else position < SOURCE and not is_query
        archive = self._archives[number // 2 % 2]
        try:
            with writing(self._index, wait_s=0):
                pass
            if is_there and number % 3 == 1:
                with editing(self._index, wait_s=0) as editor:
                    editor.delete([item_id])
                self._tell(f"{item_id} gone")
                return
            manifest = IndexDirectory(self._index).current_manifest()
            hasher = load_fake(Path(manifest.artifact), manifest.bits, "cpu")
            append_items(self._index, Builder(archive, hasher), [archive.items[position]], lambda _: None)
            self._tell(f"{item_id} {position + (10_000 if number // 2 % 2 else 0)}")
        except IndexLocked:
            return

    def check(self) -> int:
        """What was acknowledged is there; returns the generation that serves."""
        with Snapshot.open(self._index) as snapshot:
            manifest = snapshot.manifest
            hasher = load_fake(Path(manifest.artifact), manifest.bits, "cpu")
            state = self.state()
            source = {f"item-{number:04d}" for number in range(SOURCE) if number % 5 != 4}
            expected = (source | state.keys()) - {item_id for item_id, picture in state.items() if picture is None}
            found = {item.id: item for item in snapshot.all_items()}
            assert found.keys() == expected, found.keys() ^ expected
            assert snapshot.pending == ()
            for item_id, picture in state.items():
                if picture is not None:
                    code = to_hex(hasher.encode_images([decode_image(png(picture))]).codes[0])
                    assert snapshot.item(item_id).codes["image"] == [code], item_id
            return snapshot.generation

    def _tell(self, line: str) -> None:
        with self._told.open("a", encoding="utf-8") as told:
            told.write(f"{line}\n")


def main(home: Path) -> None:
    hurry()
    index.replay.FEW, index.replay.CHUNK = 1, 4
    make_home(home, SOURCE)
    make_archive(home / "plain.zip", SOURCE + MORE)
    make_archive(home / "changed.zip", SOURCE + MORE, changed=range(SOURCE + MORE))
    run(lambda: work(home, {"model": "first", "bits": 64}, None))
    edits = Edits(home)
    killed: list[str] = []
    generations = [edits.check()]
    log = home / "killed"
    busy = False

    def point(name: str) -> None:
        nonlocal busy
        if busy:
            return
        busy = True
        edits.make_one()
        busy = False
        is_step = name.endswith((": before", ": after"))
        if name not in killed and (is_step or name.startswith(INSIDE)):
            log.write_text(name, encoding="utf-8")
            os.kill(os.getpid(), signal.SIGKILL)

    while True:
        status = run(lambda: work(home, {"model": "second", "bits": 128}, point))
        generations.append(edits.check())
        if status == 0:
            break
        killed.append(log.read_text(encoding="utf-8"))
    report = {"killed": killed, "generations": generations, "edits": len(edits.lines())}
    sys.stdout.write(json.dumps(report) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))

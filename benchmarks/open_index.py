"""How long a large index takes to open: ``python benchmarks/open_index.py FOLDER [--items N] [--json]``.

Writes a synthetic generation (64-bit image codes, metadata, no thumbnails) into FOLDER once, in bulk, then opens it in
fresh processes and prints the medians: ``open`` maps the files, ``first_search`` also builds the engine. The page
cache is warm; nothing here fails on time.
"""

import argparse
import json
import sqlite3
import statistics
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from index.files import describe
from index.generations import IndexDirectory
from index.item_file import SCHEMA
from index.manifest import FORMAT, ITEMS, MANIFEST, ColumnManifest, GenerationManifest, codes_file, rows_file

BITS = 64
ROUNDS = 5
INSERT = """
WITH RECURSIVE numbers(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM numbers WHERE n + 1 < ?)
INSERT INTO items SELECT n, printf('item-%09d', n), printf('%064x', n), 'text of ' || n, '{"number":' || n || '}', NULL
FROM numbers
"""
OPEN = """
import json, sys, time
from pathlib import Path
import numpy as np
from index.snapshot import Snapshot
started = time.perf_counter()
snapshot = Snapshot.open(Path(sys.argv[1]), verify=False)
opened = time.perf_counter()
item = snapshot.item(f"item-{snapshot.item_count - 1:09d}")
read = time.perf_counter()
seconds = {"open": opened - started, "one_item": read - opened}
if sys.argv[2] == "search":
    query = np.zeros((1, snapshot.bits // 8), dtype=np.uint8)
    snapshot.search("image", query, k=10, radius=None, limit=10, fingerprint=None)
    seconds["first_search"] = time.perf_counter() - read
print(json.dumps(seconds))
"""


def write(index_dir: Path, items: int) -> None:
    """Write a generation of so many items, in bulk, and make it the one that serves."""
    directory = IndexDirectory(index_dir)
    number = directory.reserve()
    path = directory.fresh(number)
    codes = np.random.default_rng(0).integers(0, 256, (items, BITS // 8), dtype=np.uint8)
    codes.tofile(path / codes_file("image"))
    np.arange(items, dtype="<i8").tofile(path / rows_file("image"))
    connection = sqlite3.connect(path / ITEMS, isolation_level=None)
    connection.executescript(f"PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; {SCHEMA}")
    connection.execute(INSERT, (items,))
    connection.execute("CREATE INDEX items_by_content ON items (content_hash)")
    connection.close()
    ones = np.unpackbits(codes, axis=1, bitorder="little").sum(axis=0, dtype=np.int64)
    column = ColumnManifest("image", items, items, 1, items, 1, tuple(ones.tolist()))
    GenerationManifest(
        format=FORMAT,
        index=directory.name,
        generation=number,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        bits=BITS,
        artifact="synthetic",
        fingerprint="synthetic",
        device_kind="cpu",
        source="synthetic",
        texts="first",
        items=items,
        columns={"image": column},
        fields={},
        files={file.name: describe(file) for file in sorted(path.iterdir())},
        thumbnail_bytes=0,
    ).save(path / MANIFEST)
    directory.publish(number)
    directory.activate(number)


def measure(index_dir: Path, *, search: bool) -> dict[str, float]:
    """Median seconds of each step over fresh processes."""
    command = [sys.executable, "-c", OPEN, str(index_dir), "search" if search else "open"]
    rounds = [_seconds(command) for _ in range(1 if search else ROUNDS)]
    return {step: statistics.median(one[step] for one in rounds) for step in rounds[0]}


def _seconds(command: list[str]) -> dict[str, float]:
    seconds: dict[str, float] = json.loads(subprocess.check_output(command))  # noqa: S603 - this very interpreter
    return seconds


def main() -> None:
    """Write the index if it is not there, then open it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--items", type=int, default=10_000_000)
    parser.add_argument("--search", action="store_true", help="also build the engine and search once")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    index_dir = arguments.folder / f"synthetic-{arguments.items}"
    if IndexDirectory(index_dir).current() is None:
        write(index_dir, arguments.items)
    seconds = measure(index_dir, search=arguments.search)
    if arguments.json:
        sys.stdout.write(json.dumps({"items": arguments.items, "seconds": seconds}) + "\n")
    else:
        sys.stdout.write("".join(f"{step:>14} {value:9.4f} s\n" for step, value in seconds.items()))


if __name__ == "__main__":
    main()

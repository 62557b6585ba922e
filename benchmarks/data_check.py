"""Time and memory of import, opening and ``crossbit data check``: ``python benchmarks/data_check.py [--rows N]``.

Makes a manifest without images in a temporary folder: tag-like texts, 81 classes of very unequal size. Each step is a
process of its own, and its peak memory is what the system counted.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

NUS_WIDE = 195_834
WORDS = [f"{first}{last}" for first in ("sun", "sea", "sky", "cat", "dog", "car", "red") for last in ("", "s", "light")]
OPEN = "from model.items import ItemArchive, find_archive; from pathlib import Path; import sys; import time; "
OPEN += "start = time.perf_counter(); archive = ItemArchive.open(find_archive('synthetic', Path(sys.argv[1]))); "
OPEN += "print(f'{1000 * (time.perf_counter() - start):.1f} ms inside')"


def write_manifest(path: Path, rows: int) -> None:
    """As many items as asked for, in an order that is not that of their ids."""
    generator = np.random.default_rng(1814)
    classes = np.minimum(generator.geometric(0.08, size=(rows, 3)), 81)
    words = generator.integers(0, len(WORDS), size=(rows, 12))
    order = generator.permutation(rows)
    with path.open("w", encoding="utf-8") as file:
        for row in range(rows):
            text = " ".join(WORDS[word] for word in words[row])
            labels = [f"class {label}" for label in set(classes[row].tolist())]
            file.write(json.dumps({"id": f"{order[row]:07d}", "text": text, "labels": labels}) + "\n")


def run(what: str, command: list[str], home: Path) -> None:
    """Print seconds and peak memory of a process."""
    started = time.perf_counter()
    environment = os.environ | {"CROSSBIT_HOME": str(home)}
    process = subprocess.Popen([sys.executable, *command], env=environment, stdout=subprocess.PIPE, text=True)  # noqa: S603
    output = process.stdout.read() if process.stdout is not None else ""
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    peak = usage.ru_maxrss / 1024  # Linux counts in KiB
    lines = output.strip().splitlines()
    print(
        f"{what}: {time.perf_counter() - started:.1f} s, {peak:,.0f} MiB, exit code {process.returncode}; {lines[-1:]}"
    )


def main() -> None:
    """Import, open, check."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=NUS_WIDE)
    rows = parser.parse_args().rows
    crossbit = ["-c", "from app.cli import main; main()"]
    with tempfile.TemporaryDirectory() as folder:
        home, manifest = Path(folder) / "home", Path(folder) / "rows.jsonl"
        write_manifest(manifest, rows)
        print(f"{rows:,} rows, {manifest.stat().st_size / 2**20:,.0f} MiB of JSON lines")
        run("import", [*crossbit, "import", str(manifest), "--name", "synthetic", "--json"], home)
        run("open", ["-c", OPEN, str(home / "data")], home)
        run("data check", [*crossbit, "data", "check", "synthetic"], home)


if __name__ == "__main__":
    main()

"""What to run at a million, ten million, a hundred million and a billion items, from figures of one machine.

    python benchmarks/scale_model.py measure HOME --out docs/results/scale.json
    python benchmarks/scale_model.py table docs/results/scale.json

``measure`` times the index on synthetic learned codes of 64 bits, the encoder of the demo on one thread, and reads
what an item of the demo's index takes on disk. ``table`` prints the sizing table as Markdown: every cell says whether
it was measured at that size or derived, that is, taken in proportion from the largest size or the rate that was.
"""

import argparse
import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.bench.codes import Kind, draw_codes
from app.bench.encode import read_inputs
from app.bench.index import instruction_sets
from app.index_commands import bytes_per_item
from app.lookup import find_artifact
from app.settings import Settings
from app.show import progress
from index.kernel.library import MAX_ROWS, Library, load
from index.search.kernel_engine import KernelEngine
from index.search.structures import prepare
from index.snapshot import Snapshot
from model.artifact import load_hasher
from model.images import decode_image

BITS, K = 64, 100
BATCH, SINGLES, ROUNDS = 200, 50, 5
MEASURED_SIZES = (1_000_000, 10_000_000, 100_000_000)
TABLE_SIZES = (1_000_000, 10_000_000, 100_000_000, 1_000_000_000)
ENCODED, ENCODE_BATCH = 128, 32
COLUMNS = 2  # an image code and a text code an item
DAY_S = 86_400.0
UNITS = (("TB", 1e12), ("GB", 1e9), ("MB", 1e6))
Measured = Mapping[str, Any]  # Any: JSON


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    measuring = commands.add_parser("measure")
    measuring.add_argument("home", type=Path)
    measuring.add_argument("--out", type=Path, required=True)
    measuring.add_argument("--sizes", type=int, nargs="+", default=MEASURED_SIZES)
    measuring.set_defaults(run=lambda asked: write(asked.out, measure(asked.home, asked.sizes)))
    printing = commands.add_parser("table")
    printing.add_argument("file", type=Path)
    printing.set_defaults(run=lambda asked: print(table(json.loads(asked.file.read_text()))))
    asked = parser.parse_args()
    asked.run(asked)


def write(path: Path, measured: Measured) -> None:
    """Keep the figures as JSON."""
    path.write_text(json.dumps(measured, indent=2, sort_keys=True) + "\n")


def measure(home: Path, sizes: Sequence[int]) -> Measured:
    """All figures, from this machine."""
    library = load()
    if library is None:
        raise SystemExit("expected the compiled kernel, found none; reinstall crossbit with a C compiler")
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "cores": os.cpu_count(),
        "instruction_sets": instruction_sets(),
        "load_before": os.getloadavg()[0],
        "encoder_per_s": measure_encoder(Settings(home=home)),
        "disk_bytes_per_item": measure_disk(home / "indexes" / "demo"),
        "index": {str(size): measure_index(library, size) for size in sizes},
    }


def measure_index(library: Library, size: int) -> Measured:
    """Queries a second on one thread (of its CPU time, medians), bytes an item in memory, seconds to sort the codes."""
    with progress(f"{size:,} codes", 2 + 2 * ROUNDS) as advance:
        codes = draw_codes(Kind.LEARNED, size, BITS, seed=0)
        advance(1)
        started = time.thread_time()
        structures = prepare(library, codes.database)
        sort_s = time.thread_time() - started
        advance(1)
        engine = KernelEngine(library, codes.database, structures=structures)
        rates = {
            mode: median(_queries_per_s(engine, codes.queries, number, mode, advance) for number in range(ROUNDS))
            for mode in ("batch", "single")
        }
    return {
        "batch_per_s": rates["batch"],
        "single_per_s": rates["single"],
        "bytes_per_code": structures.size_bytes / size,
        "distinct": structures.distinct,
        "sort_s": sort_s,
    }


def _queries_per_s(
    engine: KernelEngine, queries: NDArray[np.uint8], number: int, mode: str, advance: Callable[[int], None]
) -> float:
    some = np.roll(queries, -number * BATCH, axis=0)[: BATCH if mode == "batch" else SINGLES]
    started = time.thread_time()
    for part in [some] if mode == "batch" else some[:, np.newaxis]:
        engine.knn(part, K)
    seconds = time.thread_time() - started
    advance(1)
    return len(some) / seconds


def measure_encoder(settings: Settings) -> Measured:
    """Images (from their files) and texts a second on one thread, in bulk."""
    inputs = read_inputs(settings, "openclipart", ENCODED)
    hasher = load_hasher(settings.artifacts_dir / find_artifact(settings, "demo"), BITS, settings.device)
    encoders = {
        "image": lambda part: hasher.encode_images([decode_image(inputs.files[row]) for row in part]),
        "text": lambda part: hasher.encode_texts([inputs.texts[row] for row in part]),
    }
    rates = {}
    with progress("encoding", 2 * (ROUNDS + 1) * ENCODED) as advance:
        for kind, encode in encoders.items():
            found = []
            for _ in range(ROUNDS + 1):  # the first tries the shapes of forwards
                started = time.perf_counter()
                for start in range(0, ENCODED, ENCODE_BATCH):
                    encode(range(start, start + ENCODE_BATCH))
                    advance(ENCODE_BATCH)
                found.append(ENCODED / (time.perf_counter() - started))
            rates[kind] = median(found[1:])
    return {"device": hasher.device, **rates}


def measure_disk(index_dir: Path) -> Measured:
    """Bytes of an item of the demo's index, by what they hold."""
    with Snapshot.open(index_dir, verify=False) as snapshot:
        return bytes_per_item(snapshot)


def table(measured: Measured) -> str:
    """The sizing table, Markdown; m: measured at this size, d: derived."""
    rows = [
        ("codes and what finds them, in memory", lambda n: _memory(measured, n)),
        ("on disk without pictures", lambda n: _size(n * _disk(measured, pictures=False), "d")),
        ("on disk with 256-pixel thumbnails", lambda n: _size(n * _disk(measured, pictures=True), "d")),
        ("nearest 100, one at a time, per core and second", lambda n: _rate(measured, n, "single_per_s")),
        ("nearest 100, in batches, per core and second", lambda n: _rate(measured, n, "batch_per_s")),
        ("sorting the codes of one column, one core", lambda n: _sorting(measured, n)),
        ("encoding all anew, days of one core", lambda n: f"{_encode_days(measured, n):,.1f} d"),
        ("cores to encode all within a day", lambda n: f"{max(1, int(np.ceil(_encode_days(measured, n)))):,} d"),
        ("rows that the kernel can number", lambda n: "yes m" if n < MAX_ROWS else "no m"),
    ]
    lines = ["| | " + " | ".join(_count(n) for n in TABLE_SIZES) + " |", "|---" * (1 + len(TABLE_SIZES)) + "|"]
    lines += [f"| {name} | " + " | ".join(cell(n) for n in TABLE_SIZES) + " |" for name, cell in rows]
    return "\n".join(lines)


def _nearest(measured: Measured, n: int) -> tuple[Measured, float]:
    """The figures of the index at this size, or at the largest below it, and how many times as large this is."""
    size = max((int(one) for one in measured["index"] if int(one) <= n), default=min(map(int, measured["index"])))
    return measured["index"][str(size)], n / size


def _mark(times: float) -> str:
    return "m" if times == 1 else "d"


def _memory(measured: Measured, n: int) -> str:
    figures, times = _nearest(measured, n)
    return _size(COLUMNS * n * figures["bytes_per_code"], _mark(times))


def _rate(measured: Measured, n: int, key: str) -> str:
    """Beyond the largest size as if the work grew with the items; it grows less where codes repeat."""
    figures, times = _nearest(measured, n)
    rate = figures[key] / times
    return f"{rate:,.0f} {_mark(times)}" if rate >= 10 else f"{rate:.1f} {_mark(times)}"


def _sorting(measured: Measured, n: int) -> str:
    figures, times = _nearest(measured, n)
    return f"{figures['sort_s'] * times:,.1f} s {_mark(times)}"


def _disk(measured: Measured, *, pictures: bool) -> float:
    parts = measured["disk_bytes_per_item"]
    return float(sum(size for name, size in parts.items() if pictures or name != "thumbnails"))


def _encode_days(measured: Measured, n: int) -> float:
    rates = measured["encoder_per_s"]
    return n * (1 / rates["image"] + 1 / rates["text"]) / DAY_S


def _size(size: float, mark: str) -> str:
    unit, factor = next((one for one in UNITS if size >= one[1]), UNITS[-1])
    return f"{size / factor:,.1f} {unit} {mark}"


def _count(n: int) -> str:
    return f"{n // 10**9}B" if n >= 10**9 else f"{n // 10**6}M"


if __name__ == "__main__":
    main()

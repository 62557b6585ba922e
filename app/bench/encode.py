"""What `crossbit bench encode` does: time queries, bulk work, sizes of forwards, and the fast path beside it."""

import os
import resource
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

import typer

from app.lookup import find_artifact
from app.settings import Settings
from app.show import progress
from model.artifact import ArtifactHasher, FastPath, load_hasher
from model.bulk import in_batches
from model.hasher import EncodedBatch
from model.images import decode_image
from model.items import ItemArchive, caption, find_archive, pairs
from model.margins import count_flips
from model.speed import SIZES, sweep_images, sweep_texts

LONE = 32  # queries timed one by one, of each kind
ROUNDS = 3  # of bulk work, canonical and fast in turn


@dataclass(frozen=True, slots=True)
class Inputs:
    """Image files and texts of one data set."""

    files: Sequence[bytes]
    texts: Sequence[str]


def read_inputs(settings: Settings, data: str, items: int) -> Inputs:
    """Some items of a data set that have an image and a text, spread evenly over it.

    Raises:
        typer.BadParameter: there are none.
        ArchiveError: there is no such data set.
    """
    archive = ItemArchive.open(find_archive(data, settings.data_dir))
    variant = archive.info.captions[0] if archive.info.captions else ""
    found = pairs(archive.items, variant)
    if not len(found):
        raise typer.BadParameter(f"expected items with an image and a text in {data}, found none", param_hint="--data")
    chosen = [found[row] for row in range(0, len(found), max(1, len(found) // items))][:items]
    return Inputs([archive.read_image(item) for item in chosen], [caption(item, variant) for item in chosen])


def bench_encode(
    settings: Settings, artifact: str | None, bits: int, data: str, items: int, fast: FastPath
) -> dict[str, Any]:  # Any: JSON
    """Measure one artifact on its device over some items of a data set."""
    name = find_artifact(settings, artifact)
    folder = settings.artifacts_dir / name
    inputs = read_inputs(settings, data, items)
    hasher = load_hasher(folder, bits, settings.device)
    load = os.getloadavg()[0]
    count = len(inputs.files)
    with progress("measuring", 2 * min(LONE, count) + 2 * len(SIZES) + 4 * ROUNDS * count) as advance:
        lone = _time_lone(hasher, inputs, advance)
        backbone, images = hasher.encoder.backbone, [decode_image(data) for data in inputs.files[:LONE]]
        sweep = {
            "image": sweep_images(backbone, images, advance),
            "text": sweep_texts(backbone, inputs.texts, advance),
        }
        bulk = _time_bulk(hasher, load_hasher(folder, bits, settings.device, fast=fast), inputs, settings, advance)
    return {
        "artifact": name,
        "bits": bits,
        "device": hasher.device,
        "cores": os.cpu_count(),
        "load_before": load,
        "items": count,
        "threads": settings.threads,
        "fast_path": asdict(fast),
        "lone_ms": lone,
        "forwards": {kind: [asdict(one) for one in sizes] for kind, sizes in sweep.items()},
        "bulk": bulk,
        "peak_memory_mib": _peak_memory_mib(),
    }


def _time_lone(hasher: ArtifactHasher, inputs: Inputs, advance: Callable[[int], None]) -> dict[str, float]:
    hasher.encode_images([decode_image(inputs.files[0])])
    hasher.encode_texts(inputs.texts[:1])
    calls: dict[str, list[Callable[[], EncodedBatch]]] = {
        "image": [lambda data=data: hasher.encode_images([decode_image(data)]) for data in inputs.files[:LONE]],  # type: ignore[misc]
        "text": [lambda text=text: hasher.encode_texts([text]) for text in inputs.texts[:LONE]],  # type: ignore[misc]
    }
    medians = {}
    for kind, some in calls.items():
        times = []
        for call in some:
            started = time.perf_counter()
            call()
            times.append(1e3 * (time.perf_counter() - started))
            advance(1)
        medians[kind] = median(times)
    return medians


def _time_bulk(
    canonical: ArtifactHasher, fast: ArtifactHasher, inputs: Inputs, settings: Settings, advance: Callable[[int], None]
) -> dict[str, Any]:  # Any: JSON
    """Both paths in turn over all inputs, from files to codes; rates are medians of the rounds."""
    rates: dict[tuple[str, str], list[float]] = {}
    batches: dict[tuple[str, str], EncodedBatch] = {}
    for _ in range(ROUNDS):
        for path, hasher in (("canonical", canonical), ("fast", fast)):
            for kind, encode in _encoders(hasher, inputs).items():
                rows = range(len(inputs.files))
                started = time.perf_counter()
                parts = list(in_batches(rows, encode, workers=settings.threads, advance=advance))
                rates.setdefault((kind, path), []).append(len(rows) / (time.perf_counter() - started))
                batches[kind, path] = EncodedBatch.joined(parts)
    return {kind: _compared(kind, rates, batches) for kind in ("image", "text")}


def _encoders(hasher: ArtifactHasher, inputs: Inputs) -> dict[str, Callable[[Sequence[int]], EncodedBatch]]:
    return {
        "image": lambda rows: hasher.encode_images([decode_image(inputs.files[row]) for row in rows]),
        "text": lambda rows: hasher.encode_texts([inputs.texts[row] for row in rows]),
    }


def _compared(
    kind: str, rates: dict[tuple[str, str], list[float]], batches: dict[tuple[str, str], EncodedBatch]
) -> dict[str, Any]:  # Any: JSON
    flips = count_flips(batches[kind, "canonical"], batches[kind, "fast"].codes)
    return {
        "canonical_per_s": median(rates[kind, "canonical"]),
        "fast_per_s": median(rates[kind, "fast"]),
        "fast_flips_per_million": flips.per_million,
        "fast_flips_above_margin": flips.above,
    }


def _peak_memory_mib() -> float:
    """Of this process since its start."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10


def as_table(measured: dict[str, Any]) -> tuple[list[str], list[list[str]]]:  # Any: JSON
    """Headings and a row a figure."""
    rows = []
    for kind in ("image", "text"):
        bulk = measured["bulk"][kind]
        rows.append([kind, "one query", f"{measured['lone_ms'][kind]:.1f} ms", ""])
        for one in measured["forwards"][kind]:
            note = "same bits" if one["same_bits"] else "other bits"
            rows.append([kind, f"forward of {one['size']}", f"{one['per_s']:.0f} /s", f"{one['ms']:.1f} ms, {note}"])
        threads = f"{measured['threads']} threads"
        rows.append([kind, "bulk, canonical", f"{bulk['canonical_per_s']:.0f} /s", threads])
        flips = f"{bulk['fast_flips_per_million']:.0f} bits in a million flip, {bulk['fast_flips_above_margin']} above"
        rows.append([kind, f"bulk, {measured['fast_path']['dtype']}", f"{bulk['fast_per_s']:.0f} /s", flips])
    rows.append(["", "peak memory", f"{measured['peak_memory_mib']:.0f} MiB", ""])
    return ["input", "what", "figure", ""], rows

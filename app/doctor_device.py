"""What `crossbit doctor --device` measures: whether a device makes the CPU's codes, and how fast it is."""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from itertools import islice
from typing import Any

from app.doctor import Finding, Level
from app.lookup import find_artifact
from app.settings import Settings
from app.show import progress
from model.artifact import ArtifactHasher, load_hasher
from model.hasher import EncodedBatch
from model.images import decode_image
from model.items import ItemArchive, caption, find_archive
from model.manifest import read_manifest
from model.margins import MARGIN_RULE, count_flips
from model.speed import SIZES, device_facts, sweep_images, sweep_texts

DATA = "openclipart"  # shipped, so that the figures of two machines are about the same inputs
ITEMS = 64


def measure_device(settings: Settings, device: str, artifact: str | None, items: int = ITEMS) -> dict[str, Any]:
    """One artifact at its greatest length on ``device`` and on the CPU; JSON.

    Raises:
        ModelNotFound: no such artifact.
        EncoderError: there is no such device.
    """
    name = find_artifact(settings, artifact)
    folder = settings.artifacts_dir / name
    bits = max(read_manifest(folder).lengths)
    archive = ItemArchive.open(find_archive(DATA, settings.data_dir))
    chosen = list(islice(archive.items, items))
    inputs: dict[str, Sequence[Any]] = {  # Any: images or texts
        "image": [decode_image(archive.read_image(item)) for item in chosen],
        "text": [caption(item, archive.info.captions[0]) for item in chosen],
    }
    measured, reference = load_hasher(folder, bits, device), load_hasher(folder, bits, "cpu")
    with progress("measuring the device", 4 * len(chosen) + 2 * len(SIZES)) as advance:
        warm_up = {kind: _first_and_second_s(measured, kind, some) for kind, some in inputs.items()}
        flips = {kind: _flips(reference, measured, kind, some, advance) for kind, some in inputs.items()}
        forwards = {
            "image": sweep_images(measured.encoder.backbone, inputs["image"], advance),
            "text": sweep_texts(measured.encoder.backbone, inputs["text"], advance),
        }
    return {
        "artifact": name,
        "bits": bits,
        "device": device_facts(measured.encoder.backbone.device),
        "items": len(chosen),
        "warm_up_s": warm_up,
        "flips_against_cpu": flips,
        "forwards": {kind: [asdict(one) for one in sizes] for kind, sizes in forwards.items()},
    }


def as_findings(measured: dict[str, Any]) -> list[Finding]:  # Any: JSON
    """The measurements as lines of the doctor's report; bits that differ beyond the margin rule are a failure."""
    device = measured["device"]["kind"]
    findings = []
    for kind, flips in measured["flips_against_cpu"].items():
        found = (
            f"{flips['per_million']:.0f} bits in a million differ from the CPU's, "
            f"{flips['above']} of them above {MARGIN_RULE:g} of the mean margin"
        )
        level = Level.FAIL if flips["above"] else Level.OK
        remedy = "this device computes something else: set CROSSBIT_DEVICE=cpu" if flips["above"] else ""
        findings.append(Finding(level, f"{device} {kind} codes", found, remedy))
    for kind, sizes in measured["forwards"].items():
        best = max(sizes, key=lambda one: float(one["per_s"]))
        same = ", ".join(str(one["size"]) for one in sizes if one["same_bits"])
        found = f"{best['per_s']:,.0f} a second in forwards of {best['size']}; the canonical bits in forwards of {same}"
        findings.append(Finding(Level.OK, f"{device} {kind} speed", found))
    return findings


def _first_and_second_s(hasher: ArtifactHasher, kind: str, inputs: Sequence[Any]) -> list[float]:
    seconds = []
    for _ in range(2):
        started = time.perf_counter()
        _encode(hasher, kind, inputs[:1])
        seconds.append(time.perf_counter() - started)
    return seconds


def _flips(
    reference: ArtifactHasher,
    measured: ArtifactHasher,
    kind: str,
    inputs: Sequence[Any],  # Any: images or texts
    advance: Callable[[int], None],
) -> dict[str, float]:
    expected = _encode(reference, kind, inputs)
    advance(len(inputs))
    flips = count_flips(expected, _encode(measured, kind, inputs).codes)
    advance(len(inputs))
    return {**asdict(flips), "per_million": flips.per_million}


def _encode(hasher: ArtifactHasher, kind: str, inputs: Sequence[Any]) -> EncodedBatch:  # Any: images or texts
    return hasher.encode_images(inputs) if kind == "image" else hasher.encode_texts(inputs)

"""How fast each size of forward is on this device, and whether it gives the bits of the canonical one."""

import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from statistics import median

import numpy as np
import torch
from PIL.Image import Image
from torch import Tensor

from encoders.device import memory_share
from encoders.encode import PATHS
from encoders.forward import Rows, forward_chunk
from encoders.protocol import Pooling

SIZES = (1, 2, 4, 8, 16, 32)
INPUTS = 32  # of each sweep, a multiple of every size


@dataclass(frozen=True, slots=True)
class SizeSpeed:
    """Forwards of one size over the same inputs, one thread."""

    size: int
    ms: float  # median, of one forward
    per_s: float  # inputs
    same_bits: bool  # as the canonical forward, for every input


def sweep_images(backbone: Pooling, images: Sequence[Image], advance: Callable[[int], None]) -> list[SizeSpeed]:
    """Each of ``SIZES`` on pixels that are ready; ``advance`` hears of each size."""
    pixels = torch.stack([backbone.preprocess(image) for image in islice(cycle(images), INPUTS)])
    return _sweep(backbone, backbone.image_features, pixels, advance)


def sweep_texts(backbone: Pooling, texts: Sequence[str], advance: Callable[[int], None]) -> list[SizeSpeed]:
    """Each of ``SIZES`` on the tokens of the most frequent length bucket."""
    step = PATHS[backbone.device.type].length_step
    buckets: dict[int, list[tuple[int, ...]]] = defaultdict(list)
    for text in texts:
        ids = backbone.tokenize(text).chunks[0]
        buckets[-(-len(ids) // step) * step].append(ids)
    length, fullest = max(buckets.items(), key=lambda bucket: len(bucket[1]))
    tokens = torch.tensor([[*ids, *[0] * (length - len(ids))] for ids in islice(cycle(fullest), INPUTS)])
    return _sweep(backbone, backbone.text_features, tokens, advance)


def device_facts(device: torch.device) -> dict[str, str | int | float]:
    """What the device is and, on CUDA, the most memory that was taken; JSON."""
    facts: dict[str, str | int | float] = {"kind": device.type, "torch": torch.__version__}
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        facts |= {
            "name": properties.name,
            "memory_bytes": properties.total_memory,
            "memory_share": memory_share(),
            "peak_memory_bytes": torch.cuda.max_memory_allocated(device),
            "cuda": str(torch.version.cuda),
        }
    return facts


def _sweep(
    backbone: Pooling, forward: Callable[[Tensor], Tensor], inputs: Tensor, advance: Callable[[int], None]
) -> list[SizeSpeed]:
    device = backbone.device

    def run(size: int, times: list[float]) -> Rows:
        parts = []
        for part in inputs.split(size):
            started = time.perf_counter()
            parts.append(forward_chunk(forward, part, size, device))  # ends with a copy to the CPU, which waits
            times.append(time.perf_counter() - started)
        return np.concatenate(parts)

    canonical = run(PATHS[device.type].chunk, [])
    speeds = []
    for size in SIZES:
        forward_chunk(forward, inputs[:size], size, device)  # the first of a shape sets up its kernels
        times: list[float] = []
        rows = run(size, times)
        speeds.append(SizeSpeed(size, 1e3 * median(times), size / median(times), np.array_equal(rows, canonical)))
        advance(1)
    return speeds

"""Time to decode an upload in a process of its own beside that in the service: ``python benchmarks/decoding.py``.

Both take turns over the same files, whose pixels are compared first.
"""

import argparse
import io
import time
from collections.abc import Callable
from statistics import median

import numpy as np
from PIL import Image

from app.decoding import Decoders
from model.images import decode_image

SIZES = {"WebP": (224, 224), "JPEG": (1024, 768), "PNG": (1024, 768), "JPEG, 12 million pixels": (4000, 3000)}


def draw(kind: str, size: tuple[int, int]) -> bytes:
    """A smooth picture with some noise, as photographs have."""
    generator = np.random.default_rng(7)
    gradient = np.asarray(Image.linear_gradient("L").resize(size), dtype=np.int16)[..., np.newaxis]
    noisy = gradient + generator.integers(-8, 9, size=(size[1], size[0], 3), dtype=np.int16)
    file = io.BytesIO()
    Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8)).save(file, kind.partition(",")[0])
    return file.getvalue()


def timed_ms(decode: Callable[[bytes], Image.Image], data: bytes) -> float:
    """Milliseconds of one call."""
    started = time.perf_counter()
    decode(data)
    return 1000 * (time.perf_counter() - started)


def main() -> None:
    """Print medians for each file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=31)
    rounds = parser.parse_args().rounds
    decoders = Decoders(1, max_pixels=40_000_000, deadline_s=60)
    for kind, size in SIZES.items():
        data = draw(kind, size)
        assert decoders.decode(data).tobytes() == decode_image(data).tobytes()
        times = [(timed_ms(decode_image, data), timed_ms(decoders.decode, data)) for _ in range(rounds)]
        here, there = (median(some) for some in zip(*times, strict=True))
        added = median(one - other for other, one in times)
        print(f"{kind} {size[0]} x {size[1]}: here {here:.2f} ms, in a process {there:.2f} ms, added {added:.2f} ms")
    decoders.close()


if __name__ == "__main__":
    main()

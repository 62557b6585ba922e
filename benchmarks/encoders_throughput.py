"""From files and texts to codes, beside the bare forward of the same tower over the same inputs, in turn in one run.

    python benchmarks/encoders_throughput.py HOME/artifacts/NAME

Bare is the tower alone on tensors that are ready, in the best of two shapes: one input a forward, and the whole batch
in one (texts padded to the longest, as usual). Both sides run in as many threads, one core each. Prints medians of
rounds, the ratio of each round's pair, and the peak memory.
"""

import resource
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median

import torch
from torch import Tensor

from model.artifact import load_hasher
from model.bulk import in_batches
from model.images import decode_image
from model.items import ItemArchive, caption, find_archive, pairs

BATCH, ITEMS, ROUNDS = 64, 128, 5
DATA = "openclipart"

Rate = Callable[[], float]  # inputs a second, once through


def bare(forward: Callable[[Tensor], Tensor], batches: Sequence[Sequence[Tensor]], threads: int) -> Rate:
    """The tower alone; the parts of a batch are forwards."""

    def run(parts: Sequence[Tensor]) -> None:
        with torch.inference_mode():
            for part in parts:
                forward(part)

    def rate() -> float:
        started = time.perf_counter()
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(run, batches))
        return sum(len(part) for parts in batches for part in parts) / (time.perf_counter() - started)

    return rate


def whole(encode: Callable[[Sequence[int]], object], count: int, threads: int) -> Rate:
    """From bytes or text to codes."""

    def rate() -> float:
        started = time.perf_counter()
        list(in_batches(range(count), encode, batch=BATCH, workers=threads))
        return count / (time.perf_counter() - started)

    return rate


def compare(name: str, threads: int, ours: Rate, bares: Sequence[Rate]) -> None:
    """Run both in turn and print medians."""
    for rate in (ours, *bares):
        rate()
    rounds = [(ours(), max(rate() for rate in bares)) for _ in range(ROUNDS)]
    mine, theirs = (median(column) for column in zip(*rounds, strict=True))
    ratio = median(one / other for one, other in rounds)
    print(f"{name}\t{threads} threads\tcodes {mine:.0f}/s\tbare {theirs:.0f}/s\tratio {ratio:.2f}", flush=True)


def main(artifact: Path) -> None:
    """Compare images, and texts of each caption variant, in one and two threads."""
    hasher = load_hasher(artifact, device="cpu")
    backbone = hasher.encoder.backbone
    archive = ItemArchive.open(find_archive(DATA, Path("nowhere")))
    found = pairs(archive.items, archive.info.captions[0])
    items = [found[row] for row in range(0, len(found), len(found) // ITEMS)][:ITEMS]
    files = [archive.read_image(item) for item in items]
    starts = range(0, ITEMS, BATCH)
    pixels = [backbone.preprocess(decode_image(data)) for data in files]
    stacked = [torch.stack(pixels[start : start + BATCH]) for start in starts]
    images = [stacked, [part.split(1) for part in stacked]]
    for threads in (1, 2):
        bares = [
            bare(backbone.image_features, [[part] for part in images[0]], threads),
            bare(backbone.image_features, images[1], threads),
        ]
        ours = whole(lambda rows: hasher.encode_images([decode_image(files[row]) for row in rows]), ITEMS, threads)
        compare("images", threads, ours, bares)
    for variant in archive.info.captions:
        texts = [caption(item, variant) for item in items]
        ids = [list(backbone.tokenize(text).chunks[0]) for text in texts]
        alone = [[torch.tensor([one]) for one in ids[start : start + BATCH]] for start in starts]
        padded = [[padded_together(ids[start : start + BATCH])] for start in starts]
        for threads in (1, 2):
            bares = [bare(backbone.text_features, batches, threads) for batches in (alone, padded)]
            ours = whole(lambda rows, texts=texts: hasher.encode_texts([texts[row] for row in rows]), ITEMS, threads)
            compare(f"texts ({variant})", threads, ours, bares)
    print(f"peak memory\t{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10:.0f} MiB")


def padded_together(ids: Sequence[Sequence[int]]) -> Tensor:
    """(B, longest), zero where padded."""
    longest = max(map(len, ids))
    return torch.tensor([[*one, *[0] * (longest - len(one))] for one in ids])


if __name__ == "__main__":
    main(Path(sys.argv[1]))

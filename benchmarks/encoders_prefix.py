"""What a training step of the last blocks costs with and without the prefix cache: same batches, one run, CPU or CUDA.

python benchmarks/encoders_prefix.py [--backbone NAME] [--tail 2] [--batch 32] [--steps 8] [--device auto] [--json]

Both sides start from the same weights and take the same steps (InfoNCE of image and text features, AdamW, evaluation
mode). Without the cache a step runs the frozen blocks on ready pixels and token ids; with it, it reads the stored
states of the same inputs from disk. Decoding is left out of both, which favours the side without the cache.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import torch
from PIL.Image import Image
from rich.console import Console
from rich.progress import track
from torch import Tensor
from torch.nn.functional import cross_entropy

from encoders.device import make_repeatable, resolve_device
from encoders.prefix import PrefixCache
from encoders.protocol import Backbone
from encoders.registry import DEFAULT, load_backbone
from encoders.towers import Tail
from model.images import decode_image
from model.items import ItemArchive, caption, find_archive

RATE = 1e-5  # the papers' for tuned blocks
TEMPERATURE = 0.07
States = tuple[Tensor, Tensor, Tensor]  # image state, text state, token ids


@dataclass
class Side:
    """One way to come by the states, with tails and an optimiser of its own."""

    read: Callable[[int], States]  # of batch number n
    tails: tuple[Tail, Tail]
    optimiser: torch.optim.Optimizer
    losses: list[float]
    seconds: list[float]

    def step(self, batch: int) -> None:
        """One training step; its loss and time are kept."""
        started = time.perf_counter()
        image_state, text_state, tokens = self.read(batch)
        image, text = self.tails[0](image_state).features, self.tails[1](text_state, tokens).features
        joint = text.shape[1]
        scores = image[:, :joint] @ text.T / TEMPERATURE
        target = torch.arange(len(scores), device=scores.device)
        loss = (cross_entropy(scores, target) + cross_entropy(scores.T, target)) / 2
        self.optimiser.zero_grad()
        loss.backward()
        self.optimiser.step()
        self.losses.append(loss.item())  # waits for the device
        self.seconds.append(time.perf_counter() - started)


def main() -> None:
    """Fill the cache, let both sides take turns, print medians, ratio and how far the losses are apart."""
    options = _options()
    make_repeatable(resolve_device(options.device))
    backbone = load_backbone(options.backbone, options.device)
    images, texts = _data(options.batch * options.steps)
    with tempfile.TemporaryDirectory() as folder:
        cache = PrefixCache(backbone, Path(folder), image_tail=options.tail, text_tail=options.tail)
        started = time.perf_counter()
        stored = _fill(cache, images, texts, options.batch)
        filled_s = time.perf_counter() - started
        disk = sum(path.stat().st_size for path in Path(folder).rglob("*.npy"))
        fresh = _batches(backbone, images, texts, options.batch)
        sides = [
            _side(backbone, options.tail, lambda batch: _through_towers(backbone, options.tail, *fresh[batch])),
            _side(backbone, options.tail, lambda batch: _from_disk(cache, *stored[batch])),
        ]
        for batch in track(range(options.steps), "training steps", console=Console(stderr=True)):
            for side in sides:
                side.step(batch)
    _report(options, sides, filled_s, disk)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", default=DEFAULT)
    parser.add_argument("--device", default="auto")
    for name, default in (("tail", 2), ("batch", 32), ("steps", 8)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if options.steps < 2 or options.batch < 2:
        parser.error("expected at least 2 steps and 2 items a batch: the first step is not counted")
    return options


def _data(count: int) -> tuple[list[Image], list[str]]:
    archive = ItemArchive.open(find_archive("openclipart", Path("var/data")))
    items = [item for item in archive.items if item.texts][:count]
    if len(items) < count:
        raise SystemExit(
            f"expected at most {len(items)} items in all steps, found {count}; make --batch or --steps less"
        )
    shown = track(items, "images", console=Console(stderr=True))
    return [decode_image(archive.read_image(item)) for item in shown], [caption(item, "title") for item in items]


def _fill(
    cache: PrefixCache, images: Sequence[Image], texts: Sequence[str], batch: int
) -> list[tuple[list[str], list[str]]]:
    """Keys of images and texts, batch by batch."""
    starts = track(range(0, len(images), batch), "filling the cache", console=Console(stderr=True))
    return [
        (
            cache.add_images(images[start : start + batch]),
            [keys[0] for keys in cache.add_texts(texts[start : start + batch])],
        )
        for start in starts
    ]


def _batches(
    backbone: Backbone, images: Sequence[Image], texts: Sequence[str], batch: int
) -> list[tuple[Tensor, Tensor]]:
    """Pixels and token ids, batch by batch; the first chunk of each text."""
    ids = [torch.tensor(backbone.tokenize(text).chunks[0]) for text in texts]
    return [
        (
            torch.stack([backbone.preprocess(image) for image in images[start : start + batch]]),
            torch.nn.utils.rnn.pad_sequence(ids[start : start + batch], batch_first=True),
        )
        for start in range(0, len(images), batch)
    ]


def _through_towers(backbone: Backbone, tail: int, pixels: Tensor, tokens: Tensor) -> States:
    tokens = tokens.to(backbone.device)
    with torch.no_grad():
        image = backbone.image_tower.prefix(pixels.to(backbone.device), tail)
        return image, backbone.text_tower.prefix(tokens, tail), tokens


def _from_disk(cache: PrefixCache, images: Sequence[str], texts: Sequence[str]) -> States:
    return (cache.image_states(images), *cache.text_states(texts))


def _side(backbone: Backbone, tail: int, read: Callable[[int], States]) -> Side:
    tails = (backbone.image_tower.tail(tail).eval(), backbone.text_tower.tail(tail).eval())
    parameters = [parameter for one in tails for parameter in one.parameters()]
    return Side(read, tails, torch.optim.AdamW(parameters, lr=RATE), [], [])


def _report(options: argparse.Namespace, sides: Sequence[Side], filled_s: float, disk: int) -> None:
    without, with_cache = (median(side.seconds[1:]) for side in sides)
    apart = max(abs(a - b) / abs(a) for a, b in zip(sides[0].losses, sides[1].losses, strict=True))
    items = options.batch * options.steps
    result = {
        "backbone": options.backbone,
        "device": str(resolve_device(options.device)),
        "tail": options.tail,
        "batch": options.batch,
        "step_without_cache_s": round(without, 4),
        "step_with_cache_s": round(with_cache, 4),
        "ratio": round(median(a / b for a, b in zip(*(side.seconds[1:] for side in sides), strict=True)), 2),
        "largest_relative_loss_difference": apart,
        "losses_without": sides[0].losses,
        "losses_with": sides[1].losses,
        "fill_s_per_item": round(filled_s / items, 4),
        "disk_kb_per_item": round(disk / items / 1024, 1),
    }
    if options.json:
        print(json.dumps(result, indent=2, sort_keys=True))
        return
    print(f"{options.backbone}, last {options.tail} blocks of each tower, batch {options.batch}, {result['device']}:")
    print(f"a step without the cache {without:.3f} s, with it {with_cache:.3f} s (medians)")
    print(f"{result['ratio']} times as fast (median of {options.steps - 1} steps' ratios)")
    print(f"losses {sides[0].losses[0]:.4f} to {sides[0].losses[-1]:.4f}, at most {apart:.1e} apart (relative)")
    print(f"filling the cache: {result['fill_s_per_item']} s and {result['disk_kb_per_item']} KiB an item, once")


if __name__ == "__main__":
    main()

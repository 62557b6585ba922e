"""Trains the default backbone's alignment head: ``python -m model.training.alignment`` compares, ``--write`` replaces.

Pairs of ``openclipart``'s training split only, ``title`` captions, towers frozen, symmetric InfoNCE. All arithmetic is
float64, that of the towers too: processors round float32 each in its own way, and AdamW with its rectifiers magnifies
a difference in the last bits of features to some thousandths of the weights.
"""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import Progress
from safetensors.torch import load_file, save_file
from torch import Tensor

from encoders.alignment import AlignmentHead, asset, class_names
from encoders.bundled import JOINT_DIM, BundledBackbone, build_class_vectors
from encoders.effnet import WIDTH, EffNetLite0
from model.durable import replacing
from model.images import decode_image
from model.items import Item, ItemArchive, caption, find_archive
from model.losses import info_nce
from model.training.optimiser import learning_rate
from model.training.recipe import Optimiser

SEED = 0
TEMPERATURE = 0.07
INPUT_DROPOUT = 0.3  # of the pooled features
OPTIMISER = Optimiser(rate=1e-3, epochs=20, batch=256, warmup=0.05)
TOLERANCE = 1e-5
IMAGES = 4  # of one forward: float64 maps of more fall out of the processor's cache


def train_alignment(pooled: Tensor, conse: Tensor, texts: Tensor) -> dict[str, Tensor]:
    """Train a head on float64 (N, 1280), (N, 384) and (N, 384) features of matching rows -> its float32 state."""
    generator = torch.Generator().manual_seed(SEED)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        head = AlignmentHead(WIDTH, JOINT_DIM).double()
    optimiser = torch.optim.AdamW(head.parameters(), weight_decay=OPTIMISER.weight_decay)
    per_epoch = len(texts) // OPTIMISER.batch
    for step in range(per_epoch * OPTIMISER.epochs):
        if step % per_epoch == 0:
            order = torch.randperm(len(texts), generator=generator)
        rows = order[step % per_epoch * OPTIMISER.batch :][: OPTIMISER.batch]
        keep = torch.rand((len(rows), WIDTH), generator=generator) >= INPUT_DROPOUT
        images = head.align_images(pooled[rows] * keep / (1 - INPUT_DROPOUT), conse[rows])
        loss = info_nce(images, head.align_texts(texts[rows]), TEMPERATURE)
        optimiser.param_groups[0]["lr"] = learning_rate(OPTIMISER, step, per_epoch * OPTIMISER.epochs)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return {name: value.detach().float() for name, value in head.state_dict().items()}


@torch.inference_mode()
def tower_features(
    backbone: BundledBackbone, archive: ItemArchive, items: Sequence[Item], progress: Callable[[int], None]
) -> tuple[Tensor, Tensor, Tensor]:
    """float64 (N, 1280) pooled of norm 4, (N, 384) ConSE and (N, 384) texts' first chunks, each of its own length."""
    backbone.double()
    net = backbone.effnet
    net.net.to(memory_format=torch.contiguous_format)  # in float64 several times as fast as channels last
    images, texts = [], []
    for start in range(0, len(items), IMAGES):
        some = items[start : start + IMAGES]
        pixels = torch.stack([backbone.preprocess(decode_image(archive.read_image(item))) for item in some])
        images.append(backbone.image_tower.join(_pooled(net, pixels.double())))
        for item in some:
            chunk = backbone.tokenize(caption(item, "title")).chunks[0]
            texts.append(backbone.text_features(torch.tensor([list(chunk)])))
        progress(len(some))
    pooled, conse = torch.cat(images)[:, JOINT_DIM:].split([WIDTH, JOINT_DIM], dim=1)
    return pooled.clone(), conse.clone(), torch.cat(texts).clone()


def _pooled(net: EffNetLite0, pixels: Tensor) -> Tensor:
    maps = net.stem(pixels).contiguous()
    for stage in net.stages:
        maps = stage(maps)
    return net.pool(net.tokens(maps))


def largest_difference(found: dict[str, Tensor], path: Path) -> float:
    """Maximum absolute difference of any weight from a committed file."""
    expected = load_file(path)
    return max(float((found[name] - expected[name]).abs().max()) for name in expected)


def main() -> int:
    """Rebuild both assets; exit 1 when they are further from the committed ones than the tolerance."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="replace the committed files")
    arguments = parser.parse_args()
    backbone = BundledBackbone(aligned=False)
    classes = {"class_vectors": build_class_vectors(backbone.minilm, class_names())}
    archive = ItemArchive.open(find_archive("openclipart", Path("var/data")))
    items = archive.select(("train",))
    with Progress() as progress:
        task = progress.add_task("features of the training split", total=len(items))
        features = tower_features(backbone, archive, items, lambda done: progress.advance(task, done))
    built = {
        "imagenet_classes.safetensors": classes,
        "alignment.safetensors": train_alignment(*features),
    }
    worst = 0.0
    for name, tensors in built.items():
        if arguments.write:
            with replacing(asset(name)) as temporary:
                save_file(tensors, temporary)
        difference = largest_difference(tensors, asset(name))
        worst = max(worst, difference)
        Console(soft_wrap=True).print(
            f"{name}: largest difference from the committed file {difference:.2e} (at most {TOLERANCE:g})"
        )
    return int(worst > TOLERANCE)


if __name__ == "__main__":
    raise SystemExit(main())

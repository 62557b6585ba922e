"""Trains the default backbone's alignment head: ``python -m model.training.alignment`` compares, ``--write`` replaces.

Pairs of ``openclipart``'s training split only, ``title`` captions, towers frozen, symmetric InfoNCE. The arithmetic is
float64, and each text passes the tower alone and unpadded, whatever the encode path does: AdamW magnifies a
difference in the last bits of the towers' float32 features to some thousandths.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import Progress
from safetensors.torch import load_file, save_file
from torch import Tensor

from encoders.alignment import AlignmentHead, asset, class_names
from encoders.bundled import JOINT_DIM, BundledBackbone, build_class_vectors
from encoders.effnet import WIDTH
from encoders.encode import FeatureEncoder
from model.durable import replacing
from model.items import ItemArchive, caption, find_archive
from model.losses import info_nce
from model.training.features import read_features
from model.training.optimiser import learning_rate
from model.training.recipe import Optimiser

SEED = 0
TEMPERATURE = 0.07
INPUT_DROPOUT = 0.3  # of the pooled features
OPTIMISER = Optimiser(rate=1e-3, epochs=20, batch=256, warmup=0.05)
TOLERANCE = 1e-5


def train_alignment(pooled: Tensor, conse: Tensor, texts: Tensor) -> dict[str, Tensor]:
    """Train a head on (N, 1280), (N, 384) and (N, 384) features of matching rows -> its float32 state."""
    generator = torch.Generator().manual_seed(SEED)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        head = AlignmentHead(WIDTH, JOINT_DIM).double()
    pooled, conse, texts = pooled.double(), conse.double(), texts.double()
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


def text_features(backbone: BundledBackbone, texts: Sequence[str]) -> Tensor:
    """(N, 384) features of the texts' first chunks, each from a forward of its own length."""
    chunks = [backbone.tokenize(text).chunks[0] for text in texts]
    with torch.inference_mode():
        rows = torch.cat([backbone.text_features(torch.tensor([list(chunk)])) for chunk in chunks])
    return rows.clone()


def largest_difference(found: dict[str, Tensor], path: Path) -> float:
    """Maximum absolute difference of any weight from a committed file."""
    expected = load_file(path)
    return max(float((found[name] - expected[name]).abs().max()) for name in expected)


def main() -> int:
    """Rebuild both assets; exit 1 when they are further from the committed ones than the tolerance."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="replace the committed files")
    parser.add_argument("--cache", type=Path, default=None, help="folder that keeps the towers' features")
    arguments = parser.parse_args()
    backbone = BundledBackbone(aligned=False)
    classes = {"class_vectors": build_class_vectors(backbone.minilm, class_names())}
    archive = ItemArchive.open(find_archive("openclipart", Path("var/data")))
    items = archive.select(("train",))
    with Progress() as progress:
        task = progress.add_task("features of the training split", total=None)
        rows = read_features(
            archive,
            items,
            FeatureEncoder(backbone, arguments.cache),
            captions="title",
            progress=lambda done, total: progress.update(task, completed=done, total=total),
        ).features
    texts = text_features(backbone, [caption(item, "title") for item in items])
    pooled, conse = rows.images[:, JOINT_DIM:].split([WIDTH, JOINT_DIM], dim=1)
    built = {
        "imagenet_classes.safetensors": classes,
        "alignment.safetensors": train_alignment(pooled, conse, texts),
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

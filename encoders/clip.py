"""CLIP towers through open_clip: a pretrained tag, a local checkpoint, or random weights by explicit request.

The only file that imports ``open_clip``. Features are unit vectors in CLIP's joint space.
"""

import hashlib
import json
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import open_clip
import torch
from PIL.Image import Image
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.nn.functional import normalize, pad

from encoders.alignment import asset
from encoders.chunks import cut, split_name
from encoders.clip_towers import ClipImageTower, ClipTextTower
from encoders.errors import BackboneNotFound, NoTowerAccess, WeightsUnusable
from encoders.fingerprint import fingerprint
from encoders.hub import cache_folder, fetch
from encoders.names import PREFIX, RANDOM, ClipName
from encoders.preprocess import Preprocessing
from encoders.protocol import TokenChunks
from encoders.texts import check_text

FITS = {"shortest": "crop", "squash": "squash"}  # open_clip's word -> ours


class ClipBackbone(nn.Module):
    """Any open_clip architecture with an image and a text tower."""

    def __init__(self, name: str) -> None:
        """``name`` is as ``encoders/names.py`` says.

        Raises:
            BackboneNotFound: unknown architecture or tag, or the weights are not on this machine and not to be fetched.
            WeightsUnusable: the checkpoint does not fit.
        """
        super().__init__()
        self.name = name
        self._parts = ClipName.parse(name)
        pretrained = _known(self._parts)
        self.model: open_clip.CLIP = _load(self._parts, quick_gelu=bool(pretrained.get("quick_gelu")))
        self.tokenizer = open_clip.get_tokenizer(self._parts.arch)
        self.eval().requires_grad_(False)
        self._preprocessing = _preprocessing({**self.model.visual.preprocess_cfg, **pretrained})
        # the vocabulary of CLIP splits into chunks; others pad and mark in ways of their own, and read the head alone
        self._splits_texts = isinstance(self.tokenizer, open_clip.SimpleTokenizer)
        self._max_chunks = split_name(name)[1] if self._splits_texts else 1
        self.image_dim = self.text_dim = self.joint_dim = int(open_clip.get_model_config(self._parts.arch)["embed_dim"])
        self.fingerprint = fingerprint(self.config, self.model.state_dict())

    @property
    def licences(self) -> Mapping[str, str]:
        """By tag, where it is known."""
        return {
            f"{PREFIX}{self._parts.arch}:{self._parts.tag or Path(self._parts.file).name}": str(self._parts.licence)
        }

    @property
    def config(self) -> Mapping[str, Any]:
        """Architecture, preprocessing and tokenizer."""
        return {
            "backbone": f"{PREFIX}{self._parts.arch}",
            "architecture": open_clip.get_model_config(self._parts.arch),
            "activation": _activation(self.model),
            "image_size": self._preprocessing.image_size,
            "fit": self._preprocessing.fit,
            "resample": self._preprocessing.resample,
            "mean": self._preprocessing.mean,
            "std": self._preprocessing.std,
            "tokenizer": type(self.tokenizer).__name__,
            "vocabulary_sha256": _vocabulary_sha256(self.tokenizer),
            "text_context": self.model.context_length,
            "text_max_chunks": self._max_chunks,
        }

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        parameter: Tensor = next(self.model.parameters())
        return parameter.device

    @property
    def image_tower(self) -> ClipImageTower:
        """Transformer blocks; tokens are the class token and the patches."""
        visual = self.model.visual
        plain = isinstance(visual, open_clip.transformer.VisionTransformer) and visual.attn_pool is None
        if not plain or visual.pool_type != "tok" or visual.final_ln_after_pool or not visual.transformer.batch_first:
            raise NoTowerAccess(f"expected an image tower that pools by its class token, found {self._parts.arch}")
        return ClipImageTower(visual)

    @property
    def text_tower(self) -> ClipTextTower:
        """Causal transformer blocks; tokens are the states after the final norm."""
        if not self._is_causal or not self.model.transformer.batch_first:
            raise NoTowerAccess(f"expected a causal text tower pooled at the end of the text, found {self._parts.arch}")
        return ClipTextTower(self.model)

    def preprocess(self, image: Image) -> Tensor:
        """As the weights were trained: short side scaled and centre square, for most."""
        return self._preprocessing(image)

    def tokenize(self, text: str) -> TokenChunks:
        """Byte pairs in chunks of the context, the first alone if the name ends in ``@head``."""
        check_text(text)
        context = int(self.model.context_length)
        if self._splits_texts:
            first, last = self.tokenizer.sot_token_id, self.tokenizer.eot_token_id
            ids = self.tokenizer.encode(text)
            return cut(ids, first, last, context=context, max_chunks=self._max_chunks)
        head = tuple(self.tokenizer(text, context_length=context)[0].tolist())
        whole = len(self.tokenizer.tokenizer(self.tokenizer.clean_fn(text)).input_ids)
        return TokenChunks((head,), truncated=max(0, int(whole - context)))

    def image_features(self, pixels: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, D) unit vectors."""
        return normalize(self.model.encode_image(pixels), dim=1)

    def text_features(self, tokens: Tensor) -> Tensor:
        """(B, L) -> (B, D) unit vectors."""
        if self._is_causal:  # what comes after the end of a text changes nothing, so it is left out
            return self.text_tower.whole(tokens).features
        missing = self.model.context_length - tokens.shape[1]
        return normalize(self.model.encode_text(pad(tokens, (0, missing))), dim=1)

    @property
    def _is_causal(self) -> bool:
        is_plain = type(self.model) is open_clip.CLIP and self._splits_texts
        return is_plain and self.model.attn_mask is not None and self.model.text_pool_type in ("argmax", "eos")


def _known(name: ClipName) -> Mapping[str, Any]:
    """What open_clip knows of the tag: preprocessing, activation, location; nothing for weights of one's own."""
    open_clip.add_model_config(asset("crossbit-tiny.json"))
    if name.arch not in open_clip.list_models() or not (name.tag or name.file):
        raise BackboneNotFound(
            f"expected clip:ARCH:WEIGHTS with an architecture of open_clip, found {str(name)!r}; "
            "WEIGHTS is a pretrained tag, a .safetensors or .pt file, or 'random'"
        )
    pretrained: Mapping[str, Any] = open_clip.get_pretrained_cfg(name.arch, name.tag)
    if name.tag and name.tag != RANDOM and not pretrained:
        tags = ", ".join(open_clip.list_pretrained_tags_by_model(name.arch)) or "none"
        raise BackboneNotFound(f"expected a pretrained tag of {name.arch} ({tags}), found {name.tag!r}")
    return pretrained


def _load(name: ClipName, *, quick_gelu: bool) -> open_clip.CLIP:
    path = None if name.tag == RANDOM else str(_checkpoint(name))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        try:
            model: open_clip.CLIP = open_clip.create_model(
                name.arch, pretrained=path, pretrained_text=False, force_quick_gelu=quick_gelu, weights_only=True
            )
        except OSError as error:  # a text tower whose configuration is on the hub alone
            raise BackboneNotFound(f"the architecture {name.arch} cannot be built on this machine: {error}") from error
        except (RuntimeError, KeyError, ValueError, EOFError, pickle.UnpicklingError, SafetensorError) as error:
            raise WeightsUnusable(
                f"expected a state dict of {name.arch}, as .safetensors or as a .pt or .bin of tensors alone, found "
                f"{path}: {str(error).strip().partition(chr(10))[0]}; convert it to safetensors"
            ) from error
    return model


def _checkpoint(name: ClipName) -> Path:
    """The file of the weights: the one that is named, else the tag's in the cache or from the hub."""
    if Path(name.file).is_file():
        return Path(name.file)
    if not name.tag:
        raise BackboneNotFound(f"expected weights of {name.arch} in {name.file}, found no such file")
    location = open_clip.get_pretrained_cfg(name.arch, name.tag).get("hf_hub", "")
    try:
        if not location:
            raise BackboneNotFound("this tag is not on the hub")
        return fetch(location)
    except BackboneNotFound as error:
        looked = f"{name.file} and {cache_folder()}" if name.file else f"{cache_folder()}"
        raise BackboneNotFound(
            f"the weights {name.tag!r} of {name.arch} are not on this machine (looked in {looked}), and {error}; "
            "download the checkpoint elsewhere and train with --weights PATH, which names the backbone "
            f"clip:{name.arch}:{name.tag}=PATH"
        ) from error


def _preprocessing(settings: Mapping[str, Any]) -> Preprocessing:
    size, fit = settings["size"], settings["resize_mode"]
    if fit not in FITS or settings["interpolation"] not in ("bicubic", "bilinear"):
        raise BackboneNotFound(
            f"expected a preprocessing that resizes by {' or '.join(FITS)}, bicubic or bilinear, "
            f"found {fit} and {settings['interpolation']}; choose other weights"
        )
    return Preprocessing(
        image_size=size if isinstance(size, int) else size[0],
        fit=FITS[fit],
        mean=tuple(settings["mean"]),
        std=tuple(settings["std"]),
        resample=settings["interpolation"],
    )


def _activation(model: nn.Module) -> str:
    """``QuickGELU`` or ``GELU``: a tag decides it, and no tensor shows it."""
    quick = any(isinstance(module, open_clip.transformer.QuickGELU) for module in model.modules())
    return "QuickGELU" if quick else "GELU"


def _vocabulary_sha256(tokenizer: Any) -> str:  # noqa: ANN401  open_clip's tokenizers have no common type
    vocabulary = tokenizer.encoder if hasattr(tokenizer, "encoder") else tokenizer.tokenizer.get_vocab()
    return hashlib.sha256(json.dumps(vocabulary, sort_keys=True).encode()).hexdigest()

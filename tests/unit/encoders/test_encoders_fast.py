"""The fast path: close to the canonical one, and never taken for it."""

import numpy as np
import pytest
import torch
from PIL import Image

from encoders.encode import FeatureEncoder
from encoders.fast import FastForward, FastPath
from encoders.registry import load_backbone

TEXTS = ["red apple", "a dog on a leash", "Flag of Chad"]


@pytest.fixture(scope="module")
def canonical() -> FeatureEncoder:
    return FeatureEncoder(load_backbone(device="cpu"))


def test_fast_features_are_close_to_canonical_ones(canonical: FeatureEncoder) -> None:
    fast = FeatureEncoder(canonical.backbone, fast=FastPath("bfloat16", batch=2))
    images = [Image.new("RGB", (8, 8), colour) for colour in ("red", "green", "blue")]
    joint = canonical.backbone.joint_dim
    pairs = [
        (fast.encode_images(images), canonical.encode_images(images)),
        (fast.encode_texts(TEXTS).features, canonical.encode_texts(TEXTS).features),
    ]
    for found, expected in pairs:
        assert found.dtype == np.float32
        assert not np.array_equal(found, expected)
        assert (np.einsum("bd,bd->b", found[:, :joint], expected[:, :joint]) > 0.95).all()


def test_each_fast_path_has_a_fingerprint_of_its_own(canonical: FeatureEncoder) -> None:
    paths = [None, FastPath("bfloat16"), FastPath("float16"), FastPath("float16", compile=True)]
    assert len({FeatureEncoder(canonical.backbone, fast=path).fingerprint for path in paths}) == len(paths)


@pytest.mark.parametrize(("wrong", "message"), [({"dtype": "int8"}, "expected one of"), ({"batch": 0}, "at least 1")])
def test_a_path_that_there_is_not_is_refused(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FastPath(**wrong)  # type: ignore[arg-type]


def test_compilation_is_used_where_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[object] = []

    def remember(forward: object) -> object:
        compiled.append(forward)
        return forward

    monkeypatch.setattr(torch, "compile", remember)
    plain, wanted = torch.nn.Identity(), torch.nn.Identity()
    FastForward(plain, torch.device("cpu"), FastPath())
    FastForward(wanted, torch.device("cpu"), FastPath(compile=True))
    assert compiled == [wanted]


def test_pixels_are_channels_last() -> None:
    seen: list[bool] = []

    def forward(pixels: torch.Tensor) -> torch.Tensor:
        seen.append(pixels.is_contiguous(memory_format=torch.channels_last))
        return pixels.flatten(1)

    parts = list(FastForward(forward, torch.device("cpu"), FastPath(batch=2))(torch.ones(3, 2, 4, 4)))
    assert ([len(part) for part in parts], seen) == ([2, 1], [True, True])

"""The open_clip adapter on a tiny random architecture, and on a checkpoint of it."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from encoders.clip import ClipBackbone
from encoders.encode import FeatureEncoder
from encoders.errors import BackboneNotFound
from encoders.registry import load_backbone

TINY = "clip:crossbit-tiny:random"


@pytest.fixture(scope="module")
def tiny() -> ClipBackbone:
    return ClipBackbone(TINY)


def test_both_towers_share_a_space_of_unit_vectors(tiny: ClipBackbone) -> None:
    encoder = FeatureEncoder(tiny)
    image = encoder.encode_images([Image.new("RGB", (40, 90), "blue")])
    text = encoder.encode_texts(["a blue square"]).features
    assert image.shape == text.shape == (1, tiny.joint_dim)
    assert np.allclose(np.linalg.norm([image[0], text[0]], axis=1), 1, atol=1e-5)


def test_features_are_the_same_alone_and_in_a_batch(tiny: ClipBackbone) -> None:
    encoder = FeatureEncoder(tiny)
    texts = ["one", "two and a half", "three"]
    assert np.array_equal(
        encoder.encode_texts(texts).features, np.concatenate([encoder.encode_texts([text]).features for text in texts])
    )


def test_random_weights_are_the_same_each_time(tiny: ClipBackbone) -> None:
    assert ClipBackbone(TINY).fingerprint == tiny.fingerprint


def test_a_local_checkpoint_is_loaded(tiny: ClipBackbone, tmp_path: Path) -> None:
    path = tmp_path / "tiny.safetensors"
    save_file({name: value.contiguous() for name, value in tiny.model.state_dict().items()}, path)
    assert ClipBackbone(f"clip:crossbit-tiny:{path}").fingerprint == tiny.fingerprint


def test_a_long_text_is_read_in_chunks_of_the_context(tiny: ClipBackbone) -> None:
    tokens = tiny.tokenize("dog " * 20)
    assert [len(chunk) for chunk in tokens.chunks] == [16, 8]  # 20 tokens in 14 places between start and end
    assert tokens.truncated == 0
    assert tiny.tokenize("dog " * (8 * 14 + 3)).truncated == 3


def test_tokens_are_those_of_open_clip(tiny: ClipBackbone) -> None:
    text = "A dog &amp; its Ball"
    expected = tiny.tokenizer(text, context_length=16)[0]
    (chunk,) = tiny.tokenize(text).chunks
    assert torch.equal(torch.tensor([*chunk, *[0] * (16 - len(chunk))]), expected)


def test_padding_beyond_the_context_changes_nothing(tiny: ClipBackbone) -> None:
    tokens = torch.tensor(tiny.tokenize("a dog").chunks)
    assert torch.equal(tiny.text_features(tokens), tiny.text_features(torch.nn.functional.pad(tokens, (0, 30))))


@pytest.mark.parametrize("name", ["clip:no-such-arch:random", "clip:crossbit-tiny", "resnet"])
def test_an_unknown_backbone_is_refused_by_name(name: str) -> None:
    with pytest.raises(BackboneNotFound, match="clip:ARCH:WEIGHTS"):
        load_backbone(name)


def test_weights_that_are_not_here_name_the_way_out() -> None:
    with pytest.raises(BackboneNotFound, match=r"name the file: clip:ViT-B-32:/path/to"):
        load_backbone("clip:ViT-B-32:openai")
